"""What to do about a spooled request that was not answered: whether to ask again, and when. Pure."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from runtime.errors import (
    CallerError,
    CancelledError,
    DeadlineExceededError,
    EdgewardError,
    ModelNotFoundError,
    PeerUnreachableError,
    StorageError,
    UnauthenticatedError,
)

# A request that kills or confuses every engine must not hold up those behind it until it is too old.
MAX_ATTEMPTS: Final = 8
FIRST_PAUSE_S: Final = 0.25
# An outage that heals is noticed within this.
LONGEST_PAUSE_S: Final = 5.0


class Outcome(StrEnum):
    """What becomes of it."""

    ASK_AGAIN = "ask_again"
    GIVE_UP = "give_up"


def after_error(error: EdgewardError, attempts: int) -> Outcome:
    """Whether a later attempt may be answered; `attempts` were made before this one.

    While something is away (the gateway, the model, a key, room on the disk) it waits as long as its age allows. What the request
    itself is wrong about ends it at once, what an engine or a peer fails with after some attempts.
    """
    if _is_outage(error):
        return Outcome.ASK_AGAIN
    if isinstance(error, CallerError):
        return Outcome.GIVE_UP
    return Outcome.ASK_AGAIN if attempts + 1 < MAX_ATTEMPTS else Outcome.GIVE_UP


def pause_s(failures: int) -> float:
    """Seconds before a model is asked again, after so many attempts in a row that were not answered."""
    # The exponent is bounded: a power of a thousand overflows.
    return min(FIRST_PAUSE_S * 2.0 ** min(failures - 1, 20), LONGEST_PAUSE_S)


def _is_outage(error: BaseException | None) -> bool:
    """Also where the error of one arm stands for both: the other's is its cause."""
    while error is not None:
        if isinstance(error, EdgewardError) and error.retryable:
            return True
        away = (ModelNotFoundError, UnauthenticatedError, DeadlineExceededError, CancelledError, StorageError)
        if isinstance(error, (PeerUnreachableError, *away)):
            return True
        error = error.__cause__
    return False
