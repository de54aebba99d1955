"""How many rows a batch gathers at most: the fewest that answer nearly as many rows a second as any number. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

# What one run costs beside the model: the turns of the loop to it, joining, splitting, statistics. Without it a small model whose
# rows cost the same in any batch is not batched at all, or by chance: with 32 digits rows at once that took 0.07 (native gRPC) to
# 0.13 ms (REST) more CPU a request on a 2-core x86-64 VM.
RUN_OVERHEAD_S: Final = 0.0001
HOP_S: Final = 0.0002
"""What a batch costs more that leaves the event loop for a worker thread, and comes back: see `INLINE_LIMIT_S` of the scheduler."""
NEARLY: Final = 0.9
"""Of the most rows a second: who waits for the rest of a batch four times as large waits longer than that is worth."""


def rows_to_gather(measured: Sequence[int], cost_s: Callable[[int], float], at_once_s: float) -> int:
    """At most how many rows are joined to one batch.

    One of the `measured` numbers of rows, or the most that still run on the event loop itself, where a batch takes no longer than
    `at_once_s`. `cost_s(rows)`: measured seconds of one call. Of a model whose row runs on the loop no more of it is believed than
    so many rows one by one take: a program that takes the processor away hits most long calls and few short ones (32 digits rows:
    2.4 ms alone, 12.5 beside a load of 4, November 2026), and by such figures nothing would be gathered.
    """
    row_s = cost_s(1)
    at_once = [rows for rows in range(1, max(measured) + 1) if cost_s(rows) <= at_once_s]

    def per_s(rows: int) -> float:
        took_s = min(cost_s(rows), rows * row_s) if row_s <= at_once_s else cost_s(rows)
        return rows / (took_s + RUN_OVERHEAD_S + (HOP_S if took_s > at_once_s else 0.0))

    sizes = sorted({*measured, *at_once[-1:]})
    enough = NEARLY * max(per_s(rows) for rows in sizes)
    return next(rows for rows in sizes if per_s(rows) >= enough)
