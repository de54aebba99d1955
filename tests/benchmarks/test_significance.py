import math

import numpy as np
import pytest

from benchmarks.comparison import compare_blocks
from benchmarks.significance import (
    LEAST_BLOCKS,
    Blocks,
    Interval,
    Verdict,
    bootstrap_difference,
    bootstrap_ratio,
    expanded_tail,
    judge,
    mann_whitney,
    show_p,
    stretches,
)


def noisy_rounds(
    rng: np.random.Generator, slowdown: float = 1.0, rounds: int = LEAST_BLOCKS, own: float = 0.005
) -> tuple[list, list]:
    """A/B/B/A rounds of log-normal latencies; each round has noise that A and B share, and each process some of its `own`."""
    a, b = [], []
    for _ in range(rounds):
        shared = rng.lognormal(0, 0.05)
        for side, factor in ((a, 1.0), (b, slowdown)):
            parts = [rng.lognormal(0, 0.3, 400) * shared * factor * rng.lognormal(0, own) for _ in range(2)]
            side.append(np.concatenate(parts))
    return a, b


def verdicts(a: list, b: list) -> dict[float, Verdict]:
    """As the command comes to them, by the quantile that they are of."""
    found = compare_blocks("x", ("A", "B"), a, b, of=Blocks.ROUNDS, threshold=0.05)
    return {comparison.share: comparison.judgement.verdict for comparison in found}


def verdict(a: list, b: list) -> Verdict:
    """Of the median."""
    return verdicts(a, b)[0.5]


def slower_tail(parts: list, factor: float) -> list:
    """The same, but for the slowest two of a hundred."""
    return [np.where(part > np.quantile(part, 0.98), part * factor, part) for part in parts]


@pytest.mark.slow
def test_the_same_thing_twice_is_no_difference_19_times_in_20() -> None:
    found = [verdicts(*noisy_rounds(np.random.default_rng(seed))) for seed in range(20)]
    for share in (0.5, 0.99):
        assert sum(of[share] in (Verdict.EQUIVALENT, Verdict.INCONCLUSIVE) for of in found) >= 19, share


@pytest.mark.slow
def test_a_tail_that_doubled_is_slower_at_p99_and_nothing_at_p50() -> None:
    for seed in range(5):
        a, b = noisy_rounds(np.random.default_rng(seed))
        slow = slower_tail(b, 2.0)
        found = verdicts(a, slow)
        assert found[0.99] is Verdict.SLOWER
        assert verdicts(slow, a)[0.99] is Verdict.FASTER
        assert found[0.5] in (Verdict.EQUIVALENT, Verdict.INCONCLUSIVE)
        # What kept it inconclusive for ever: the test that suits the median sees nothing of a tail.
        assert mann_whitney(np.concatenate(a), np.concatenate(slow)) > 0.05


@pytest.mark.slow
def test_the_smallest_change_that_shows_is_beyond_the_interval_and_the_threshold() -> None:
    a, b = noisy_rounds(np.random.default_rng(1))
    for threshold in (0.05, 0.5):
        (p50, _) = compare_blocks("x", ("A", "B"), a, b, of=Blocks.ROUNDS, threshold=threshold)
        reach = max(p50.ratio.high - p50.ratio.value, p50.ratio.value - p50.ratio.low)
        assert 0 < reach < 0.5
        assert p50.smallest_visible == max(reach, threshold)
    tight = [np.full(400, 2.0)] * LEAST_BLOCKS
    (quiet, _) = compare_blocks("x", ("A", "B"), tight, tight, of=Blocks.ROUNDS, threshold=0.05)
    assert quiet.smallest_visible == 0.05, "the verdict asks for the threshold however quiet the machine is"
    (few, _) = compare_blocks("x", ("A", "B"), tight[1:], tight[1:], of=Blocks.ROUNDS, threshold=0.05)
    assert few.smallest_visible is None, "and calls nothing a change from too few rounds"


@pytest.mark.slow
def test_ten_percent_slower_is_slower_and_back_is_faster() -> None:
    for seed in range(5):
        a, b = noisy_rounds(np.random.default_rng(seed), slowdown=1.1)
        assert verdict(a, b) is Verdict.SLOWER
        assert verdict(b, a) is Verdict.FASTER


def test_ratio_and_difference_of_known_samples() -> None:
    a = [np.full(50, 2.0)] * 4
    b = [np.full(50, 3.0)] * 4
    assert bootstrap_ratio(a, b, 0.5, is_paired=True) == Interval(1.5, 1.5, 1.5)
    assert bootstrap_difference(a, b, 0.99, is_paired=False) == Interval(1.0, 1.0, 1.0)


def test_one_block_has_no_interval() -> None:
    ratio = bootstrap_ratio([np.ones(10)], [np.full(10, 9.0)], 0.5, is_paired=True)
    assert ratio == Interval(9.0, -math.inf, math.inf)
    assert judge(ratio, 0.0, blocks=1).verdict is Verdict.INCONCLUSIVE


