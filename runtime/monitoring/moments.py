"""Count, mean, spread and range of a stream of numbers, mergeable: parts joined give what one stream would have given."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.float64]

# Squares of larger numbers, summed over 10^15 rows, would leave float64; no sensor or score comes near.
LARGEST: Final = 1e140


@dataclass(frozen=True, slots=True)
class Moments:
    """Of finite numbers. Joined by Chan's update (Chan, Golub, LeVeque 1979): no sum of squares that cancels."""

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0
    """Sum of squared distances from the mean."""
    low: float = math.inf
    high: float = -math.inf

    @classmethod
    def of(cls, finite: Numbers) -> Moments:
        """Of one block; numbers beyond ±1e140 count as that."""
        if not finite.size:
            return cls()
        # Ufuncs' own reductions: the methods of an array take twice as long for a few hundred numbers.
        low, high = float(np.minimum.reduce(finite)), float(np.maximum.reduce(finite))
        if low < -LARGEST or high > LARGEST:
            return cls.of(np.clip(finite, -LARGEST, LARGEST))
        mean = float(np.add.reduce(finite)) / finite.size
        away = finite - mean
        return cls(finite.size, mean, float(np.dot(away, away)), low, high)

    def merged(self, other: Moments) -> Moments:
        """Of both streams together."""
        if not self.count or not other.count:
            return other if not self.count else self
        count = self.count + other.count
        between = other.mean - self.mean
        return Moments(
            count,
            self.mean + between * other.count / count,
            self.squares + other.squares + between * between * self.count * other.count / count,
            min(self.low, other.low),
            max(self.high, other.high),
        )

    @property
    def std(self) -> float:
        """Standard deviation of the numbers seen; 0 where none was."""
        return math.sqrt(self.squares / self.count) if self.count else 0.0
