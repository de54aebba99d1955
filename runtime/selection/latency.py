"""Many timed calls as a few numbers: median, p95, and how far the repeats lie apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

# IQR / 1.349 is the standard deviation, and 1.2533 · σ / √n the standard error of the median, of a normal distribution.
_SIGMAS_PER_IQR = 1.349
_MEDIAN_ERROR = 1.2533

MIN_TURNS: Final = 4
"""Below that nothing is said of how far they lie apart."""


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds of a call."""

    median_ms: float
    """Of candidates that took turns as told beside the fastest of them (`side_by_side.told_beside`), as is `p95_ms`."""
    p95_ms: float
    spread: float
    """Interquartile range of the medians of its own turns as a share of their median, moments of the machine and all; 0.0 with
    fewer than four turns."""
    turns: int
    calls: int

    @property
    def error(self) -> float:
        """The standard error of the median of its own turns as a share of it, from their spread."""
        return _MEDIAN_ERROR * self.spread / _SIGMAS_PER_IQR / math.sqrt(max(self.turns, 1))

    def __str__(self) -> str:
        return show_ms(self.median_ms)


def summarise(turns: Sequence[Sequence[float]]) -> Latency:
    """Turns of call times, in milliseconds, as one value. The median is of the turns' medians: no long turn outvotes."""
    filled = [turn for turn in turns if turn]
    calls = sorted(ms for turn in filled for ms in turn)
    medians = sorted(median(turn) for turn in filled)
    middle = median(medians)
    spread = (quantile(medians, 0.75) - quantile(medians, 0.25)) / middle if len(medians) >= MIN_TURNS else 0.0
    return Latency(middle, quantile(calls, 0.95), spread, len(medians), len(calls))


def quantile(ordered: Sequence[float], share: float) -> float:
    """The quantile of ascending values, linear between neighbours."""
    at = (len(ordered) - 1) * share
    low = math.floor(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (at - low)


def show_ms(ms: float) -> str:
    """`0.112 ms`, `31.4 ms`: three significant digits."""
    return f"{ms:.0f} ms" if ms >= 100 else f"{ms:#.3g} ms"