def test_few_blocks_widen_the_interval_as_students_t_does() -> None:
    stats = pytest.importorskip("scipy.stats")
    for blocks in (2, 3, 5, 20, 31):
        freedom = blocks - 1
        expected = stats.norm.cdf(-math.sqrt(blocks / freedom) * stats.t.ppf(0.975, freedom))
        assert expanded_tail(blocks) == pytest.approx(expected, rel=1e-3)
    assert expanded_tail(1000) == pytest.approx(0.025, rel=0.01)


@pytest.mark.parametrize("decimals", [1, 8])
@pytest.mark.parametrize("shift", [0.0, 0.1, 1.0])
def test_mann_whitney_is_scipys_with_and_without_ties(decimals: int, shift: float) -> None:
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(5)
    a, b = rng.normal(0, 1, 80).round(decimals), rng.normal(shift, 1, 120).round(decimals)
    expected = stats.mannwhitneyu(a, b, method="asymptotic", use_continuity=True).pvalue
    assert mann_whitney(a, b) == pytest.approx(expected, rel=1e-6)
    assert mann_whitney(b, a) == pytest.approx(expected, rel=1e-6)


def test_mann_whitney_of_equal_constants_is_one() -> None:
    assert mann_whitney(np.ones(30), np.ones(30)) == 1.0


@pytest.mark.parametrize(
    ("ratio", "p", "expected"),
    [
        (Interval(1.01, 0.97, 1.04), 0.001, Verdict.EQUIVALENT),
        (Interval(1.10, 1.06, 1.14), 0.001, Verdict.SLOWER),
        (Interval(1.10, 1.06, 1.14), 0.3, Verdict.INCONCLUSIVE),
        (Interval(1.10, 0.98, 1.30), 0.001, Verdict.INCONCLUSIVE),
        (Interval(0.80, 0.75, 0.85), 0.001, Verdict.FASTER),
        (Interval(1.03, 1.01, 1.06), 0.001, Verdict.INCONCLUSIVE),
        (Interval(2.00, 1.60, 2.40), None, Verdict.SLOWER),
        (Interval(2.00, 0.90, 2.40), None, Verdict.INCONCLUSIVE),
        (Interval(0.50, 0.40, 0.60), None, Verdict.FASTER),
    ],
)
def test_a_verdict_needs_interval_and_threshold_and_for_a_median_the_test(
    ratio: Interval, p: float | None, expected: Verdict
) -> None:
    assert judge(ratio, p).verdict is expected


def test_stretches_keep_the_order_and_lose_nothing() -> None:
    parts = stretches(np.arange(10.0), 3)
    assert np.concatenate(parts).tolist() == list(range(10))
    assert len(stretches(np.arange(2.0), 20)) == 2


@pytest.mark.slow
def test_no_quantile_is_judged_from_few_rounds() -> None:
    a, b = noisy_rounds(np.random.default_rng(0), slowdown=3.0)
    assert verdicts(a, b) == {0.5: Verdict.SLOWER, 0.99: Verdict.SLOWER}
    found = compare_blocks("x", ("A", "B"), a[1:], b[1:], of=Blocks.ROUNDS, threshold=0.05)
    assert [comparison.share for comparison in found] == [0.5, 0.99]
    for comparison in found:
        assert comparison.judgement.verdict is Verdict.INCONCLUSIVE
        assert "95% takes at least 6 rounds, of these there are 5" in comparison.judgement.reason
        assert comparison.judgement.reason.endswith("; measure more rounds")
    assert "; compare two targets" in judge(Interval(3.0, 2.9, 3.1), None, blocks=1, of=Blocks.RUNS).reason


def test_as_many_blocks_are_asked_for_as_the_confidence_takes() -> None:
    """All blocks lie on one side of the truth that often, and no interval made of them covers it then."""
    assert 2.0 ** (1 - LEAST_BLOCKS) < 0.05 < 2.0 ** (2 - LEAST_BLOCKS)


@pytest.mark.slow
@pytest.mark.parametrize("rounds", [2, 3, LEAST_BLOCKS])
def test_processes_that_differ_by_themselves_are_seldom_a_difference(rounds: int) -> None:
    """Of 400 such with six rounds 17 were one, 4 %."""
    every = [noisy_rounds(np.random.default_rng(seed), rounds=rounds, own=0.1) for seed in range(30)]
    found = [verdict([part[::10] for part in a], [part[::10] for part in b]) for a, b in every]
    assert sum(v in (Verdict.FASTER, Verdict.SLOWER) for v in found) <= 3


@pytest.mark.parametrize(
    ("p_value", "said"), [(0.0, "< 0.0001"), (1e-300, "< 0.0001"), (0.031, "= 0.031"), (1.0, "= 1")]
)
def test_no_chance_is_said_to_be_none(p_value: float, said: str) -> None:
    assert show_p(p_value) == said
