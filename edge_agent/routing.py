"""Which arm answers a request, edge or cloud, in which order, until when, and why.

Pure: states and `now` in, a decision with its reasons out. `service.py` carries it out, and `states.py` says what is
known of both arms. A request that must stay on this machine never gets a cloud step, whatever else is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from edge_agent.rules import Policy as Policy
from edge_agent.states import CloudState, LocalState
from runtime.errors import (
    BackendUnavailableError,
    CallerError,
    CancelledError,
    DeadlineExceededError,
    EdgewardError,
    InvalidInputError,
    ModelNotFoundError,
    ModelNotReadyError,
    OverloadedError,
    PayloadTooLargeError,
    PeerUnreachableError,
    UnsupportedError,
)
from runtime.wire.values import Privacy, Route, ServedBy

# The share of the time left that is kept for the second arm, where the first one does not usually need it: it keeps most, and a
# hanging first arm still leaves the second one 2.5 s of the default 10 s. Less (what the second takes, and half as much again)
# was measured to lose requests: at 285 of 300 ms an edge of 10 ms answers in time, but its answer is late where it is waited for.
FALLBACK_SHARE: Final = 0.25
# Where the first one does usually need that much: a reserve below this is spent on the way back to whoever asked.
SCANT_SHARE: Final = 0.1
# A predicted time is about a p95: half as much again covers what is beyond it on a healthy arm.
FALLBACK_MARGIN: Final = 1.5

# So much longer than 19 of 20 answers take is hardly a tail any more: whoever is still waited for then is most likely lost.
LOST_FACTOR: Final = 1.4

# An arm that nobody asks is measured by nobody: after this long one request finds out. Well below the 5 s in which service must be
# normal again after an outage heals, and one request in two seconds is little load.
TRIAL_EVERY_S: Final = 2.0
# Where the other choice is to refuse the request, it costs no more than that; yet a device that is overrun must not try every time.
LAST_RESORT_EVERY_S: Final = 0.1

# Policy fastest asks an unknown cloud now and then, but not where no network could win: a round trip takes longer than this.
EXPLORED_ABOVE_S: Final = 0.005

# These of a caller's errors do not say that the request is wrong, but that this arm is not the place for it: no such
# model here; in the cloud also a smaller cap or a part of the protocol that it lacks.
_ELSEWHERE: Final = {
    ServedBy.EDGE: (ModelNotFoundError,),
    ServedBy.CLOUD: (ModelNotFoundError, PayloadTooLargeError, UnsupportedError),
}


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


def decide(policy: Policy, request: RequestFacts, local: LocalState, cloud: CloudState, now: float) -> Plan | Refusal:
    """The arms that may answer `request` and can still meet its deadline, best first; a refusal when there is none.

    The request's `route` outranks the policy; `privacy` outranks both. An arm of unknown time counts as fast enough.
    """
    remaining_s = request.deadline - now
    if remaining_s <= 0:
        return Refusal(
            DeadlineExceededError(
                f"the deadline passed {-remaining_s:.3f} s before the request was routed; allow it more time"
            )
        )
    order, why, because = _order(policy, request.route, local, cloud)
    states: dict[ServedBy, LocalState | CloudState] = {ServedBy.EDGE: local, ServedBy.CLOUD: cloud}
    left_out: list[LeftOut] = []
    able: list[ServedBy] = []
    doubtful: dict[ServedBy, LeftOut] = {}
    long_shots: dict[ServedBy, LeftOut] = {}
    for arm in order:
        if arm is ServedBy.EDGE:
            obstacle, doubt = _obstacle_at_edge(local, remaining_s), _doubt_at_edge(local, remaining_s)
        else:
            obstacle = _obstacle_in_cloud(policy, request, cloud, remaining_s)
            doubt = _doubt(ServedBy.CLOUD, cloud.predicted_s, remaining_s)
        slow = obstacle or doubt
        if slow is not None and slow.why is Why.TOO_SLOW and states[arm].unasked_s >= TRIAL_EVERY_S:
            # As the first it is tried, as the second it is at least there, should the first fail.
            if arm is order[0]:
                why, because = (
                    Why.TRIAL,
                    f"{slow.error}; the {arm} is asked all the same, to see whether it still is so",
                )
            obstacle = doubt = None
        if obstacle is not None:
            left_out.append(obstacle)
            if obstacle.why is Why.TOO_SLOW and (states[arm].floor_s or 0.0) <= remaining_s:
                long_shots[arm] = obstacle
        elif doubt is not None:
            doubtful[arm] = doubt
        else:
            able.append(arm)
    # An arm that may be too late comes after one that will not be; alone, it is still the best there is.
    overtaken = next((doubtful[arm] for arm in order if able and arm in doubtful), None)
    arms = [*able, *doubtful]
    if not arms and (tried := _last_resort(left_out, states)) is not None:
        why, because = Why.TRIAL, f"{tried.error}; the {tried.arm} is asked all the same, as nothing else is left"
        arms = [tried.arm]
    elif not arms:
        return Refusal(retell([], left_out), tuple(left_out))
    elif arms[0] is not order[0]:
        reason = overtaken or left_out[0]
        why, because = reason.why, f"{reason}; answered by the {arms[0]}"
    arms += [arm for arm in long_shots if arm not in arms]
    kept_out = tuple(one for one in left_out if one.arm not in arms)
    if len(arms) == 1:
        return Plan((Step(arms[0], why, because, request.deadline),), kept_out)
    first, second = states[arms[0]], states[arms[1]]
    is_long_shot = arms[1] in long_shots
    if is_long_shot or (second.predicted_s or 0.0) * FALLBACK_MARGIN >= remaining_s:
        reserve_s = _lost_with_left_s(first, remaining_s)
    else:
        reserve_s = _reserve_s(first, second, remaining_s, is_trial=why is Why.TRIAL)
    then = str(long_shots[arms[1]]) if is_long_shot else f"only when the {arms[0]} fails"
    steps = (
        Step(arms[0], why, because, request.deadline - reserve_s),
        Step(arms[1], _failed(arms[0]), then, request.deadline, is_long_shot),
    )
    return Plan(steps, kept_out)


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
        step.arm, _failed(failed.arm), f"{failed.arm} failed: {error}; answered by the {step.arm}", step.deadline
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

    "Not found" and "the cloud was out of the question" are the class only when no arm got further than that.
    """
    stories = [(_rank(error), f"{arm} failed: {error}", error) for arm, error in failures]
    stories += [(_rank(one.error, one.why), str(one), one.error) for one in left_out]
    if len(stories) == 1:
        return stories[0][2]
    spokesman = min(stories, key=lambda story: story[0])[2]
    return _with_text(spokesman, "; ".join(text for _, text, _ in stories))


