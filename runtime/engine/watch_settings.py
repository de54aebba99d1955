"""How closely models are watched while they serve."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from runtime.errors import WrongUseError

SHADOW_EVERY: Final = 1000
"""A reference ten times slower than what serves then takes a hundredth of its time."""
RECALIBRATE_EVERY_S: Final = 600.0
"""Measuring takes some ten seconds of all cores: a sixtieth of the time at most."""


@dataclass(frozen=True, slots=True)
class WatchSettings:
    """How closely models are watched while they serve."""

    shadow_every: int = SHADOW_EVERY
    """One call of so many is also run on the reference variant, and the answers compared; 0: none."""
    recalibrate_every_s: float = RECALIBRATE_EVERY_S
    """When calls take longer than they were measured to: measure again, at most this often for a model; 0: never."""

    def __post_init__(self) -> None:
        if self.shadow_every < 0:
            raise WrongUseError(f"shadow_every is {self.shadow_every}; expected a number of calls, or 0 for no checks")
        if not self.recalibrate_every_s >= 0:
            raise WrongUseError(f"recalibrate_every_s is {self.recalibrate_every_s}; expected seconds, or 0 for never")
