"""A version that goes to a fleet in waves: whether the next devices may have it, the wave waits, or the rollout stops; pure.

Unlike a canary's traffic, the devices of a first wave are too few to prove that nothing is wrong: five without a failure are
compatible with one in three failing. So a wave leads to the next when enough of it has reported and nothing speaks against
it; harm stops it at any time, and a healthy version is stopped with probability alpha at most.

Devices that fail tell sooner than those that keep it, which have to serve for a while first. So failures count among the devices
that got the version up to the one that failed, whether those have told or not: the order of reports changes nothing.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any, Self

from cloud_gateway.guards.verdict import Action
from runtime.errors import WrongUseError
from runtime.sequential import failure_limits


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
    """Reports of devices in, a decision out; its state is JSON, and as small as the number of failures."""

    def __init__(self, plan: WavePlan, devices: int) -> None:
        if devices < 1:
            raise WrongUseError(f"the fleet has {devices} devices; expected one at least")
        self.plan = plan
        self.devices = devices
        self.wave = 0
        self.reported = 0
        self._failed_at: list[int] = []
        """In rising order."""

    @property
    def failed(self) -> int:
        """Devices that failed."""
        return len(self._failed_at)

    @property
    def allowed(self) -> int:
        """Devices up to and with this wave: one at least."""
        return min(max(ceil(self.plan.shares[self.wave] * self.devices - 1e-9), 1), self.devices)

    @property
    def is_last_wave(self) -> bool:
        """Whether every device may have it."""
        return self.wave + 1 == len(self.plan.shares)

    def observe_kept(self) -> None:
        """One device has kept it; each device reports once."""
        self.reported += 1

    def observe_failure(self, place: int) -> None:
        """One device failed: the one that got the version as number `place`, counted from 1."""
        self.reported += 1
        insort(self._failed_at, place)

    def decide(self) -> WaveDecision:
        """The decision as of now; where it is to advance, the next wave has begun."""
        numbers = f"{self.failed} of {self.reported} devices failed, {self.plan.tolerated:.1%} is tolerated"
        if harm := self._harm():
            why = f"the version harms devices: {harm}; {numbers}"
            return WaveDecision(Action.ROLLBACK, why, self.reported, self.failed)
        wanted = ceil(self.plan.reported_share * self.allowed)
        if self.reported < wanted:
            missing = wanted - self.reported
            reason = f"wave {self.wave + 1} waits for {missing} more devices to report: {numbers}"
            return WaveDecision(Action.HOLD, reason, self.allowed, self.failed)
        if self.wave + 1 < len(self.plan.shares):
            self.wave += 1
            return WaveDecision(Action.ADVANCE, f"wave {self.wave + 1} begins: {numbers}", self.allowed, self.failed)
        return WaveDecision(Action.ADVANCE, f"the whole fleet has it: {numbers}", self.devices, self.failed)

    def _harm(self) -> str:
        """How more devices failed than chance allows; empty: they did not."""
        limits = failure_limits(self.plan.tolerated, self.plan.alpha)
        for failed, place in enumerate(self._failed_at, 1):
            if failed >= (limit := limits.at(place)):
                return (
                    f"{failed} of the first {place} that got it failed, and {limit} or more would be chance in "
                    f"{self.plan.alpha:.0%} of rollouts at most"
                )
        return ""

    def to_state(self) -> dict[str, Any]:
        """Everything but the plan, in types that JSON has."""
        return {
            "devices": self.devices,
            "wave": self.wave,
            "reported": self.reported,
            "failed_at": list(self._failed_at),
        }

    @classmethod
    def from_state(cls, plan: WavePlan, state: Mapping[str, Any]) -> Self:
        """The one that `to_state` was asked of."""
        made = cls(plan, state["devices"])
        made.wave, made.reported = state["wave"], state["reported"]
        # Before places were kept there was a number of failures: none of them is known to have come early.
        made._failed_at = list(state.get("failed_at", [made.reported] * state.get("failed", 0)))
        return made
