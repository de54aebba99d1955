"""What keeps an arm from answering a request, and what makes it doubtful, with the error that it would end in. Pure."""

from __future__ import annotations

from edge_agent.plan import LeftOut, RequestFacts, Why
from edge_agent.rules import Policy
from edge_agent.states import CloudState, LocalState
from runtime.errors import (
    DeadlineExceededError,
    InvalidInputError,
    ModelNotFoundError,
    OverloadedError,
    PeerUnreachableError,
    UnsupportedError,
)
from runtime.wire.values import Privacy, Route, ServedBy


def obstacle_at_edge(local: LocalState, remaining_s: float) -> LeftOut | None:
    """Why this device cannot answer within `remaining_s`; None where it most likely can."""
    if local.refusal is not None:
        why = Why.MODEL_MISSING if isinstance(local.refusal, ModelNotFoundError) else Why.MODEL_NOT_READY
        return LeftOut(ServedBy.EDGE, why, local.refusal)
    typical_s = typical_time_s(local)
    if typical_s is not None and typical_s > remaining_s:
        text = (
            f"this device would answer in {in_ms(typical_s)} (queue and run), but {in_ms(remaining_s)} are left; "
            "allow the request more time"
        )
        retry_after_s = 1.0 if local.predicted_s is None else local.predicted_s
        return LeftOut(ServedBy.EDGE, Why.TOO_SLOW, OverloadedError(text, retry_after_s=retry_after_s))
    return None


def typical_time_s(state: LocalState | CloudState) -> float | None:
    """What half of an arm's answers keep, in seconds; None where nobody knows."""
    return state.predicted_s if state.typical_s is None else state.typical_s


def doubt_at_edge(local: LocalState, remaining_s: float) -> LeftOut | None:
    """Why this device, which could answer, had better not, or may be too late."""
    if local.pressure:
        return LeftOut(ServedBy.EDGE, Why.MEMORY_SHORT, OverloadedError(local.pressure))
    return why_doubtful(ServedBy.EDGE, local.predicted_s, remaining_s)


def why_doubtful(arm: ServedBy, predicted_s: float | None, remaining_s: float) -> LeftOut | None:
    """Why `arm`, which half of the time would make it, may be too late."""
    if predicted_s is None or predicted_s <= remaining_s:
        return None
    text = f"one answer in twenty takes {in_ms(predicted_s)} or longer, but {in_ms(remaining_s)} are left"
    return LeftOut(arm, Why.TOO_SLOW, DeadlineExceededError(text))


def obstacle_in_cloud(policy: Policy, request: RequestFacts, cloud: CloudState, remaining_s: float) -> LeftOut | None:
    """Why the cloud must not be asked, or cannot answer within `remaining_s`; None where it may and most likely can."""
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
    typical_s = typical_time_s(cloud)
    if typical_s is not None and typical_s > remaining_s:
        text = (
            f"the gateway would answer in {in_ms(typical_s)}, but {in_ms(remaining_s)} are left; "
            "allow the request more time"
        )
        return LeftOut(ServedBy.CLOUD, Why.TOO_SLOW, DeadlineExceededError(text))
    return None


def in_ms(seconds: float) -> str:
    """A time for people, to three digits."""
    return f"{seconds * 1e3:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"
