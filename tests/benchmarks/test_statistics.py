import numpy as np
import pytest

from benchmarks.statistics import Observed, most_above, needed_samples, order_index, percentile, summarise


@pytest.mark.parametrize(("share", "needed"), [(0.9, 64), (0.99, 662), (0.95, 130), (0.999, 6636)])
def test_needed_samples_are_those_of_early_stopping(share: float, needed: int) -> None:
    # 64 and 662 are the minimums that MLPerf's early stopping gives for p90 and p99.
    assert needed_samples(share) == needed


def test_needed_samples_against_scipys_binomial() -> None:
    binom = pytest.importorskip("scipy.stats").binom
    for share in (0.5, 0.75, 0.9, 0.97, 0.99):
        n = needed_samples(share)
        assert binom.cdf(1, n, 1 - share) <= 0.01 < binom.cdf(1, n - 1, 1 - share)


@pytest.mark.parametrize("share", [0.5, 0.9, 0.99])
def test_most_above_is_the_inverse_of_needed_samples(share: float) -> None:
    assert most_above(needed_samples(share, 0) - 1, share) == -1, "so few tell nothing"
    for above in (0, 1, 5, 40):
        n = needed_samples(share, above)
        assert most_above(n, share) == above
        assert most_above(n - 1, share) == above - 1


@pytest.mark.parametrize("n", [662, 1000, 1001, 7919])
@pytest.mark.parametrize("share", [0.5, 0.9, 0.95, 0.99])
def test_percentiles_are_numpys_inverted_cdf(n: int, share: float) -> None:
    values = np.sort(np.random.default_rng(n).exponential(1.0, n))
    assert percentile(values, share).ms == np.quantile(values, share, method="inverted_cdf")


def test_order_index_survives_rounding() -> None:
    assert [order_index(10, share) for share in (0.1, 0.3, 0.7, 0.9, 1.0)] == [0, 2, 6, 8, 9]
    assert order_index(1, 0.5) == 0


def test_too_few_samples_say_how_many_are_needed() -> None:
    p99 = percentile(np.arange(661.0), 0.99)
    assert p99.ms is None
    assert str(p99) == "n too small for p99, needs 662"
    assert percentile(np.arange(662.0), 0.99).ms == 655.0


def observed(latency: np.ndarray, ok: np.ndarray, errors: list[tuple[str, int]] | None = None) -> Observed:
    return Observed(latency, ok, np.full(len(latency), 4), 2.0, 500.0, errors or [])


def test_summary_counts_answers_rows_and_errors() -> None:
    latency = np.concatenate([np.full(900, 5.0), np.full(100, 50.0)])
    ok = np.arange(1000) % 10 != 0
    summary = summarise(observed(latency, ok, [("A", 40), ("B", 60)]), slo_ms=10.0)
    assert summary.n == 1000
    assert summary.failed == 100
    assert summary.errors == (("B", 60), ("A", 40))
    assert summary.achieved_qps == 450.0
    assert summary.rows_per_s == 1800.0
    assert summary.goodput_qps == 405.0
    assert summary.of(0.5).ms == 5.0
    assert summary.of(0.99).ms == 50.0
    assert summary.to_dict()["p99.9_ms"] is None


def test_summary_of_failures_only_has_no_latency() -> None:
    summary = summarise(observed(np.ones(10), np.zeros(10, dtype=bool), [("E", 10)]))
    assert summary.mean_ms is None
    assert summary.achieved_qps == 0.0
    assert summary.of(0.5).ms is None
    assert summary.goodput_qps is None
