"""Which arm answers a request, edge or cloud, in which order, until when, and why.

Pure: states and `now` in, a decision with its reasons out. `plan.py` has the decision's values, `states.py` says what is known of
both arms, `obstacles.py` what keeps them from answering, `reserve.py` how the time is shared, and `flight.py` carries it out. A
request that must stay on this machine never gets a cloud step, whatever else is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from edge_agent.falling_back import retell
from edge_agent.obstacles import doubt_at_edge, in_ms, obstacle_at_edge, obstacle_in_cloud, typical_time_s, why_doubtful
from edge_agent.plan import LeftOut, Plan, Refusal, RequestFacts, Step, Why, failure_of
from edge_agent.reserve import reserve_s
from edge_agent.rules import Policy
from edge_agent.states import CloudState, LocalState
from runtime.errors import DeadlineExceededError
from runtime.wire.values import Route, ServedBy

# An arm that nobody asks is measured by nobody: after this long one request finds out. Well below the 5 s in which service must be
# normal again after an outage heals, and one request in two seconds is little load.
TRIAL_EVERY_S: Final = 2.0
# Where the other choice is to refuse the request, it costs no more than that; yet a device that is overrun must not try every time.
LAST_RESORT_EVERY_S: Final = 0.1

# Policy fastest asks an unknown cloud now and then, but not where no network could win: a round trip takes longer than this.
EXPLORED_ABOVE_S: Final = 0.005


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
    sifted = _sift(order, policy, request, local, cloud, remaining_s)
    # An arm that may be too late comes after one that will not be; alone, it is still the best there is.
    arms = [*sifted.able, *sifted.doubtful]
    if not arms:
        tried = _last_resort(sifted.left_out, states)
        if tried is None:
            return Refusal(retell([], sifted.left_out), tuple(sifted.left_out))
        why, because = Why.TRIAL, f"{tried.error}; the {tried.arm} is asked all the same, as nothing else is left"
        arms = [tried.arm]
    elif arms[0] is not order[0]:
        reason = sifted.why_not(order[0])
        why, because = reason.why, f"{reason}; answered by the {arms[0]}"
    elif sifted.trial:
        why, because = Why.TRIAL, sifted.trial
    arms += [arm for arm in sifted.long_shots if arm not in arms]
    kept_out = tuple(one for one in sifted.left_out if one.arm not in arms)
    if len(arms) == 1:
        return Plan((Step(arms[0], why, because, request.deadline),), kept_out)
    first, second = arms
    long_shot = sifted.long_shots.get(second)
    kept_s = reserve_s(
        states[first],
        states[second],
        remaining_s,
        is_trial=why is Why.TRIAL,
        is_long_shot=long_shot is not None,
    )
    then = f"only when the {first} fails" if long_shot is None else str(long_shot)
    steps = (
        Step(first, why, because, request.deadline - kept_s),
        Step(second, failure_of(first), then, request.deadline, long_shot is not None),
    )
    return Plan(steps, kept_out)


@dataclass(slots=True)
class _Sifted:
    """The arms of an order by what may be expected of them within the time left; each keeps the order."""

    able: list[ServedBy] = field(default_factory=list)
    doubtful: dict[ServedBy, LeftOut] = field(default_factory=dict)
    """They may be too late, or had better not be asked."""
    left_out: list[LeftOut] = field(default_factory=list)
    """They must not be asked, or cannot answer."""
    long_shots: dict[ServedBy, LeftOut] = field(default_factory=dict)
    """Those of them that were too slow lately, and may be well again."""
    trial: str = ""
    """Why the first one is asked although it was too slow lately; empty: it was not."""

    def why_not(self, first: ServedBy) -> LeftOut:
        """Why `first`, which is not able, comes later or not at all."""
        return self.doubtful.get(first) or self.left_out[0]


def _sift(
    order: Sequence[ServedBy],
    policy: Policy,
    request: RequestFacts,
    local: LocalState,
    cloud: CloudState,
    remaining_s: float,
) -> _Sifted:
    sifted = _Sifted()
    for arm in order:
        state: LocalState | CloudState
        if arm is ServedBy.EDGE:
            state, obstacle, doubt = local, obstacle_at_edge(local, remaining_s), doubt_at_edge(local, remaining_s)
        else:
            state, obstacle = cloud, obstacle_in_cloud(policy, request, cloud, remaining_s)
            doubt = why_doubtful(ServedBy.CLOUD, cloud.predicted_s, remaining_s)
        slow = obstacle or doubt
        if slow is not None and slow.why is Why.TOO_SLOW and state.unasked_s >= TRIAL_EVERY_S:
            # As the first it is tried, as the second it is at least there, should the first fail.
            if arm is order[0]:
                sifted.trial = f"{slow.error}; the {arm} is asked all the same, to see whether it still is so"
            obstacle = doubt = None
        if obstacle is not None:
            sifted.left_out.append(obstacle)
            if obstacle.why is Why.TOO_SLOW and (state.floor_s or 0.0) <= remaining_s:
                sifted.long_shots[arm] = obstacle
        elif doubt is not None:
            sifted.doubtful[arm] = doubt
        else:
            sifted.able.append(arm)
    return sifted


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
            text = f"policy fastest: the cloud may take {in_ms(floor_s)}, the edge needs {in_ms(edge_s)}; asked to learn it"
            return _EDGE_THEN_CLOUD[::-1], Why.TRIAL, text
    if edge_s is None or cloud_s is None:
        text = "policy fastest: the times of both arms are not known yet, so the edge comes first"
        return _EDGE_THEN_CLOUD, Why.FIRST_CHOICE, text
    if local.unasked_s >= TRIAL_EVERY_S and edge_s > cloud_s and local.floor_s is not None and local.floor_s < cloud_s:
        text = f"policy fastest: the edge may take {in_ms(local.floor_s)}, the cloud needs {in_ms(cloud_s)}; asked to learn it"
        return _EDGE_THEN_CLOUD, Why.TRIAL, text
    faster = _EDGE_THEN_CLOUD if edge_s <= cloud_s else _EDGE_THEN_CLOUD[::-1]
    times = f"edge {in_ms(edge_s)}, cloud {in_ms(cloud_s)}"
    return faster, Why.FIRST_CHOICE, f"policy fastest: the {faster[0]} is predicted to answer first ({times})"


def _last_resort(left_out: Sequence[LeftOut], states: Mapping[ServedBy, LocalState | CloudState]) -> LeftOut | None:
    """Of the arms that were left out because they were slow lately, the least slow one whose turn it is."""
    due = [one for one in left_out if one.why is Why.TOO_SLOW and states[one.arm].unasked_s >= LAST_RESORT_EVERY_S]
    return min(due, key=lambda one: typical_time_s(states[one.arm]) or 0.0, default=None)
