"""Whether two sets of samples differ: ratio of quantiles with its interval, Mann-Whitney, and a verdict. Pure functions.

Samples that follow each other on one machine are not independent: a noisy neighbour slows a second of them together. So
they are resampled in blocks (rounds of an interleaved comparison, or stretches of one run), never one by one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import NormalDist

import numpy as np

from benchmarks.statistics import Values, order_index

DEFAULT_THRESHOLD = 0.05
"""A change by less is of no practical interest, and few machines can show it."""
RESAMPLES = 2000
CONFIDENCE = 0.95

LEAST_BLOCKS = 6
"""All of n blocks lie on one side of the truth 2^(1-n) of the time, and then so does every interval made of them: with five it
covers 94 % at most, with six 97 %."""
SIGNIFICANT = 0.05

# Two-sided 95 % points of Student's t for 1 to 30 degrees of freedom; the normal distribution beyond.
_T_95 = (
    12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281,
    2.2010, 2.1788, 2.1604, 2.1448, 2.1314, 2.1199, 2.1098, 2.1009, 2.0930, 2.0860,
    2.0796, 2.0739, 2.0687, 2.0639, 2.0595, 2.0555, 2.0518, 2.0484, 2.0452, 2.0423,
)  # fmt: skip


class Verdict(StrEnum):
    """What a comparison says of B against A."""

    FASTER = "faster"
    SLOWER = "slower"
    EQUIVALENT = "equivalent"
    INCONCLUSIVE = "inconclusive"


class Blocks(StrEnum):
    """What samples were taken in that share no noise with each other."""

    ROUNDS = "rounds"
    """Of A/B/B/A: block i of both is one round."""
    RUNS = "runs"


_MORE = {
    Blocks.ROUNDS: "measure more rounds",
    Blocks.RUNS: f"compare two targets, which are measured in turn, or give {LEAST_BLOCKS} runs a side",
}


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate and its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def has_ends(self) -> bool:
        """Whether there were blocks enough to say how sure the estimate is."""
        return math.isfinite(self.low) and math.isfinite(self.high)

    def __str__(self) -> str:
        ends = f"[{self.low:.3f}, {self.high:.3f}]" if self.has_ends else "[no interval]"
        return f"{self.value:.3f} {ends}"

    @property
    def reach(self) -> float:
        """How far its ends are from the estimate, at most: a true value further away shows."""
        return max(self.high - self.value, self.value - self.low)


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict and the sentence that gives its reason."""

    verdict: Verdict
    reason: str


def bootstrap_ratio(
    a: Sequence[Values], b: Sequence[Values], share: float, *, is_paired: bool, seed: int = 1
) -> Interval:
    """Quantile `share` of B over that of A; see `bootstrap`."""
    return bootstrap(a, b, share, lambda of_a, of_b: of_b / of_a, is_paired=is_paired, seed=seed)


def bootstrap_difference(
    a: Sequence[Values], b: Sequence[Values], share: float, *, is_paired: bool, seed: int = 1
) -> Interval:
    """Quantile `share` of B less that of A; see `bootstrap`."""
    return bootstrap(a, b, share, lambda of_a, of_b: of_b - of_a, is_paired=is_paired, seed=seed)


def bootstrap(
    a: Sequence[Values],
    b: Sequence[Values],
    share: float,
    combine: Callable[[float, float], float],
    *,
    is_paired: bool,
    seed: int,
) -> Interval:
    """`combine` of quantile `share` of A and of B, each given as blocks; with `is_paired` block i of both is one round.

    Blocks are drawn with replacement (a block bootstrap). With few blocks a plain percentile interval is too narrow, so
    its ends move out as far as Student's t would (the "expanded percentile" interval of Hesterberg, The American
    Statistician 69:4, 2015). Below two blocks a side there is no interval: it is everything.
    """
    quantile_a, quantile_b = _Quantile(a, share), _Quantile(b, share)
    value = combine(quantile_a.of(np.ones(len(a))), quantile_b.of(np.ones(len(b))))
    blocks = min(len(a), len(b))
    if blocks < 2:
        return Interval(value, -math.inf, math.inf)
    rng = np.random.default_rng(seed)
    seen = np.empty(RESAMPLES)
    for i in range(RESAMPLES):
        of_a = np.bincount(rng.integers(0, len(a), len(a)), minlength=len(a))
        of_b = of_a if is_paired else np.bincount(rng.integers(0, len(b), len(b)), minlength=len(b))
        seen[i] = combine(quantile_a.of(of_a), quantile_b.of(of_b))
    tail = expanded_tail(blocks)
    seen.sort()
    low, high = (float(seen[order_index(RESAMPLES, end)]) for end in (tail, 1 - tail))
    return Interval(value, low, high)


