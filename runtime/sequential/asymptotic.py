"""Means of values without bounds: confidence sequences that hold asymptotically, as the central limit theorem does.

Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas, "Time-uniform central limit theory and asymptotic confidence sequences",
Annals of Statistics 2024 (arXiv:2103.06476): the two-sided sequence and, for evidence, the mixture over a half-normal that
one-sided bounds rest on, with the variance estimated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import erfc, exp, inf, log, sqrt
from typing import Any, Final, Self

# Where the sequence is tightest: a canary of some hundred to some thousand requests.
TIGHTEST_AT: Final = 500
# Before that many the normal approximation is not to be trusted, and there is no evidence.
FEWEST: Final = 100
_MOST_EXPONENT: Final = 230.0


@dataclass(slots=True)
class AsymptoticMean:
    """Count, mean and squares of what was seen; intervals and evidence of them at any time."""

    count: int = 0
    mean: float = 0.0
    _squares: float = 0.0

    def observe(self, value: float) -> None:
        """Takes in one value (Welford's update)."""
        self.count += 1
        before = value - self.mean
        self.mean += before / self.count
        self._squares += before * (value - self.mean)

    @property
    def variance(self) -> float:
        """Of the values; 0 while there are fewer than two."""
        return self._squares / (self.count - 1) if self.count > 1 else 0.0

    def interval(self, alpha: float) -> tuple[float, float]:
        """Lower and upper bound of the mean, at all times together; infinite while there are too few values."""
        if self.count < FEWEST:
            return -inf, inf
        scale = self.count * _rho_squared(alpha) + 1.0
        inner = 2.0 * scale / (self.count**2 * _rho_squared(alpha)) * log(sqrt(scale) / alpha)
        width = sqrt(self.variance * inner)
        return self.mean - width, self.mean + width

    def e_value(self, null: float, alpha: float) -> float:
        """Evidence against "the mean is at most `null`"; `alpha` only says where the mixture is tightest."""
        if self.count < FEWEST:
            return 1.0
        if self._squares == 0.0:
            return exp(_MOST_EXPONENT) if self.mean > null else 0.0
        rho_squared = _rho_squared(alpha)
        scale = self.count * rho_squared + 1.0
        standing = sqrt(rho_squared / scale) * self.count * (self.mean - null) / sqrt(self.variance)
        return 2.0 / sqrt(scale) * exp(min(standing**2 / 2.0, _MOST_EXPONENT)) * 0.5 * erfc(-standing / sqrt(2.0))

    def to_state(self) -> dict[str, Any]:
        """Everything, in types that JSON has."""
        return asdict(self)

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """The one that `to_state` was asked of."""
        return cls(**state)


def _rho_squared(alpha: float) -> float:
    """The mixture's variance that makes the interval tightest at `TIGHTEST_AT` (their closed form)."""
    return (-2.0 * log(alpha) + log(-2.0 * log(alpha) + 1.0)) / TIGHTEST_AT
