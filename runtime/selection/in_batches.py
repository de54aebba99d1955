"""Turns in batches of those whose single row is about as fast as any: what a choice for efficiency goes by, beside `efficiency`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from statistics import median
from typing import Final

from runtime.selection.bench import Bench, CandidateFailedError, Timed
from runtime.selection.candidates import Candidate, Rejected, rejected_because
from runtime.selection.efficiency import BATCH
from runtime.selection.halving import TURN_S
from runtime.selection.latency import summarise
from runtime.selection.measured import Measured
from runtime.selection.side_by_side import levelled_ms

log = logging.getLogger(__name__)

MOST_PASSES: Final = 8
"""What a few threads take differs by half, which so many tell; a large model has time for one or two."""


def time_in_batches(
    bench: Bench, quick: Sequence[Measured], budget_s: float, clock: Callable[[], float]
) -> tuple[dict[str, Measured], list[Rejected]]:
    """`quick`, by key, with what calls of `BATCH` rows take, by the clock and of the processor; and who failed in them.

    As they are where there is nobody to compare with, or no time for all. Told pass by pass, as a moment in which a neighbour had
    a core befalls all of them. Whoever serves gathers batches, so who fails is out.
    """
    # A warm-up and a call that counts, each as long as so many single rows.
    needed_s = sum(2 * BATCH * m.latency.median_ms / 1000 for m in quick)
    if len(quick) < 2 or needed_s > budget_s:
        return {m.candidate.key: m for m in quick}, []
    turns, rejected = _turns(bench, [m.candidate for m in quick], clock() + budget_s, clock)
    clocks = {key: {at: median(timed.latencies_ms) for at, timed in of.items()} for key, of in turns.items()}
    busy = {key: {at: timed.busy_ms for at, timed in of.items()} for key, of in turns.items()}
    wall_ms, busy_ms = levelled_ms(clocks), levelled_ms(busy)
    told = dict[str, Measured]()
    for m in quick:
        key = m.candidate.key
        if key in turns:
            own = summarise([timed.latencies_ms for timed in turns[key].values()])
            latency = replace(own, median_ms=wall_ms[key], p95_ms=max(wall_ms[key], own.p95_ms))
            told[key] = m.with_latency(BATCH, latency).with_busy(BATCH, busy_ms[key])
    return told, rejected


def _turns(
    bench: Bench, candidates: Sequence[Candidate], end: float, clock: Callable[[], float]
) -> tuple[Mapping[str, Mapping[int, Timed]], list[Rejected]]:
    """By candidate and pass, at least one pass; all take part in every one, but who fails."""
    turns: dict[str, dict[int, Timed]] = {candidate.key: {} for candidate in candidates}
    rejected: list[Rejected] = []
    for at in range(MOST_PASSES):
        if at and clock() >= end:
            break
        for candidate in candidates:
            if candidate.key not in turns:
                continue
            try:
                turns[candidate.key][at] = bench.time(candidate, BATCH, TURN_S)
            except CandidateFailedError as error:
                log.info("candidate %s is out: %s", candidate, error)
                rejected.append(rejected_because(candidate, str(error)))
                del turns[candidate.key]
    return turns, rejected
