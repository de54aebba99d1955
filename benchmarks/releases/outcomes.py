"""What a rule did in each simulated run, and the figures of a row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from runtime.confidence.bound import upper_bound

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

NEVER = -1
TAIL = 0.025
"""On each side of an interval of 95 %."""
Z_TAIL = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Row:
    """One rule in one scenario."""

    scenario: str
    rule: str
    case: str
    runs: int
    decided: float
    """Share of runs in which the rule did what the scenario counts: rolled back, or promoted."""
    median: float | None
    """Requests (of each arm, or cases) until then, over all runs: None where half of them never decided."""
    floor: float | None = None
    """The information floor that the median is held against."""
    extra: dict[str, float] = field(default_factory=dict)
    median_up_to: float | None = None
    """The upper end of the median's 95 % interval, by order statistics; None where it may be that half never decides."""

    @property
    def hits(self) -> int:
        """In how many runs."""
        return round(self.decided * self.runs)

    @property
    def interval(self) -> tuple[float, float]:
        """Of `decided`, exact (Clopper and Pearson), 2.5 % on each side."""
        return 1.0 - _upper(self.runs - self.hits, self.runs), _upper(self.hits, self.runs)

    @property
    def ratio_up_to(self) -> float | None:
        """The upper end of the median's interval against the floor."""
        return None if self.median_up_to is None or self.floor is None else self.median_up_to / self.floor

    @property
    def ratio(self) -> float | None:
        """Median against the floor."""
        return None if self.median is None or self.floor is None else self.median / self.floor

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        names = ("scenario", "rule", "case", "runs", "decided", "median", "median_up_to", "floor", "ratio", "extra")
        return {**{name: getattr(self, name) for name in names}, "interval": list(self.interval)}

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> Self:
        """The row that `to_dict` was asked of."""
        return cls(**{name: value for name, value in told.items() if name not in ("ratio", "interval")})


def first_hits(is_hit: NDArray[np.bool_], at: Ints) -> Ints:
    """The place, out of `at`, of each run's first True; NEVER where there is none. `is_hit`: [run, look]."""
    hits: Ints = np.where(is_hit.any(1), at[is_hit.argmax(1)], NEVER)
    return hits


def row(
    scenario: str, rule: str, case: str, hits: Ints, floor: float | None = None, extra: dict[str, float] | None = None
) -> Row:
    """The figures of `hits`: where each run decided, or NEVER."""
    sorted_hits = np.sort(np.where(hits == NEVER, np.iinfo(np.int64).max, hits))

    def at(place: int) -> float | None:
        found = sorted_hits[place] if place < len(hits) else np.iinfo(np.int64).max
        return None if found == np.iinfo(np.int64).max else float(found)

    median = at((len(hits) - 1) // 2)
    decided = float((hits != NEVER).mean())
    return Row(scenario, rule, case, len(hits), decided, median, floor, extra or {}, at(_upper_place(len(hits))))


@cache
def _upper(hits: int, runs: int) -> float:
    return upper_bound(hits, runs, TAIL)


def _upper_place(runs: int) -> int:
    """Of the sorted values, counted from 0, the one that the median is over with a probability of `TAIL` at most.

    It is over the value at place k where more than k of `runs` fair coins show heads.
    """
    total, weight = 0.0, 0.5**runs if runs < 1000 else 0.0
    if not weight:  # many runs: the normal approximation, a place further for what it leaves out
        return min(int(runs / 2 + Z_TAIL * np.sqrt(runs) / 2) + 1, runs)
    for heads in range(runs + 1):
        total += weight
        if total >= 1.0 - TAIL:
            return heads
        weight *= (runs - heads) / (heads + 1)
    return runs


def information_floor(first: Floats, second: Floats, alpha: float = 0.05) -> float:
    """Values of each side that any test of level `alpha` needs on average, when the sides have these distributions.

    ln(1 / alpha) over the growth that the best bet has who knows both: the Jensen-Shannon divergence times two (Turner, Ly and
    Grünwald 2024; for the expected stopping time, Wald 1945).
    """
    middle = (first + second) / 2
    growth = sum(
        float(np.sum(side * np.log(side / middle, where=side > 0, out=np.zeros(len(side))))) for side in (first, second)
    )
    return float(np.log(1 / alpha) / growth)
