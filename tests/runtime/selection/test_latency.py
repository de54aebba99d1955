"""Call times as a few numbers."""

import numpy as np
import pytest

from runtime.selection.latency import quantile, show_ms, summarise


def test_median_of_turns_p95_of_calls() -> None:
    latency = summarise([[1.0, 1.0, 9.0], [2.0], [3.0, 3.0, 3.0, 3.0, 3.0], []])
    assert (latency.median_ms, latency.turns, latency.calls) == (2.0, 3, 9)
    assert latency.spread == 0.0  # three turns tell nothing about spread
    calls = [1.0, 1.0, 9.0, 2.0, 3.0, 3.0, 3.0, 3.0, 3.0]
    assert latency.p95_ms == pytest.approx(np.quantile(calls, 0.95), rel=1e-12)


def test_spread_is_that_of_the_turns() -> None:
    latency = summarise([[m] for m in (1.0, 2.0, 3.0, 4.0, 5.0)])
    assert latency.spread == pytest.approx(2 / 3)
    assert latency.error == pytest.approx(1.2533 * (2 / 3) / 1.349 / 5**0.5)


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 0.95, 1.0])
def test_quantiles_are_numpys(share: float) -> None:
    values = sorted(np.random.default_rng(3).uniform(0, 1, 17).tolist())
    assert quantile(values, share) == pytest.approx(np.quantile(values, share), rel=1e-12)


@pytest.mark.parametrize(
    ("ms", "text"), [(0.0836, "0.0836 ms"), (0.1, "0.100 ms"), (31.44, "31.4 ms"), (1234.5, "1234 ms")]
)
def test_three_digits(ms: float, text: str) -> None:
    assert show_ms(ms) == text
