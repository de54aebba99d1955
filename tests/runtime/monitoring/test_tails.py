"""Improbabilities against scipy: exact where they claim to be, never too small where they are bounds."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from runtime.monitoring.tails import log_bins_tail, log_chi2_tail, log_ks_tail, log_rank_tail, log_share_tail


@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 7, 15, 16, 31])
def test_chi2_is_exact_far_out(degrees: int) -> None:
    x = np.array([0.1, 1.0, 5.0, 20.0, 80.0, 300.0])
    seen = log_chi2_tail(x, np.full(len(x), degrees))
    np.testing.assert_allclose(seen, stats.chi2.logsf(x, degrees), rtol=1e-8, atol=1e-12)


def test_no_degrees_of_freedom_say_nothing() -> None:
    assert log_chi2_tail(np.array([50.0]), np.array([0])).tolist() == [0.0]


@pytest.mark.parametrize(
    ("hits", "live", "reference_hits", "reference"),
    [(5, 100, 0, 10_000), (0, 100, 0, 450), (60, 100, 5_000, 10_000), (0, 200, 1_000, 10_000), (7, 300, 90, 4_000)],
)
def test_shares_are_bounded_by_fisher(hits: int, live: int, reference_hits: int, reference: int) -> None:
    arguments = [np.array(float(v)) for v in (hits, live, reference_hits, reference)]
    seen = float(log_share_tail(*arguments))
    table = [[hits, live - hits], [reference_hits, reference - reference_hits]]
    exact = min(stats.fisher_exact(table, side).pvalue for side in ("greater", "less")) * 2
    assert seen >= min(np.log(exact), 0) - 1e-9
    assert seen <= min(np.log(exact), 0) + 0.7, "a bound, but a close one"


def test_the_first_rank_component_is_wilcoxons_test() -> None:
    rng = np.random.default_rng(1)
    live, reference = rng.integers(0, 12, 400) + (rng.random(400) < 0.2), rng.integers(0, 12, 900)
    counts = [np.bincount(side, minlength=13).astype(float) for side in (live, reference)]
    p = stats.mannwhitneyu(live, reference, use_continuity=False, method="asymptotic").pvalue
    z = stats.norm.isf(p / 2)
    # Two components: never less than the first alone.
    assert float(log_rank_tail(*counts)) <= -z * z / 2 + 0.01


def test_ranks_bins_and_ks_hold_their_level_when_nothing_changed() -> None:
    """4,000 comparisons: at p = 1 % at most 1 % and what chance adds may fall below, one by one."""
    rng = np.random.default_rng(2)
    shares = np.full(16, 1 / 16)
    live = rng.multinomial(960, shares, 4_000).astype(float)
    reference = rng.multinomial(450, shares, 4_000).astype(float)
    apart = np.abs(np.cumsum(live / 960 - reference / 450, axis=-1)).max(axis=-1)
    n, m = np.full(4_000, 960.0), np.full(4_000, 450.0)
    for tail in (log_rank_tail(live, reference), log_bins_tail(live, reference, 30.0), log_ks_tail(apart, n, m)):
        for p, most in ((0.01, 0.0155), (0.001, 0.0031)):
            assert np.mean(tail <= np.log(p)) <= most


def test_rare_bins_are_joined() -> None:
    live, reference = np.array([100.0, 1, 0, 0]), np.array([1000.0, 2, 3, 4])
    assert float(log_bins_tail(live, reference, 30.0)) == 0.0, "one bin is left: nothing to compare"
