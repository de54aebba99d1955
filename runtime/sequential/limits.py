"""How many failures of so many are too many: exact, at every count, without an end that must be known before.

Of independent cases that fail with probability `tolerated` at most, the failures among the first n ever reach the limit of n with
probability alpha at most. The limits come from the binomial walk itself, which spends alpha as cases come in: Lan and DeMets,
"Discrete sequential boundaries for clinical trials", Biometrika 1983. A bound like Ville's, which holds for any betting strategy,
leaves four fifths of alpha unused over some hundred cases of which one in a hundred fails; a fleet has no more.
"""

from __future__ import annotations

from bisect import bisect_left
from functools import cache
from math import ceil, sqrt
from threading import Lock
from typing import Final

import numpy as np
from numpy.typing import NDArray

# Of alpha, for the very first case; with 5 % as much as it takes to stop when that fails and one in a hundred is tolerated.
FIRST_PART: Final = 0.2
# Of the rest half is spent by so many cases.
HALF_AT: Final = 100.0
# Limits are reckoned for every count up to so many, then for this many between a count and its double: those in between have the
# next one's, which is a little higher.
STEPS: Final = 32

Floats = NDArray[np.float64]


class FailureLimits:
    """Limits for one tolerance and one alpha. Threads may share it."""

    def __init__(self, tolerated: float, alpha: float) -> None:
        if not (0.0 < tolerated < 1.0 and 0.0 < alpha < 1.0):
            raise ValueError(f"tolerated is {tolerated} and alpha {alpha}; expected two numbers between 0 and 1")
        self._tolerated = tolerated
        self._alpha = alpha
        self._lock = Lock()
        self._counts = [0]
        self._limits = [1]
        self._walk: Floats = np.ones(1)
        """Probability of 0, 1, ... failures by now with no limit reached before, if as many fail as is tolerated."""
        self._spent = 0.0

    def at(self, count: int) -> int:
        """So many failures among the first `count` cases are too many."""
        with self._lock:
            while self._counts[-1] < count:
                self._extend()
            return self._limits[bisect_left(self._counts, count)]

    def _extend(self) -> None:
        step = max(self._counts[-1] // STEPS, 1)
        count = self._counts[-1] + step
        walk = np.convolve(self._walk, _binomial(step, self._tolerated))
        at_least = np.append(walk[::-1].cumsum()[::-1], 0.0)
        limit = int(np.argmax(at_least <= self._may_spend(count) - self._spent))
        self._spent += float(at_least[limit])
        self._walk = walk[:limit]
        self._counts.append(count)
        self._limits.append(limit)

    def _may_spend(self, count: int) -> float:
        return self._alpha * (FIRST_PART + (1.0 - FIRST_PART) * count / (count + HALF_AT))


@cache
def failure_limits(tolerated: float, alpha: float) -> FailureLimits:
    """The same ones for all who ask: what was reckoned once is kept."""
    return FailureLimits(tolerated, alpha)


def _binomial(count: int, share: float) -> Floats:
    """Probabilities of 0, 1, ... successes, up to where one more is as likely as that two numbers of 64 bits are the same."""
    likely = ceil(count * share + 12.0 * sqrt(count * share) + 30.0)
    successes = np.arange(1, min(count, likely) + 1)
    odds = np.log((count - successes + 1) / successes) + np.log(share / (1.0 - share))
    told: Floats = np.exp(np.append(0.0, odds.cumsum()) + count * np.log1p(-share))
    return told
