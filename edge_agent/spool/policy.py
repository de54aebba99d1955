"""What the spool takes and what it lets go: limits in bytes and age, and the clock that ages are counted by. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

AWAKE_S: Final = 120.0
"""The spool looks for waiting requests every 30 s, and so for their ages."""


class WhenFull(StrEnum):
    """What happens to a request that no longer fits."""

    REFUSE = "refuse"
    """It is refused, and its sender knows: nothing that was acknowledged is lost."""
    DROP_OLDEST = "drop_oldest"
    """The oldest waiting requests make room: for readings of which the latest matter."""


@dataclass(frozen=True, slots=True)
class SpoolLimits:
    """Bounds of the spool."""

    max_bytes: int = 256 << 20
    """Of waiting requests; results are bounded by the same number, the oldest forgotten first."""
    max_age_s: float = 7 * 86_400.0
    """A request that could not be answered for so long is dropped."""
    when_full: WhenFull = WhenFull.REFUSE
    result_ttl_s: float = 86_400.0
    """How long a result can be fetched."""


@dataclass(frozen=True, slots=True)
class Admission:
    """Whether a request is taken."""

    is_taken: bool
    drop: tuple[int, ...] = ()
    """Waiting requests that make room for it, by their number."""
    reason: str = ""
    """Why it is refused."""


def admit(limits: SpoolLimits, used_bytes: int, size_bytes: int, oldest: Iterable[tuple[int, int]]) -> Admission:
    """Whether a request of `size_bytes` fits beside `used_bytes`; `oldest`: (number, bytes) of those waiting, oldest first."""
    if size_bytes > limits.max_bytes:
        return Admission(
            False, reason=f"the request takes {size_bytes} bytes; the whole spool holds {limits.max_bytes}"
        )
    excess = used_bytes + size_bytes - limits.max_bytes
    if excess <= 0:
        return Admission(True)
    if limits.when_full is WhenFull.REFUSE:
        return Admission(
            False,
            reason=f"the spool holds {used_bytes} of {limits.max_bytes} bytes, and the request takes {size_bytes}",
        )
    drop = []
    for number, bytes_ in oldest:
        if excess <= 0:
            break
        drop.append(number)
        excess -= bytes_
    return Admission(True, tuple(drop))


@dataclass(frozen=True, slots=True)
class ClockState:
    """What is kept of the spool's clock between two runs."""

    spool_s: float
    wall_s: float


class SpoolClock:
    """Seconds that only go forwards: those that pass while the agent runs, by the wall clock while it was off, never far at once.

    A device without a battery-backed clock starts in 1970 and jumps to today when it finds the network. So a jump while the agent
    runs changes nothing, one backwards while it was off counts as no time, and one forwards as at most `longest_gap_s`. Sleep is
    like being off: `elapsed` counts it, but what a machine sleeps through at once uses up no more of an age than that either, so
    that requests are tried once it is awake. An agent that runs asks within `AWAKE_S`; what takes longer, it did not see.
    """

    def __init__(
        self,
        kept: ClockState | None,
        longest_gap_s: float,
        wall: Callable[[], float],
        elapsed: Callable[[], float],
    ) -> None:
        self._wall = wall
        self._elapsed = elapsed
        self._longest_step_s = max(longest_gap_s, AWAKE_S)
        self._asked = elapsed()
        off_s = 0.0 if kept is None else min(max(wall() - kept.wall_s, 0.0), longest_gap_s)
        self._now_s = off_s + (0.0 if kept is None else kept.spool_s)

    def now(self) -> float:
        """Seconds on the spool's own clock."""
        before, self._asked = self._asked, self._elapsed()
        self._now_s += min(self._asked - before, self._longest_step_s)
        return self._now_s

    def state(self) -> ClockState:
        """What to keep for the next run."""
        return ClockState(self.now(), self._wall())
