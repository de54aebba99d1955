"""Which arm answers a request, edge or cloud, in which order, until when, and why.

Pure: states and `now` in, a decision with its reasons out. `plan.py` has the decision's values, `states.py` says what is known of
both arms, `obstacles.py` what keeps them from answering, and `flight.py` carries it out. A request that must stay on this machine
never gets a cloud step, whatever else is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from edge_agent.falling_back import retell
from edge_agent.obstacles import doubt_at_edge, in_ms, obstacle_at_edge, obstacle_in_cloud, typical_time_s, why_doubtful
from edge_agent.plan import LeftOut, Plan, Refusal, RequestFacts, Step, Why, failure_of
from edge_agent.rules import Policy
from edge_agent.states import CloudState, LocalState
from runtime.errors import DeadlineExceededError
from runtime.wire.values import Route, ServedBy

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
            obstacle, doubt = obstacle_at_edge(local, remaining_s), doubt_at_edge(local, remaining_s)
        else:
            obstacle = obstacle_in_cloud(policy, request, cloud, remaining_s)
            doubt = why_doubtful(ServedBy.CLOUD, cloud.predicted_s, remaining_s)
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
        Step(arms[1], failure_of(arms[0]), then, request.deadline, is_long_shot),
    )
    return Plan(steps, kept_out)


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


def _reserve_s(
    first: LocalState | CloudState, second: LocalState | CloudState, remaining_s: float, *, is_trial: bool
) -> float:
    """How long before the deadline `first` is given up for `second`; 0 where it needs all of the time itself.

    A trial may not have it all: it is expected to fail.
    """
    # What half of its answers keep, not 19 of 20: of an arm that has just fallen silent, the tail is what it may never reach.
    own_s, other_s = typical_time_s(first), second.predicted_s
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
