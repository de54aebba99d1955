"""A confidence sequence for the mean of bounded values, in closed form: what reports show beside a decision.

Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting", JRSS B 2023 (arXiv:2010.09686), theorem 2: the
predictable plug-in empirical-Bernstein confidence sequence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from math import log, log1p, nan, sqrt
from typing import Any, Final, Self

# Their suggestion, "c = 1/2 or 3/4".
LARGEST_BET: Final = 0.5


@dataclass(slots=True)
class EmpiricalBernstein:
    """Both bounds for the mean of values between `low` and `high`, at confidence 1 - alpha at all times together."""

    low: float
    high: float
    alpha: float
    count: int = 0
    _total: float = 0.0
    _squares: float = 0.0
    _bets: float = 0.0
    _weighted: float = 0.0
    _spread: float = 0.0
    _twice_limit: float = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self._twice_limit = 2.0 * log(2.0 / self.alpha)

    def observe(self, value: float) -> None:
        """Takes in one value; outside the bounds it is clipped."""
        unit = min(max((value - self.low) / (self.high - self.low), 0.0), 1.0)
        before, variance = (0.5 + self._total) / (self.count + 1), (0.25 + self._squares) / (self.count + 1)
        self.count += 1
        bet = min(sqrt(self._twice_limit / (variance * self.count * log1p(self.count))), LARGEST_BET)
        self._bets += bet
        self._weighted += bet * unit
        # 4 (x - mean)^2 times psi(bet) = (-log(1 - bet) - bet) / 4
        self._spread += (unit - before) ** 2 * (-log1p(-bet) - bet)
        self._total += unit
        self._squares += (unit - (0.5 + self._total) / (self.count + 1)) ** 2

    def interval(self) -> tuple[float, float]:
        """Lower and upper bound of the mean; the bounds of the values while there is none."""
        if self.count == 0:
            return self.low, self.high
        centre = self._weighted / self._bets
        width = (log(2.0 / self.alpha) + self._spread) / self._bets
        span = self.high - self.low
        return self.low + span * max(centre - width, 0.0), self.low + span * min(centre + width, 1.0)

    @property
    def mean(self) -> float:
        """The plain mean; NaN while there is no value."""
        return self.low + (self.high - self.low) * self._total / self.count if self.count else nan

    def to_state(self) -> dict[str, Any]:
        """Everything, in types that JSON has."""
        told = asdict(self)
        del told["_twice_limit"]
        return told

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """The one that `to_state` was asked of."""
        return cls(**state)
