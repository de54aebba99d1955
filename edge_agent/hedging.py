"""When a second arm is asked although the first has not failed: tied to what the first one usually takes. Pure.

"The tail at scale" (Dean and Barroso, 2013): a request that waits longer than the 95th percentile is worth a second one. Not
before the other arm could win, though: asking a cloud that takes 80 ms because a 0.3 ms run took 0.6 ms is only load.
"""

from __future__ import annotations

from typing import Final

from edge_agent.plan import Plan, Why
from edge_agent.reserve import FALLBACK_MARGIN
from edge_agent.states import CloudState, LocalState
from runtime.wire.values import ServedBy

# Of the time left, while nobody knows what the second arm takes now: the first has most likely failed; the second gets the rest.
UNKNOWN_SHARE: Final = 0.25


def hedge_at(plan: Plan, local: LocalState, cloud: CloudState, now: float) -> float | None:
    """The time from which the plan's second arm may be asked beside the first; None: not before the first is given up.

    It takes the live p95 of the first arm; that or the second arm's usual time is waited for, the later of both. Beside a trial,
    which is expected to be too slow, the second is asked at once where the time at the end would not be enough for it. So
    is a long shot: of two slow arms, the one that is kept waiting loses the time that it may need.
    """
    if len(plan.steps) < 2:
        return None
    first, second = plan.steps[0], plan.steps[1]
    states: dict[ServedBy, LocalState | CloudState] = {ServedBy.EDGE: local, ServedBy.CLOUD: cloud}
    own, other = states[first.arm], states[second.arm]
    other_s = other.predicted_s if other.typical_s is None else other.typical_s
    if other_s is None or second.is_long_shot:
        other_s = (second.deadline - now) * UNKNOWN_SHARE
    if first.why is Why.TRIAL:
        # It is expected to be too slow. Where the time that is kept for the second would not be enough, both are asked at once.
        kept_s = second.deadline - first.deadline
        if other.predicted_s is not None and other.predicted_s * FALLBACK_MARGIN <= kept_s:
            return None
        at = now
    else:
        p95_s = own.predicted_s if isinstance(own, CloudState) or own.is_live else None
        if p95_s is None:
            return None
        at = now + max(p95_s, other_s)
    return at if at < first.deadline else None
