"""A histogram with fixed buckets, which takes values one by one or many at once."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

# Four buckets a decade (1, 2, 3, 5) from 50 µs, below which no request over a socket ends, to 10 s, the default deadline. A
# quantile read from them is off by less than the ratio of two neighbours.
LATENCY_BOUNDS_NS: Final = (
    50_000,
    *(step * 10**power for power in range(5, 10) for step in (1, 2, 3, 5)),
    10**10,
)
# Rows that ran together: powers of two, as batches are cut.
ROWS_BOUNDS: Final = tuple(2**power for power in range(11))


class Histogram:
    """Counts of values at or below each of `bounds`; whole numbers, such as nanoseconds. Used from one thread."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: tuple[int, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0

    def add(self, value: int, times: int = 1) -> None:
        """Counts `value`, seen `times` times."""
        self._counts[bisect_left(self._bounds, value)] += times
        self._sum += value * times

    def add_all(self, values: Sequence[int]) -> None:
        """Counts many values at once."""
        for place, times in enumerate(self._places(values)):
            if times:
                self._counts[place] += times
        self._sum += sum(values)

    def _places(self, values: Sequence[int]) -> list[int]:
        places = np.searchsorted(np.array(self._bounds), np.array(values), side="left")
        counts: list[int] = np.bincount(places, minlength=len(self._counts)).tolist()
        return counts

    def read(self, per_unit: float = 1.0) -> Buckets:
        """The state now, in units of `per_unit` values: 1e9 makes seconds of nanoseconds."""
        return Buckets(tuple(bound / per_unit for bound in self._bounds), tuple(self._counts), self._sum / per_unit)


@dataclass(frozen=True, slots=True)
class Buckets:
    """A histogram at one moment: `counts[i]` values were above `bounds[i - 1]` and at most `bounds[i]`, the last above all."""

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    sum: float

    @property
    def count(self) -> int:
        """How many values."""
        return sum(self.counts)

    def since(self, before: Buckets) -> Buckets:
        """What came after `before`; all of it where a counter went back, for then the program's model was loaded again."""
        counts = tuple(now - then for now, then in zip(self.counts, before.counts, strict=True))
        return self if min(counts) < 0 else Buckets(self.bounds, counts, self.sum - before.sum)

    def quantile(self, q: float) -> float | None:
        """The value that a share of `q` (0..1] stays within, by a straight line inside its bucket; None when empty.

        As PromQL's histogram_quantile: what lies above the last bound is told as that bound.
        """
        wanted = q * self.count
        if not wanted:
            return None
        below, seen = 0.0, 0
        for bound, count in zip(self.bounds, self.counts, strict=False):
            if count and seen + count >= wanted:
                return below + (bound - below) * (wanted - seen) / count
            below, seen = bound, seen + count
        return self.bounds[-1]
