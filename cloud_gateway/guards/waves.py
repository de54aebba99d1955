"""A version that goes to a fleet in waves: whether the next devices may have it, the wave waits, or the rollout stops; pure.

Unlike a canary's traffic, the devices of a first wave are too few to prove that nothing is wrong: five without a failure are
compatible with one in three failing. So a wave leads to the next when enough of it has reported and nothing speaks against
it; harm stops it at any time, and a healthy version is stopped with probability alpha at most.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any, Self

from cloud_gateway.guards.verdict import Action
from runtime.errors import WrongUseError
from runtime.sequential import BettingMixture


@dataclass(frozen=True, slots=True)
class WavePlan:
    """How far each wave goes, and what is tolerated."""

    shares: tuple[float, ...] = (0.01, 0.05, 0.25, 1.0)
    """Of the fleet, up to and with each wave."""
    tolerated: float = 0.01
    """Share of devices that may fail an update for reasons of their own."""
    alpha: float = 0.05
    reported_share: float = 0.95
    """Of the devices that have the version: so many must have told how they are before the next wave."""

    def __post_init__(self) -> None:
        rising = all(low < high for low, high in zip(self.shares, self.shares[1:], strict=False))
        if not self.shares or not rising or self.shares[0] <= 0 or self.shares[-1] != 1.0:
            raise WrongUseError(f"waves are {self.shares}; expected rising shares of the fleet that end in 1.0")
        for name, value in (("tolerated", self.tolerated), ("alpha", self.alpha)):
            if not 0 < value < 1:
                raise WrongUseError(f"{name} is {value}; expected a share between 0 and 1")
        if not 0 < self.reported_share <= 1:
            raise WrongUseError(f"reported_share is {self.reported_share}; expected a share over 0, up to 1")


@dataclass(frozen=True, slots=True)
class WaveDecision:
    """What becomes of the rollout."""

    action: Action
    reason: str
    allowed: int
    """How many devices may have the version by now, those that have it included."""
    failed: int


class WaveWatch:
    """Reports of devices in, a decision out; O(1), and its state is JSON."""

    def __init__(self, plan: WavePlan, devices: int) -> None:
        if devices < 1:
            raise WrongUseError(f"the fleet has {devices} devices; expected one at least")
        self.plan = plan
        self.devices = devices
        self.wave = 0
        self.reported = 0
        self.failed = 0
        self._harm = BettingMixture(plan.tolerated, 0.0)

    @property
    def allowed(self) -> int:
        """Devices up to and with this wave: one at least."""
        return min(max(ceil(self.plan.shares[self.wave] * self.devices - 1e-9), 1), self.devices)

    @property
    def is_last_wave(self) -> bool:
        """Whether every device may have it."""
        return self.wave + 1 == len(self.plan.shares)

    def observe(self, is_failure: bool) -> None:
        """Takes in one device's report; each device reports once."""
        self.reported += 1
        self.failed += is_failure
        self._harm.observe(float(is_failure))

    def decide(self) -> WaveDecision:
        """The decision as of now; where it is to advance, the next wave has begun."""
        evidence, limit = self._harm.e_value, 1.0 / self.plan.alpha
        numbers = (
            f"{self.failed} of {self.reported} devices failed, {self.plan.tolerated:.1%} is tolerated "
            f"(evidence {evidence:.3g} of {limit:g})"
        )
        if evidence >= limit:
            return WaveDecision(Action.ROLLBACK, f"the version harms devices: {numbers}", self.reported, self.failed)
        wanted = ceil(self.plan.reported_share * self.allowed)
        if self.reported < wanted:
            missing = wanted - self.reported
            reason = f"wave {self.wave + 1} waits for {missing} more devices to report: {numbers}"
            return WaveDecision(Action.HOLD, reason, self.allowed, self.failed)
        if self.wave + 1 < len(self.plan.shares):
            self.wave += 1
            return WaveDecision(Action.ADVANCE, f"wave {self.wave + 1} begins: {numbers}", self.allowed, self.failed)
        return WaveDecision(Action.ADVANCE, f"the whole fleet has it: {numbers}", self.devices, self.failed)

    def to_state(self) -> dict[str, Any]:
        """Everything but the plan, in types that JSON has."""
        return {
            "devices": self.devices,
            "wave": self.wave,
            "reported": self.reported,
            "failed": self.failed,
            "harm": self._harm.to_state(),
        }

    @classmethod
    def from_state(cls, plan: WavePlan, state: Mapping[str, Any]) -> Self:
        """The one that `to_state` was asked of."""
        made = cls(plan, state["devices"])
        made.wave, made.reported, made.failed = state["wave"], state["reported"], state["failed"]
        made._harm = BettingMixture.from_state(state["harm"])
        return made
