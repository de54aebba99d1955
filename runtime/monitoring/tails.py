"""How improbable a difference of counts is when nothing changed: natural logarithms of p-values, for many features at once.

Closed forms or upper bounds, so that they hold far out where thresholds lie once thousands of looks and features share one
false-alarm budget, and where simulation does not reach. numpy alone; scipy is the oracle in the tests.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.float64]


def log_chi2_tail(statistic: Numbers, degrees: npt.NDArray[np.int64]) -> Numbers:
    """Log P(χ² ≥ statistic), by the finite sums for whole degrees of freedom; 0 where there are none."""
    result: Numbers = np.zeros(np.shape(statistic), np.float64)
    for k in np.unique(degrees):
        if k < 1:
            continue
        chosen = degrees == k
        result[chosen] = _log_chi2_tail(statistic[chosen], int(k))
    return result


def _log_chi2_tail(statistic: Numbers, k: int) -> Numbers:
    half: Numbers = np.maximum(statistic, 1e-300) / 2
    powers = [at + (0.5 if k % 2 else 0.0) for at in range((k - 1) // 2 if k % 2 else k // 2)]
    terms = [power * np.log(half) - math.lgamma(power + 1) - half for power in powers]
    if k % 2:
        terms.append(_log_erfc(np.sqrt(half)))
    stacked = np.stack(terms)
    top = stacked.max(axis=0)
    tail: Numbers = np.minimum(top + np.log(np.exp(stacked - top).sum(axis=0)), 0.0)
    return tail


def _log_erfc(x: Numbers) -> Numbers:
    flat = [math.erfc(value) if value < 25 else 1.0 for value in x.reshape(-1).tolist()]
    small: Numbers = np.array(flat, np.float64).reshape(x.shape)
    far = -x * x - np.log(np.maximum(x, 1.0) * math.sqrt(math.pi))
    return np.where(x < 25, np.log(np.maximum(small, 1e-300)), far)


def log_ks_tail(distance: Numbers, live: Numbers, reference: Numbers) -> Numbers:
    """Log of a bound of P(D ≥ distance) for two samples: e · exp(-2 n m / (n + m) · D²) (Wei and Dudley 2012)."""
    effective = live * reference / np.maximum(live + reference, 1.0)
    return np.minimum(1.0 - 2.0 * effective * distance**2, 0.0)


def log_share_tail(live_hits: Numbers, live: Numbers, reference_hits: Numbers, reference: Numbers) -> Numbers:
    """Log of an upper bound of Fisher's exact two-sided p for two shares; right for any size, also for no hits at all."""
    arrays = np.broadcast_arrays(live_hits, live, reference_hits, reference)
    hits = arrays[0] + arrays[2]
    # Nobody hit, or everybody: nothing can differ. Most shares are of that kind.
    open_ = (hits > 0) & (hits < arrays[1] + arrays[3])
    result: Numbers = np.zeros(hits.shape)
    if open_.any():
        a, n, b, m = (array[open_] for array in arrays)
        more = _log_hypergeometric(a, n, b, m)
        fewer = _log_hypergeometric(n - a, n, m - b, m)
        result[open_] = np.minimum(np.minimum(more, fewer) + math.log(2), 0.0)
    return result


def _log_hypergeometric(hits: Numbers, live: Numbers, reference_hits: Numbers, reference: Numbers) -> Numbers:
    """Log of a bound of P(X ≥ hits): the probability of `hits` times a geometric series in the ratio of its successor."""
    total_hits, total = hits + reference_hits, live + reference
    density = _log_choose(live, hits) + _log_choose(reference, reference_hits) - _log_choose(total, total_hits)
    ratio = (total_hits - hits) * (live - hits) / ((hits + 1) * (reference - total_hits + hits + 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        bounded = density - np.log1p(-np.minimum(ratio, 1 - 1e-12))
    return np.where(ratio >= 1, 0.0, np.minimum(bounded, 0.0))


def _log_choose(n: Numbers, k: Numbers) -> Numbers:
    return _log_factorial(n) - _log_factorial(k) - _log_factorial(n - k)


def _log_factorial(n: Numbers) -> Numbers:
    """Stirling's series at n + 9, walked back: 12 digits from 0 up."""
    x = np.asarray(n, np.float64) + 9.0
    series = (
        (x - 0.5) * np.log(x) - x + 0.5 * math.log(2 * math.pi) + 1 / (12 * x) - 1 / (360 * x**3) + 1 / (1260 * x**5)
    )
    walked = np.ones_like(x)
    for step in range(1, 9):
        walked = walked * (x - step)
    return series - np.log(walked)


def log_rank_tail(live: Numbers, reference: Numbers) -> Numbers:
    """Log p of location and spread together, from counts [..., bin] in order of size.

    The first two components of Neyman's smooth test on mid-ranks of both samples together: Wilcoxon's test, and one of the
    squared ranks. Free of any distribution, ties and bins included; the sum of squares is χ² of two degrees.
    """
    both = live + reference
    total = both.sum(axis=-1, keepdims=True)
    n = live.sum(axis=-1)
    m = reference.sum(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        rank = (np.cumsum(both, axis=-1) - both / 2) / total
        weight = both / total
        first = _centred(2 * rank - 1, weight)
        second = _centred(6 * rank * rank - 6 * rank + 1, weight)
        spread = (first * first * weight).sum(axis=-1, keepdims=True)
        second = second - first * (second * first * weight).sum(axis=-1, keepdims=True) / spread
        statistic = np.zeros(np.shape(n))
        for score in (first, second):
            variance = (score * score * weight).sum(axis=-1) * n * m / np.maximum(n + m - 1, 1)
            sum_ = (score * live).sum(axis=-1)
            statistic = statistic + np.where(variance > 1e-9, sum_ * sum_ / np.maximum(variance, 1e-12), 0.0)
    return -np.nan_to_num(statistic) / 2


def _centred(score: Numbers, weight: Numbers) -> Numbers:
    centred: Numbers = score - (score * weight).sum(axis=-1, keepdims=True)
    return centred


def log_bins_tail(live: Numbers, reference: Numbers, least_expected: float) -> Numbers:
    """Log p of χ² over counts [..., bin]; bins that expect fewer live rows than `least_expected` are joined to one."""
    n = live.sum(axis=-1, keepdims=True)
    m = reference.sum(axis=-1, keepdims=True)
    both = live + reference
    expected = both * n / np.maximum(n + m, 1)
    is_rare = expected < least_expected
    joined_live = np.where(is_rare, 0, live)
    joined_both = np.where(is_rare, 0, both)
    rest_live = np.where(is_rare, live, 0).sum(axis=-1, keepdims=True)
    rest_both = np.where(is_rare, both, 0).sum(axis=-1, keepdims=True)
    live, both = np.concatenate([joined_live, rest_live], -1), np.concatenate([joined_both, rest_both], -1)
    expected = both * n / np.maximum(n + m, 1)
    used = expected >= least_expected
    with np.errstate(divide="ignore", invalid="ignore"):
        # Of both samples together: (live - expected)² (1 / expected_live + 1 / expected_reference).
        parts = np.where(used, (live - expected) ** 2 * (1 / expected + 1 / np.maximum(both - expected, 1e-9)), 0.0)
    degrees = used.sum(axis=-1) - 1
    return log_chi2_tail(parts.sum(axis=-1), np.asarray(degrees, np.int64))
