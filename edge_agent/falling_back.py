"""What follows from an arm's error: whether the other one may do better, and what is told where nobody could. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from edge_agent.plan import LeftOut, Plan, Step, Why, failure_of
from runtime.errors import (
    BackendUnavailableError,
    CallerError,
    CancelledError,
    EdgewardError,
    ModelNotFoundError,
    ModelNotReadyError,
    OverloadedError,
    PayloadTooLargeError,
    UnsupportedError,
)
from runtime.wire.values import ServedBy

# These of a caller's errors do not say that the request is wrong, but that this arm is not the place for it: no such
# model here; in the cloud also a smaller cap or a part of the protocol that it lacks.
_ELSEWHERE: Final = {
    ServedBy.EDGE: (ModelNotFoundError,),
    ServedBy.CLOUD: (ModelNotFoundError, PayloadTooLargeError, UnsupportedError),
}


def after_failure(
    plan: Plan, failed: Step, error: EdgewardError, now: float, *, is_idempotent: bool = True
) -> Step | None:
    """The step to take after `failed` ended in `error`, with the reason that its reply shows; None: raise the error.

    A caller's error never falls back: the other arm would say the same. Nor does what may have run and must not run twice.
    """
    later = plan.steps[[step.arm for step in plan.steps].index(failed.arm) + 1 :]
    if not later or not may_fall_back(failed.arm, error) or now >= later[0].deadline:
        return None
    if not is_idempotent and not has_not_run(error):
        return None
    step = later[0]
    return Step(
        step.arm, failure_of(failed.arm), f"{failed.arm} failed: {error}; answered by the {step.arm}", step.deadline
    )


def has_not_run(error: EdgewardError) -> bool:
    """Whether `error` says that the model did not begin to run."""
    return isinstance(error, ModelNotFoundError | ModelNotReadyError | OverloadedError | BackendUnavailableError)


def may_fall_back(arm: ServedBy, error: EdgewardError) -> bool:
    """Whether the other arm may do better after `arm` ended in `error`."""
    if isinstance(error, CancelledError):
        return False
    return not isinstance(error, CallerError) or isinstance(error, _ELSEWHERE[arm])


def retell(failures: Sequence[tuple[ServedBy, EdgewardError]], left_out: Sequence[LeftOut]) -> EdgewardError:
    """One error for a request that no arm answered: the class of the first choice, the stories of all.

    "Not found" and "the cloud was out of the question" are the class only when no arm got further than that. That there is no
    gateway is told only where the cloud was the first choice: whoever has none does not miss it in every error.
    """
    stories = [(_rank(error), f"{arm} failed: {error}", error) for arm, error in failures]
    for one in left_out:
        if one.why is not Why.NO_GATEWAY or not stories:
            stories.append((_rank(one.error, one.why), str(one), one.error))
    if len(stories) == 1:
        return stories[0][2]
    spokesman = min(stories, key=lambda story: story[0])[2]
    return _with_text(spokesman, "; ".join(text for _, text, _ in stories))


def _rank(error: EdgewardError, why: Why | None = None) -> int:
    if why in (Why.NO_GATEWAY, Why.PRIVACY):
        return 2
    return 1 if isinstance(error, ModelNotFoundError) else 0


def _with_text(error: EdgewardError, text: str) -> EdgewardError:
    told = OverloadedError(text, error.retry_after_s) if isinstance(error, OverloadedError) else type(error)(text)
    told.__cause__ = error
    return told
