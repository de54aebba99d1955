"""Which of those that are about as fast as any takes least of the processor: what a server chooses by. Pure.

A server shares its cores with its model: what a row takes of them, decoding, batching and the network lack, and so do clients and
other programs of the machine. A second thread that spins while it waits makes a small row a little faster and takes twice as much.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from runtime.selection.measured import Measured

NEAR: Final = 0.1
"""By so much of the fastest one's time a row may take longer, alone and in batches, and count as about as fast ..."""
NEAR_MS: Final = 0.05
"""... or by so many milliseconds, which nobody sees who asks over a network: a request of one digits row takes 0.18 ms beside the
model (REST, one connection, 2 cores, November 2026). For a row of 0.5 ms and more it is the share that counts."""
BATCH: Final = 8
"""Rows of the batches that are compared: what gathers under some load."""
BUSY_NOISE: Final = 0.05
"""Processor times that differ by less are the same: what a few turns of 20 ms leave in doubt (the kernel accounts for a thread on
another core by ticks of up to 4 ms)."""


@dataclass(frozen=True, slots=True)
class Frugal:
    """Who takes least, and among whom."""

    rows: int
    """Of the calls whose processor time was compared: `BATCH`, or 1 where not all of `quick` were timed in batches."""
    quick: tuple[Measured, ...]
    """Those whose single row is about as fast as any."""
    among: tuple[Measured, ...]
    """Those of them that are also in batches of `rows`."""
    ties: tuple[Measured, ...]
    """Those of them that take least, within the noise; at least one."""

    def row_ms(self, measured: Measured) -> float:
        """For how long a row keeps processors busy, in calls of `rows` rows."""
        return dict(measured.busy)[self.rows] / self.rows

    def in_batches_ms(self, measured: Measured) -> float:
        """What a row takes by the clock on the wall, in calls of `rows` rows."""
        return _row_ms(measured, self.rows)


def quick_alone(fit: Sequence[Measured]) -> list[Measured]:
    """Those of `fit` that took turns and whose single row is about as fast as that of any; [] where none took turns."""
    timed = [m for m in fit if m.busy and m.rows == 1]
    return _about_as_fast(timed, 1)


def most_frugal(fit: Sequence[Measured]) -> Frugal | None:
    """Who of `fit` to serve with; None where nobody took turns, and only first calls tell how fast they are."""
    quick = quick_alone(fit)
    if not quick:
        return None
    rows = BATCH if all(BATCH in dict(m.busy) for m in quick) else 1
    among = _about_as_fast(quick, rows)
    busy = {m.candidate.key: dict(m.busy)[rows] for m in among}
    least = min(busy.values())
    ties = tuple(m for m in among if busy[m.candidate.key] <= (1 + BUSY_NOISE) * least)
    return Frugal(rows, tuple(quick), tuple(among), ties)


def _about_as_fast(timed: Sequence[Measured], rows: int) -> list[Measured]:
    if not timed:
        return []
    fastest_ms = min(_row_ms(m, rows) for m in timed)
    most_ms = max((1 + NEAR) * fastest_ms, fastest_ms + NEAR_MS)
    return [m for m in timed if _row_ms(m, rows) <= most_ms]


def _row_ms(measured: Measured, rows: int) -> float:
    return dict(measured.latencies)[rows].median_ms / rows