def _order(policy: Policy, route: Route, local: LocalState, cloud: CloudState) -> tuple[tuple[ServedBy, ...], Why, str]:
    """The arms that policy and route allow, best first, and the reason of the first."""
    if route is Route.EDGE:
        return (ServedBy.EDGE,), Why.ASKED_FOR, "route=edge was asked for"
    if route is Route.CLOUD:
        return (ServedBy.CLOUD,), Why.ASKED_FOR, "route=cloud was asked for"
    if policy is Policy.FASTEST:
        return _by_time(local, cloud)
    return _ORDERS[policy], Why.FIRST_CHOICE, _POLICY_SAYS[policy]


_EDGE_THEN_CLOUD: Final = (ServedBy.EDGE, ServedBy.CLOUD)
_ORDERS: Final = {
    Policy.EDGE_FIRST: _EDGE_THEN_CLOUD,
    Policy.EDGE_ONLY: _EDGE_THEN_CLOUD[:1],
    Policy.CLOUD_FIRST: _EDGE_THEN_CLOUD[::-1],
    Policy.CLOUD_ONLY: _EDGE_THEN_CLOUD[1:],
}
_POLICY_SAYS: Final = {policy: f"policy {policy}" for policy in Policy}


def _by_time(local: LocalState, cloud: CloudState) -> tuple[tuple[ServedBy, ...], Why, str]:
    """Policy fastest: by the predicted times, and now and then the arm that may be faster than it was."""
    edge_s, cloud_s = local.predicted_s, cloud.predicted_s
    if edge_s is not None and cloud.unasked_s >= TRIAL_EVERY_S and (cloud_s is None or cloud_s > edge_s):
        floor_s = EXPLORED_ABOVE_S if cloud.floor_s is None else cloud.floor_s
        if floor_s < edge_s:
            text = f"policy fastest: the cloud may take {_ms(floor_s)}, the edge needs {_ms(edge_s)}; asked to learn it"
            return _EDGE_THEN_CLOUD[::-1], Why.TRIAL, text
    if edge_s is None or cloud_s is None:
        text = "policy fastest: the times of both arms are not known yet, so the edge comes first"
        return _EDGE_THEN_CLOUD, Why.FIRST_CHOICE, text
    if local.unasked_s >= TRIAL_EVERY_S and edge_s > cloud_s and local.floor_s is not None and local.floor_s < cloud_s:
        text = (
            f"policy fastest: the edge may take {_ms(local.floor_s)}, the cloud needs {_ms(cloud_s)}; asked to learn it"
        )
        return _EDGE_THEN_CLOUD, Why.TRIAL, text
    faster = _EDGE_THEN_CLOUD if edge_s <= cloud_s else _EDGE_THEN_CLOUD[::-1]
    times = f"edge {_ms(edge_s)}, cloud {_ms(cloud_s)}"
    return faster, Why.FIRST_CHOICE, f"policy fastest: the {faster[0]} is predicted to answer first ({times})"


def _last_resort(left_out: Sequence[LeftOut], states: Mapping[ServedBy, LocalState | CloudState]) -> LeftOut | None:
    """Of the arms that were left out because they were slow lately, the least slow one whose turn it is."""
    due = [one for one in left_out if one.why is Why.TOO_SLOW and states[one.arm].unasked_s >= LAST_RESORT_EVERY_S]
    return min(due, key=lambda one: _typical_s(states[one.arm]) or 0.0, default=None)


