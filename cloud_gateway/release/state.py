"""Where a release stands: a value that is stored whole with every change, so that a gateway that was killed goes on from it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    """The states of a release; the last four are its end."""

    RUNNING = "running"
    PAUSED = "paused"
    """The split stays as it is; only harm still moves it, backwards."""
    SETTLING = "settling"
    """The candidate has all of the traffic; stable stays warm, so the way back is one step."""
    PROMOTED = "promoted"
    COMPLETED = "completed"
    """A shadow that has seen enough; traffic never moved."""
    ROLLED_BACK = "rolled_back"
    ABORTED = "aborted"

    @property
    def words(self) -> str:
        """As a sentence says it: rolled back."""
        return self.value.replace("_", " ")

    @property
    def is_alive(self) -> bool:
        """Whether both versions are still in play."""
        return self not in ENDED


ENDED = (Status.PROMOTED, Status.COMPLETED, Status.ROLLED_BACK, Status.ABORTED)


@dataclass(frozen=True, slots=True)
class ReleaseState:
    """One release at one moment."""

    status: Status
    share: float
    """Of the traffic, 0 to 1, that the candidate gets."""
    stage: int
    """Counted from 0; of a share that was set by hand, the last stage that is not above it."""
    in_stage_s: float = 0.0
    """How long it has been in this stage while a gateway ran it; a clock that jumps or a gateway that was down adds nothing."""
    reason: str = ""
    """Why it is so."""
