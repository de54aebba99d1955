"""How much of the time that is left the first arm may not use, so that the second one can still answer. Pure."""

from __future__ import annotations

from typing import Final

from edge_agent.obstacles import typical_time_s
from edge_agent.states import CloudState, LocalState

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


def reserve_s(
    first: LocalState | CloudState,
    second: LocalState | CloudState,
    remaining_s: float,
    *,
    is_trial: bool,
    is_long_shot: bool,
) -> float:
    """How long before the deadline `first` is given up for `second`; 0 where it needs all of the time itself.

    `is_trial`: whether the first was too slow lately; `is_long_shot`: whether the second was.
    """
    if is_long_shot or (second.predicted_s or 0.0) * FALLBACK_MARGIN >= remaining_s:
        return _lost_with_left_s(first, remaining_s)
    # What half of its answers keep, not 19 of 20: of an arm that has just fallen silent, the tail is what it may never reach.
    own_s, other_s = typical_time_s(first), second.predicted_s
    ample_s = max(remaining_s * FALLBACK_SHARE, 0.0 if other_s is None else other_s * FALLBACK_MARGIN)
    scant_s = ample_s if other_s is None else max(remaining_s * SCANT_SHARE, other_s * FALLBACK_MARGIN)
    for kept_s in (ample_s, scant_s):
        # A trial may not have all of the time: it is expected to fail.
        if is_trial or own_s is None or own_s <= remaining_s - kept_s:
            return kept_s
    return 0.0


def _lost_with_left_s(first: LocalState | CloudState, remaining_s: float) -> float:
    """How long before the deadline silence means that `first` is most likely lost; 0 where it does not, or nobody knows."""
    kept_s = remaining_s * FALLBACK_SHARE
    is_lost_then = first.predicted_s is not None and first.predicted_s * LOST_FACTOR <= remaining_s - kept_s
    return kept_s if is_lost_then else 0.0