def _obstacle_at_edge(local: LocalState, remaining_s: float) -> LeftOut | None:
    if local.refusal is not None:
        why = Why.MODEL_MISSING if isinstance(local.refusal, ModelNotFoundError) else Why.MODEL_NOT_READY
        return LeftOut(ServedBy.EDGE, why, local.refusal)
    typical_s = _typical_s(local)
    if typical_s is not None and typical_s > remaining_s:
        text = (
            f"this device would answer in {_ms(typical_s)} (queue and run), but {_ms(remaining_s)} are left; "
            "allow the request more time"
        )
        retry_after_s = 1.0 if local.predicted_s is None else local.predicted_s
        return LeftOut(ServedBy.EDGE, Why.TOO_SLOW, OverloadedError(text, retry_after_s=retry_after_s))
    return None


def _typical_s(state: LocalState | CloudState) -> float | None:
    return state.predicted_s if state.typical_s is None else state.typical_s


def _doubt_at_edge(local: LocalState, remaining_s: float) -> LeftOut | None:
    if local.pressure:
        return LeftOut(ServedBy.EDGE, Why.MEMORY_SHORT, OverloadedError(local.pressure))
    return _doubt(ServedBy.EDGE, local.predicted_s, remaining_s)


def _doubt(arm: ServedBy, predicted_s: float | None, remaining_s: float) -> LeftOut | None:
    """Why `arm`, which half of the time would make it, may be too late."""
    if predicted_s is None or predicted_s <= remaining_s:
        return None
    text = f"one answer in twenty takes {_ms(predicted_s)} or longer, but {_ms(remaining_s)} are left"
    return LeftOut(arm, Why.TOO_SLOW, DeadlineExceededError(text))


def _obstacle_in_cloud(policy: Policy, request: RequestFacts, cloud: CloudState, remaining_s: float) -> LeftOut | None:
    if request.privacy is Privacy.LOCAL_ONLY:
        text = "privacy=local_only keeps the request on this device"
        if request.route is Route.CLOUD:
            text += ", but route=cloud was asked for; drop one of them"
        elif policy is Policy.CLOUD_ONLY:
            text += ", but the policy is cloud_only; ask with route=edge, or run the agent with another policy"
        return LeftOut(ServedBy.CLOUD, Why.PRIVACY, InvalidInputError(text))
    if not cloud.is_configured:
        text = "this agent has no gateway; start it with --gateway HOST:PORT to use the cloud"
        return LeftOut(ServedBy.CLOUD, Why.NO_GATEWAY, UnsupportedError(text))
    if not cloud.is_permitted:
        return LeftOut(ServedBy.CLOUD, Why.BREAKER_OPEN, PeerUnreachableError(cloud.detail))
    typical_s = _typical_s(cloud)
    if typical_s is not None and typical_s > remaining_s:
        text = (
            f"the gateway would answer in {_ms(typical_s)}, but {_ms(remaining_s)} are left; "
            "allow the request more time"
        )
        return LeftOut(ServedBy.CLOUD, Why.TOO_SLOW, DeadlineExceededError(text))
    return None


def _reserve_s(
    first: LocalState | CloudState, second: LocalState | CloudState, remaining_s: float, *, is_trial: bool
) -> float:
    """How long before the deadline `first` is given up for `second`; 0 where it needs all of the time itself.

    A trial may not have it all: it is expected to fail.
    """
    # What half of its answers keep, not 19 of 20: of an arm that has just fallen silent, the tail is what it may never reach.
    own_s, other_s = _typical_s(first), second.predicted_s
    ample_s = max(remaining_s * FALLBACK_SHARE, 0.0 if other_s is None else other_s * FALLBACK_MARGIN)
    scant_s = ample_s if other_s is None else max(remaining_s * SCANT_SHARE, other_s * FALLBACK_MARGIN)
    for reserve_s in (ample_s, scant_s):
        if is_trial or own_s is None or own_s <= remaining_s - reserve_s:
            return reserve_s
    return 0.0


def _lost_with_left_s(first: LocalState | CloudState, remaining_s: float) -> float:
    """How long before the deadline silence means that `first` is most likely lost; 0 where it does not, or nobody knows."""
    reserve_s = remaining_s * FALLBACK_SHARE
    is_lost_then = first.predicted_s is not None and first.predicted_s * LOST_FACTOR <= remaining_s - reserve_s
    return reserve_s if is_lost_then else 0.0


def _failed(arm: ServedBy) -> Why:
    return Why.EDGE_FAILED if arm is ServedBy.EDGE else Why.CLOUD_FAILED


def _rank(error: EdgewardError, why: Why | None = None) -> int:
    if why in (Why.NO_GATEWAY, Why.PRIVACY):
        return 2
    return 1 if isinstance(error, ModelNotFoundError) else 0


def _with_text(error: EdgewardError, text: str) -> EdgewardError:
    told = OverloadedError(text, error.retry_after_s) if isinstance(error, OverloadedError) else type(error)(text)
    told.__cause__ = error
    return told


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"
