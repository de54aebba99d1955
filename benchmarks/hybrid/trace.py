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
TURN_S: Final = 1.75
"""Several deadlines long, and four turns in a phase of 7 s."""


class Fault(StrEnum):
    """What is wrong beside the link."""

    NONE = "none"
    STALLED_LOCAL = "stalled local"
    FROZEN_GATEWAY = "frozen gateway"
    FLAKY_GATEWAY = "flaky gateway"
    """It answers UNAVAILABLE to every second inference."""


@dataclass(frozen=True, slots=True)
class Condition:
    """How link and arms are at one moment."""

    link: Link
    fault: Fault = Fault.NONE


@dataclass(frozen=True, slots=True)
class Phase:
    """A condition that lasts, or several that take turns."""

    name: str
    turns: tuple[Condition, ...]
    turn_s: float = 0.0
    is_beyond: bool = False
    """Harder than the bars ask for: measured and told beside them."""

    def at(self, since_s: float) -> Condition:
        """The condition so long after its beginning."""
        return self.turns[int(since_s / self.turn_s) % len(self.turns) if self.turn_s else 0]


def phases() -> list[Phase]:
    """In this order; between bad ones the link is good, so that what follows is a recovery."""
    good, stalled = (Condition(HOME),), (Condition(HOME, Fault.STALLED_LOCAL),)
    return [
        Phase("good link", good),
        Phase("3G", (Condition(THIRD_GENERATION),)),
        Phase("good again (3G)", good),
        Phase("flapping", (Condition(HOME), Condition(BLACKOUT)), turn_s=1.2),
        Phase("good again (flapping)", good),
        Phase("blackout", (Condition(BLACKOUT),)),
        Phase("good again (blackout)", good),
        Phase("slow cloud", (Condition(SLOW_CLOUD),)),
        Phase("good again (slow)", good),
        Phase("stalled local", stalled),
        Phase("good again (stalled)", good),
        Phase("frozen gateway", (Condition(HOME, Fault.FROZEN_GATEWAY),)),
        Phase("good again (frozen)", good),
        Phase("flaky gateway", (Condition(HOME, Fault.FLAKY_GATEWAY),)),
        Phase("good again (flaky)", good),
        # One of the two arms is well at every moment.
        Phase("both degraded in turn", (Condition(SLOW_CLOUD), *stalled), turn_s=TURN_S),
        Phase("good again (in turn)", good),
        # Both fail in the same moment, which nobody can know before an answer is missing; the oracle does.
        Phase("both degraded at once", (Condition(THIRD_GENERATION, Fault.STALLED_LOCAL),), is_beyond=True),
        Phase("good at last", good),
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
