"""Which waiting requests run together, and when: values and `now` in, a decision with its reason out.

Nothing here waits or runs; `runtime.serving.scheduler` carries the decisions out.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class BatchPolicy:
    """How far a model's requests are gathered."""

    max_rows: int = 1
    """No batch has more rows, unless one request alone does."""
    max_delay_s: float = 0.0
    """How long the oldest request may wait for company; 0 takes what is waiting, at once."""
    preferred_rows: tuple[int, ...] = ()
    """Sizes worth running without waiting longer, such as those that measured best."""


class Waiting(Protocol):
    """What the decision needs to know of one request that waits."""

    @property
    def key(self) -> Hashable:
        """Requests share a batch only when their keys are equal: names, dtypes and trailing shapes (`rows.batch_key`). What a
        request asks of its answer alone, outputs and parameters, is no part of it: see DECISIONS.md, 39.
        """

    @property
    def rows(self) -> int:
        """How many it has."""

    @property
    def arrived(self) -> float:
        """When it came."""

    @property
    def deadline(self) -> float | None:
        """When nobody waits for it any more."""


@dataclass(frozen=True, slots=True)
class Cut:
    """What to do with the queue now; indices count from its head."""

    take: tuple[int, ...]
    """Requests that run together now, in order; empty when nothing runs yet."""
    expired: tuple[int, ...]
    """Requests that can no longer be answered in time: they leave before they cost compute."""
    wait_until: float | None
    """When to ask again if nothing new arrives; None when `take` is not empty or nothing is left."""
    reason: str


def cut(queue: Iterable[Waiting], now: float, policy: BatchPolicy, cost_s: Callable[[int], float]) -> Cut:
    """The next batch of a queue in order of service (first come, first served within a priority).

    The head decides the key; requests with that key join it in order until one does not fit. `cost_s(rows)` is the measured
    time of a batch, by which a request that would end after its deadline is told apart.
    """
    take: list[int] = []
    expired: list[int] = []
    rows = 0
    head: Waiting | None = None
    is_full = False
    soonest: float | None = None
    for index, waiting in enumerate(queue):
        if waiting.deadline is not None and now + cost_s(waiting.rows) > waiting.deadline:
            expired.append(index)
            continue
        if head is None:
            head = waiting
        elif waiting.key != head.key:
            continue
        elif rows + waiting.rows > policy.max_rows:
            is_full = True
            break
        take.append(index)
        rows += waiting.rows
        if waiting.deadline is not None and (soonest is None or waiting.deadline < soonest):
            soonest = waiting.deadline
        if rows >= policy.max_rows:
            is_full = True
            break
    if head is None:
        return Cut((), tuple(expired), None, "nothing is waiting")
    reason = _why_now(head, rows, is_full, soonest, now, policy, cost_s)
    if reason is not None:
        return Cut(tuple(take), tuple(expired), None, reason)
    return Cut((), tuple(expired), _latest_start(head, rows, soonest, policy, cost_s), f"{rows} rows wait for company")


def _why_now(
    head: Waiting,
    rows: int,
    is_full: bool,
    soonest: float | None,
    now: float,
    policy: BatchPolicy,
    cost_s: Callable[[int], float],
) -> str | None:
    """Why the batch runs at `now`; None when it may gain from waiting."""
    if is_full:
        return f"full: {rows} of {policy.max_rows} rows, or the next one does not fit"
    if policy.max_delay_s <= 0:
        return "no delay is asked for"
    if rows in policy.preferred_rows:
        return f"{rows} rows is a preferred size"
    if now >= head.arrived + policy.max_delay_s:
        return f"the oldest has waited {policy.max_delay_s * 1000:g} ms"
    if soonest is not None and now + 2 * cost_s(rows) >= soonest:
        return "a deadline is near"
    return None


def _latest_start(
    head: Waiting, rows: int, soonest: float | None, policy: BatchPolicy, cost_s: Callable[[int], float]
) -> float:
    """When the batch has to start at the latest: its delay is over, or a deadline is two executions away (one for safety)."""
    delay_over = head.arrived + policy.max_delay_s
    return delay_over if soonest is None else min(delay_over, soonest - 2 * cost_s(rows))
