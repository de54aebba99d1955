"""What routing decides, as values: which arms are tried, in which order, until when and why. Pure; `routing.py` fills them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from runtime.errors import EdgewardError
from runtime.wire.values import Privacy, Route, ServedBy


class Why(StrEnum):
    """The class of a reason: what the counters of `agent status` are kept by."""

    FIRST_CHOICE = "first_choice"
    ASKED_FOR = "asked_for"
    PRIVACY = "privacy"
    MODEL_MISSING = "model_missing"
    MODEL_NOT_READY = "model_not_ready"
    TOO_SLOW = "too_slow"
    MEMORY_SHORT = "memory_short"
    BREAKER_OPEN = "breaker_open"
    NO_GATEWAY = "no_gateway"
    EDGE_FAILED = "edge_failed"
    CLOUD_FAILED = "cloud_failed"
    EDGE_LATE = "edge_late"
    CLOUD_LATE = "cloud_late"
    TRIAL = "trial"
    BESIDE_TRIAL = "beside_trial"
    CONFIDENT = "confident"
    UNSURE = "unsure"
    UNSURE_ALONE = "unsure_alone"

    @property
    def is_fallback(self) -> bool:
        """Whether an answer with this reason came from another arm than the rule wished for."""
        return self in _FALLBACKS


_FALLBACKS: Final = frozenset(
    {
        Why.MODEL_MISSING,
        Why.MODEL_NOT_READY,
        Why.TOO_SLOW,
        Why.MEMORY_SHORT,
        Why.BREAKER_OPEN,
        Why.NO_GATEWAY,
        Why.EDGE_FAILED,
        Why.CLOUD_FAILED,
        Why.EDGE_LATE,
        Why.CLOUD_LATE,
        Why.BESIDE_TRIAL,
        Why.UNSURE_ALONE,
    }
)


@dataclass(frozen=True, slots=True)
class RequestFacts:
    """What the decision needs to know of a request."""

    route: Route
    privacy: Privacy
    deadline: float
    """Monotonic seconds."""
    is_idempotent: bool = True
    """Whether it may run twice: a part of a sequence may not."""


@dataclass(frozen=True, slots=True)
class Step:
    """One arm to try."""

    arm: ServedBy
    why: Why
    reason: str
    deadline: float
    """Monotonic seconds after which nobody relies on this arm alone: before the request's own when another arm follows."""
    is_long_shot: bool = False
    """Whether this arm was too slow lately, and may be well again."""

    @property
    def is_worth_telling(self) -> bool:
        """Whether the reply must give the reason: it was not plainly the policy's first choice."""
        return self.why is not Why.FIRST_CHOICE


@dataclass(frozen=True, slots=True)
class LeftOut:
    """One arm that is not tried, and the error that it would have ended in."""

    arm: ServedBy
    why: Why
    error: EdgewardError

    def __str__(self) -> str:
        return f"{self.arm} was not asked: {self.error}"


@dataclass(frozen=True, slots=True)
class Plan:
    """The arms to try in this order (one or two), and those that are not tried."""

    steps: tuple[Step, ...]
    left_out: tuple[LeftOut, ...] = ()


@dataclass(frozen=True, slots=True)
class Refusal:
    """No arm can answer: raise `error`."""

    error: EdgewardError
    left_out: tuple[LeftOut, ...] = ()


def failure_of(arm: ServedBy) -> Why:
    """Why the other arm answers once `arm` has failed."""
    return Why.EDGE_FAILED if arm is ServedBy.EDGE else Why.CLOUD_FAILED
