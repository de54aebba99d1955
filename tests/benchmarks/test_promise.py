"""Promises as people write them, and when they are kept."""

import numpy as np
import pytest

from benchmarks.promise import Slo
from benchmarks.statistics import needed_samples
from runtime.errors import WrongUseError

P99 = Slo(0.99, 50.0)


def test_kept_means_kept_with_confidence() -> None:
    fast, slow = np.full(10_000, 1.0), np.full(10_000, 99.0)
    assert P99.judge(fast[:661], 662).is_held  # one failed
    assert "too near the limit" in P99.judge(fast[:661], 661 + 2).reason
    assert not P99.judge(np.concatenate([fast[:900], slow[:100]]), 1000).is_held
    assert not P99.judge(fast[:0], 0).is_held
    n = needed_samples(0.99, 20)
    assert P99.judge(np.concatenate([fast[: n - 20], slow[:20]]), n).is_held
    assert not P99.judge(np.concatenate([fast[: n - 21], slow[:20]]), n - 1).is_held


@pytest.mark.parametrize(
    ("text", "slo"),
    [("p99<=50ms", P99), ("50ms", P99), (" P99.9 <= 0.2 s", Slo(0.999, 200.0)), ("p50<1.5ms", Slo(0.5, 1.5))],
)
def test_promises_as_written(text: str, slo: Slo) -> None:
    assert Slo.parse(text) == slo
    assert Slo.parse(str(slo)) == slo


@pytest.mark.parametrize("text", ["", "p99", "50", "p100<=5ms", "p0<=5ms", "p99<=0ms", "p99>=5ms", "fast"])
def test_other_promises_are_refused(text: str) -> None:
    with pytest.raises(WrongUseError, match="p99<=50ms"):
        Slo.parse(text)
