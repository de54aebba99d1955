"""Figures from samples: percentiles and the samples they need, rates, goodput, errors. Pure functions of values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[Any]

# What MLPerf's early stopping asks for: with 99 % confidence the true percentile is not above the bound.
CONFIDENCE = 0.99
# How many of the largest samples may be above the bound and still leave it standing: the bound is the second largest.
ALLOWED_ABOVE = 1
SHARES = (0.5, 0.9, 0.95, 0.99, 0.999)


@dataclass(frozen=True, slots=True)
class Percentile:
    """A percentile in milliseconds; `ms` is None, and `str()` says why, when there are fewer than `needed` samples."""

    share: float
    """0.99 for p99."""
    ms: float | None
    n: int
    needed: int

    @property
    def name(self) -> str:
        """p99, p99.9, ..."""
        return percentile_name(self.share)

    def __str__(self) -> str:
        return f"n too small for {self.name}, needs {self.needed}" if self.ms is None else f"{self.ms:.3f} ms"


def percentile_name(share: float) -> str:
    """`p99.9` for 0.999."""
    return f"p{round(share * 100, 6):g}"


@cache
def needed_samples(share: float, above: int = ALLOWED_ABOVE, confidence: float = CONFIDENCE) -> int:
    """The fewest samples with which the percentile `share` can be told: 64 for p90, 662 for p99, 6,636 for p99.9.

    The smallest n for which P(X <= above) <= 1 - confidence, X ~ Binomial(n, 1 - share): when no more than `above` of n samples
    exceed a bound, the true percentile is below it at that confidence. This is MLPerf's early stopping (MLCommons, "inference
    policies", appendix on early stopping; LoadGen, early_stopping.cc), whose minimum is where one sample may exceed the bound.
    """
    low, high = above, above + 1
    while _few_above(high, share, above) > 1 - confidence:
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _few_above(middle, share, above) > 1 - confidence else (low, middle)
    return high


def most_above(n: int, share: float, confidence: float = CONFIDENCE) -> int:
    """How many of `n` samples may be above a bound that the percentile `share` is below at this confidence; -1: n is too small.

    The inverse of `needed_samples`: one more, and so many samples are not enough.
    """
    low, high = -1, math.floor(n * (1 - share)) + 1  # about half of all draws have more than the mean
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _few_above(n, share, middle) <= 1 - confidence else (low, middle)
    return low


def _few_above(n: int, share: float, above: int) -> float:
    """P(X <= above) of X ~ Binomial(n, 1 - share): so few of n samples exceed the percentile. Logarithms: terms underflow."""
    k = np.arange(1, above + 1)
    logs = n * math.log(share) + np.concatenate([[0.0], np.cumsum(np.log((n - k + 1) / k * (1 - share) / share))])
    largest = float(logs.max())
    return float(np.exp(logs - largest).sum()) * math.exp(largest)


def order_index(n: int, share: float) -> int:
    """Where in n ascending samples the percentile stands: the smallest sample with at least `share` of them at or below it."""
    # Rounded first: 0.9 * 10 is 9.000000000000002 for some shares, which would be one place too far.
    return min(max(math.ceil(round(share * n, 9)) - 1, 0), n - 1)


def percentile(ascending_ms: Values, share: float) -> Percentile:
    """One percentile of samples in ascending order: a sample that was seen, never a value in between."""
    n, needed = len(ascending_ms), needed_samples(share)
    value = float(ascending_ms[order_index(n, share)]) if n >= needed else None
    return Percentile(share, value, n, needed)


@dataclass(frozen=True, slots=True)
class Summary:
    """The figures of one measurement; latencies are of the requests that were answered."""

    n: int
    """Requests sent, answered or not."""
    percentiles: tuple[Percentile, ...]
    mean_ms: float | None
    duration_s: float
    """From the first planned send to the last answer."""
    offered_qps: float | None
    """Requests a second that the plan asked for; None in a closed loop, which offers what it gets answered."""
    achieved_qps: float
    """Requests answered, by second."""
    rows_per_s: float
    errors: tuple[tuple[str, int], ...]
    """How many of each error code, most first."""
    goodput_qps: float | None = None
    """Requests answered within the SLO, by second; None without an SLO."""

    @property
    def failed(self) -> int:
        """Requests that were not answered."""
        return sum(count for _, count in self.errors)

    def of(self, share: float) -> Percentile:
        """One of `percentiles`."""
        return next(p for p in self.percentiles if p.share == share)

    def to_dict(self) -> dict[str, Any]:
        """The figures in types that `json` writes; a percentile that is not known is null."""
        return {
            "n": self.n,
            "failed": self.failed,
            "errors": dict(self.errors),
            "mean_ms": self.mean_ms,
            **{f"{p.name}_ms": p.ms for p in self.percentiles},
            "duration_s": self.duration_s,
            "offered_qps": self.offered_qps,
            "achieved_qps": self.achieved_qps,
            "rows_per_s": self.rows_per_s,
            "goodput_qps": self.goodput_qps,
        }


@dataclass(frozen=True, slots=True)
class Observed:
    """What the figures are computed from; arrays of one length, one entry a request."""

    latency_ms: Values
    """From the planned send time."""
    is_ok: npt.NDArray[np.bool_]
    rows: Values
    duration_s: float
    offered_qps: float | None
    errors: Sequence[tuple[str, int]]


def summarise(observed: Observed, slo_ms: float | None = None) -> Summary:
    """The figures; with `slo_ms` also the goodput, in which a failed request never counts."""
    answered = np.sort(observed.latency_ms[observed.is_ok])
    seconds = max(observed.duration_s, 1e-9)
    within = None if slo_ms is None else int(np.searchsorted(answered, slo_ms, side="right"))
    return Summary(
        n=len(observed.latency_ms),
        percentiles=tuple(percentile(answered, share) for share in SHARES),
        mean_ms=float(answered.mean()) if len(answered) else None,
        duration_s=observed.duration_s,
        offered_qps=observed.offered_qps,
        achieved_qps=len(answered) / seconds,
        rows_per_s=float(observed.rows[observed.is_ok].sum()) / seconds,
        errors=tuple(sorted(observed.errors, key=lambda error: (-error[1], error[0]))),
        goodput_qps=None if within is None else within / seconds,
    )
