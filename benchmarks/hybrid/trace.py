"""What happens when in the hybrid benchmark: phases of links and arms, healed in between, and when requests are planned."""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from benchmarks.hybrid.proxy import Link

# A poor mobile network of the third generation: 400 kbit/s, round trips of 300 to 700 ms, so that some of them make it.
THIRD_GENERATION: Final = Link(latency_s=0.3, jitter_s=0.2, bytes_per_s=50_000)
SLOW_CLOUD: Final = Link(latency_s=0.9)
HOME: Final = Link(latency_s=0.02, jitter_s=0.005, bytes_per_s=2_500_000)
"""A good connection: what a house has."""
BLACKOUT: Final = Link(is_blackhole=True)
STALL: Final = "stall 4.0"


class Fault(StrEnum):
    """What is wrong beside the link."""

    NONE = "none"
    STALLED_LOCAL = "stalled local"
    FROZEN_GATEWAY = "frozen gateway"


@dataclass(frozen=True, slots=True)
class Phase:
    """One condition that lasts; a flapping link has two that take turns."""

    name: str
    link: Link
    fault: Fault = Fault.NONE
    other_link: Link | None = None
    """Of a flapping link, taken in turns of `turn_s`."""
    turn_s: float = 0.0
    heals: bool = False
    """Whether the phase after it is a recovery from an outage of the cloud."""


def phases() -> list[Phase]:
    """In this order; between bad ones the link is good, so that what follows is a recovery."""
    return [
        Phase("good link", HOME),
        Phase("3G", THIRD_GENERATION),
        Phase("good again (3G)", HOME),
        Phase("flapping", HOME, other_link=BLACKOUT, turn_s=1.2),
        Phase("good again (flapping)", HOME),
        Phase("blackout", BLACKOUT, heals=True),
        Phase("good again (blackout)", HOME),
        Phase("slow cloud", SLOW_CLOUD),
        Phase("good again (slow)", HOME),
        Phase("stalled local", HOME, Fault.STALLED_LOCAL),
        Phase("good again (stalled)", HOME),
        Phase("frozen gateway", HOME, Fault.FROZEN_GATEWAY, heals=True),
        Phase("good again (frozen)", HOME),
        Phase("both degraded", THIRD_GENERATION, Fault.STALLED_LOCAL),
        Phase("good at last", HOME),
    ]


@dataclass(frozen=True, slots=True)
class Planned:
    """One request of the trace."""

    at_s: float
    """Since the trace began."""
    phase: int
    row: int
    is_private: bool


def plan(count: int, phase_s: float, rate_per_s: float, rows: int, private_share: float, seed: int) -> list[Planned]:
    """Open-loop arrivals, Poisson at `rate_per_s`, over `count` phases; the same seed gives the same trace."""
    chance = random.Random(seed)
    planned: list[Planned] = []
    at_s = 0.0
    while True:
        at_s += chance.expovariate(rate_per_s)
        phase = int(at_s / phase_s)
        if phase >= count:
            return planned
        planned.append(Planned(at_s, phase, chance.randrange(rows), chance.random() < private_share))


def link_at(phase: Phase, since_s: float) -> Link:
    """The link of `phase` so long after its beginning."""
    if phase.other_link is None or int(since_s / phase.turn_s) % 2 == 0:
        return phase.link
    return phase.other_link
