"""Evidence of one comparison, both ways: that the candidate is worse than tolerated, and that it is within the margin.

The first runs through all stages of a release; the second starts anew with each, because what held at 1 % of the traffic
need not hold at 50 %.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, Self

from runtime.sequential import AsymptoticMean, BettingMixture, EmpiricalBernstein
from runtime.sequential.asymptotic import FEWEST

# A tolerance of zero disagreements: the first one is all the evidence there can be. The bet's null must lie above its lowest value.
_LEAST_NULL = 1e-6


class Evidence(Protocol):
    """What a comparison asks of either test."""

    test: str
    """As findings name it."""
    beyond: AsymptoticMean
    """Count, mean and variance of the harm beyond the margin: negative where all is well."""

    def observe(self, harm: float, beyond: float) -> None:
        """Takes in by how much one comparison went against the candidate, and by how much beyond the margin."""

    @property
    def e_worse(self) -> float:
        """Evidence that the harm is over what is tolerated."""

    @property
    def e_fine(self) -> float:
        """Evidence, of this stage, that the harm is under the margin."""

    @property
    def fewest_left(self) -> int:
        """Comparisons of this stage without which the test says nothing, whatever they show."""

    def interval(self) -> tuple[float, float, float]:
        """The mean harm, its lower and its upper bound; there was one comparison at least."""

    def start_stage(self) -> None:
        """Forgets the evidence for advancing."""

    def to_state(self) -> dict[str, Any]:
        """Everything, in types that JSON has."""


class BoundedEvidence:
    """For harm from `low` (-1: differences, 0: shares) to 1, beyond the margin up to `most_beyond`: exact at any number."""

    test = "betting mixture"
    fewest_left = 0

    def __init__(self, tolerance: float, low: float, most_beyond: float, alpha: float) -> None:
        self._worse = BettingMixture(max(tolerance, low + _LEAST_NULL), low)
        self._fine = BettingMixture(0.0, -most_beyond)
        self._bounds = EmpiricalBernstein(low, 1.0, alpha)
        self.beyond = AsymptoticMean()

    def observe(self, harm: float, beyond: float) -> None:
        """Takes in one comparison."""
        self._worse.observe(harm)
        self._fine.observe(-beyond)
        self._bounds.observe(harm)
        self.beyond.observe(beyond)

    @property
    def e_worse(self) -> float:
        """Evidence that the harm is over what is tolerated."""
        return self._worse.e_value

    @property
    def e_fine(self) -> float:
        """Evidence, of this stage, that the harm is under the margin."""
        return self._fine.e_value

    def interval(self) -> tuple[float, float, float]:
        """The mean harm, its lower and its upper bound."""
        return (self._bounds.mean, *self._bounds.interval())

    def start_stage(self) -> None:
        """Forgets the evidence for advancing."""
        self._worse.restart()
        self._fine = BettingMixture(self._fine.null, self._fine.low)

    def to_state(self) -> dict[str, Any]:
        """Everything, in types that JSON has."""
        return {
            "worse": self._worse.to_state(),
            "fine": self._fine.to_state(),
            "bounds": self._bounds.to_state(),
            "beyond": self.beyond.to_state(),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """The one that `to_state` was asked of."""
        made = cls.__new__(cls)
        made._worse = BettingMixture.from_state(state["worse"])
        made._fine = BettingMixture.from_state(state["fine"])
        made._bounds = EmpiricalBernstein.from_state(state["bounds"])
        made.beyond = AsymptoticMean.from_state(state["beyond"])
        return made


class AsymptoticEvidence:
    """For harm without bounds: holds as the central limit theorem does, from some hundred requests on."""

    test = "asymptotic confidence sequence"

    def __init__(self, tolerance: float, alpha: float) -> None:
        self._tolerance = tolerance
        self._alpha = alpha
        self._harm = AsymptoticMean()
        self._within = AsymptoticMean()
        self.beyond = AsymptoticMean()

    def observe(self, harm: float, beyond: float) -> None:
        """Takes in one comparison."""
        self._harm.observe(harm)
        self._within.observe(-beyond)
        self.beyond.observe(beyond)

    @property
    def e_worse(self) -> float:
        """Evidence that the harm is over what is tolerated."""
        return self._harm.e_value(self._tolerance, self._alpha)

    @property
    def e_fine(self) -> float:
        """Evidence, of this stage, that the harm is under the margin."""
        return self._within.e_value(0.0, self._alpha)

    @property
    def fewest_left(self) -> int:
        """Until the normal approximation is to be trusted."""
        return max(FEWEST - self._within.count, 0)

    def interval(self) -> tuple[float, float, float]:
        """The mean harm, its lower and its upper bound."""
        return (self._harm.mean, *self._harm.interval(self._alpha))

    def start_stage(self) -> None:
        """Forgets the evidence for advancing."""
        self._within = AsymptoticMean()

    def to_state(self) -> dict[str, Any]:
        """Everything, in types that JSON has."""
        return {
            "tolerance": self._tolerance,
            "alpha": self._alpha,
            "harm": self._harm.to_state(),
            "within": self._within.to_state(),
            "beyond": self.beyond.to_state(),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """The one that `to_state` was asked of."""
        made = cls(state["tolerance"], state["alpha"])
        made._harm = AsymptoticMean.from_state(state["harm"])
        made._within = AsymptoticMean.from_state(state["within"])
        made.beyond = AsymptoticMean.from_state(state["beyond"])
        return made