def expanded_tail(blocks: int) -> float:
    """How much of the resampled values to leave out at each end, for a 95 % interval from so many blocks."""
    freedom = blocks - 1
    t = _T_95[freedom - 1] if freedom <= len(_T_95) else NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    return NormalDist().cdf(-math.sqrt(blocks / freedom) * t)


class _Quantile:
    """A quantile of blocks taken any number of times each: sorted once, then one pass a resample."""

    def __init__(self, blocks: Sequence[Values], share: float) -> None:
        values = np.concatenate(blocks)
        order = np.argsort(values, kind="stable")
        self._values = values[order]
        self._block = np.repeat(np.arange(len(blocks)), [len(block) for block in blocks])[order]
        self._share = share

    def of(self, times: Values) -> float:
        """The quantile with block i taken `times[i]` times."""
        reached = np.cumsum(times[self._block])
        place = order_index(int(reached[-1]), self._share) + 1
        return float(self._values[np.searchsorted(reached, place)])


def mann_whitney(a: Values, b: Values) -> float:
    """The two-sided p-value that A and B come from one distribution (Mann-Whitney U).

    Normal approximation with the correction for ties and for continuity, good from about twenty samples a side.
    """
    n_a, n_b = len(a), len(b)
    _, place, counts = np.unique(np.concatenate([a, b]), return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]
    u = float(ranks[:n_a].sum()) - n_a * (n_a + 1) / 2
    n = n_a + n_b
    ties = float((counts.astype(np.float64) ** 3 - counts).sum()) / (n * (n - 1))
    variance = n_a * n_b / 12 * (n + 1 - ties)
    if variance <= 0:
        return 1.0
    z = max(abs(u - n_a * n_b / 2) - 0.5, 0.0) / math.sqrt(variance)
    return min(2 * NormalDist().cdf(-z), 1.0)


def judge(
    ratio: Interval,
    p_value: float | None,
    threshold: float = DEFAULT_THRESHOLD,
    blocks: int = LEAST_BLOCKS,
    of: Blocks = Blocks.ROUNDS,
) -> Judgement:
    """The verdict on a ratio of B to A: different only when the interval, the test and the threshold all say so.

    Nothing is told from fewer than `LEAST_BLOCKS` of `blocks` a side. `p_value` is Mann-Whitney's, which asks whether most of B is
    above most of A. That is no question of a tail: a p99 that doubled leaves it where it was. So it is None for quantiles above the
    median, which their interval decides. (Nor does it know of blocks: it alone would find differences between equal servers.)
    """
    widest = 1 + threshold
    test = "" if p_value is None else f"p {show_p(p_value)}, "
    figures = f"ratio {ratio}, {test}threshold {threshold:.0%}"
    is_significant = p_value is None or p_value < SIGNIFICANT
    if blocks < LEAST_BLOCKS:
        return Judgement(
            Verdict.INCONCLUSIVE,
            f"{CONFIDENCE:.0%} takes at least {LEAST_BLOCKS} {of}, of these there are {blocks}: {figures}; {_MORE[of]}",
        )
    if ratio.low >= 1 / widest and ratio.high <= widest:
        return Judgement(Verdict.EQUIVALENT, f"the whole interval lies within the threshold: {figures}")
    if is_significant and ratio.low > 1 and ratio.value >= widest:
        return Judgement(Verdict.SLOWER, f"{ratio.value - 1:.1%} more: {figures}")
    if is_significant and ratio.high < 1 and ratio.value <= 1 / widest:
        return Judgement(Verdict.FASTER, f"{1 - ratio.value:.1%} less: {figures}")
    return Judgement(
        Verdict.INCONCLUSIVE,
        f"the interval reaches past the threshold and over 1: {figures}; measure longer or more rounds",
    )


def stretches(values: Values, count: int) -> list[Values]:
    """Samples in the order of time, cut into `count` stretches of about one length (fewer when there are fewer samples)."""
    return [part for part in np.array_split(values, min(count, len(values))) if len(part)]


def show_p(p_value: float) -> str:
    """As in "= 0.031"; what is smaller than any sample here could tell is "< 0.0001", never 0."""
    return "< 0.0001" if p_value < 0.0001 else f"= {p_value:.2g}"
