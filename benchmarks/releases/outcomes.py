"""What a rule did in each simulated run, and the figures of a row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

NEVER = -1


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

    @property
    def ratio(self) -> float | None:
        """Median against the floor."""
        return None if self.median is None or self.floor is None else self.median / self.floor

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        names = ("scenario", "rule", "case", "runs", "decided", "median", "floor", "ratio", "extra")
        return {name: getattr(self, name) for name in names}

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> Self:
        """The row that `to_dict` was asked of."""
        return cls(**{name: value for name, value in told.items() if name != "ratio"})


def first_hits(is_hit: NDArray[np.bool_], at: Ints) -> Ints:
    """The place, out of `at`, of each run's first True; NEVER where there is none. `is_hit`: [run, look]."""
    hits: Ints = np.where(is_hit.any(1), at[is_hit.argmax(1)], NEVER)
    return hits


def row(
    scenario: str, rule: str, case: str, hits: Ints, floor: float | None = None, extra: dict[str, float] | None = None
) -> Row:
    """The figures of `hits`: where each run decided, or NEVER."""
    sorted_hits = np.sort(np.where(hits == NEVER, np.iinfo(np.int64).max, hits))
    middle = sorted_hits[(len(hits) - 1) // 2]
    median = None if middle == np.iinfo(np.int64).max else float(middle)
    return Row(scenario, rule, case, len(hits), float((hits != NEVER).mean()), median, floor, extra or {})


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
