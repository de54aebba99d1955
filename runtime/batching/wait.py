"""How long a request waits for its turn where several batches run at the same time. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heapify, heapreplace


def starts_in_s(busy_s: Sequence[float], slots: int, full: int, full_s: float, rest_s: float) -> float:
    """Seconds until a request behind everything that waits can start.

    `slots` batches run at the same time; those that run now are busy for `busy_s`. Before the request there are `full` batches of
    `full_s` seconds each and one of `rest_s` (0: none). Each batch starts in the slot that is free first.
    """
    free = sorted(max(each, 0.0) for each in busy_s)
    free = [0.0] * (slots - len(free)) + free
    if slots == 1:
        return free[0] + full * full_s + rest_s
    if full and full_s > 0:
        # Batches that start at least one batch before the level to which all of them fill the slots are among the first
        # in any order, so they need not be dealt out one by one; fewer than one a slot are left.
        level = _level(free, full * full_s)
        each = [max(int((level - at) / full_s), 0) for at in free]
        free = [at + count * full_s for at, count in zip(free, each, strict=True)]
        left = full - sum(each)
    else:
        left = 0
    heapify(free)
    for _ in range(max(left, 0)):
        heapreplace(free, free[0] + full_s)
    if rest_s:
        heapreplace(free, free[0] + rest_s)
    return free[0]


def _level(free: Sequence[float], work_s: float) -> float:
    """How high `work_s` stands above the ascending `free` when it is poured over them."""
    below = 0.0
    for count, at in enumerate(free):
        if count and at * count - below >= work_s:
            return (below + work_s) / count
        below += at
    return (below + work_s) / len(free)
