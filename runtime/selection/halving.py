"""Which candidate to time next, when to drop one, when to stop: interleaved rounds with successive halving.

Pure: time and latencies come in, turns go out. Interleaving lets every candidate share the machine's good and bad moments, and
who is ahead is told pass by pass (`side_by_side`).
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from runtime.selection.latency import MIN_TURNS, Latency, summarise
from runtime.selection.side_by_side import Turns, lag_of, levelled_ms, told_beside

TURN_S: Final = 0.02
"""Time for one candidate's turn: tens of calls of a small model, and a large one needs only one."""
MAX_PASSES: Final = 6
"""Of all survivors, within one round: a median of six turns tells halves apart, the time is better spent on fewer."""
FINALISTS: Final = 2
"""Halving ends here; these two are compared until one is clearly ahead or the time is up."""
MIN_FINAL_TURNS: Final = 6
"""Of a single finalist, or passes that two of them shared: fewer than `MIN_TURNS` have no error, and any lead would settle it."""
SURE_LEAD: Final = 1.0
"""Twice as slow: more than a neighbour on one of two cores does to anybody, so settled at any time."""
SEEN_SHARE: Final = 0.5
"""Of the time, before which no lesser lead settles it: a neighbour that takes a core for half a second makes one thread look
better than two by far more than any error of the turns that fell into it (22 %, keyword spotting in int8, 2 cores)."""
CLEAR_LEAD_ERRORS: Final = 4.0
"""Standard errors of their ratio from 1 that settle it: chance alone does this once in 16,000 times. So far behind the fastest, a
candidate need not survive a halving."""
CLOSE_ENOUGH: Final = 0.005
"""With no more than this standard error two finalists that are not told apart are worth the same."""


@dataclass(frozen=True, slots=True)
class Turn:
    """Time this candidate now, for about so long, at least one call."""

    key: str
    duration_s: float
    round: int


class Halving:
    """The schedule of one measurement. Ask `next`, then tell `record` or `fail`; `None` from `next` ends it."""

    def __init__(self, rough_ms: Mapping[str, float], budget_s: float, seed: int, now: float) -> None:
        """`rough_ms`: every candidate with a first idea of its latency."""
        self._rough_ms = dict(rough_ms)
        self._deadline = now + budget_s
        self._settles_from = now + SEEN_SHARE * budget_s
        self._random = random.Random(seed)  # noqa: S311  (an order of measuring, no secret)
        self._survivors = sorted(rough_ms, key=lambda key: rough_ms[key])
        self._dropped: list[str] = []
        """The last first."""
        self._calls: dict[str, dict[int, list[float]]] = {key: {} for key in self._survivors}
        """Of every turn, by its pass over all rounds."""
        self._medians: dict[str, dict[int, float]] = {key: {} for key in self._survivors}
        """The same of the medians."""
        self._pass = 0
        self._round = 0
        self._queue: list[str] = []
        self._start_round(now)

    @property
    def survivors(self) -> tuple[str, ...]:
        """Those still in, the fastest first."""
        ms = levelled_ms({key: self._medians[key] for key in self._survivors if self._medians[key]})
        return tuple(sorted(self._survivors, key=lambda key: ms.get(key, self._score(key))))

    def turns_of(self, key: str) -> list[list[float]]:
        """All call times of a candidate in milliseconds, one list a turn."""
        return list(self._calls[key].values())

    def figures(self) -> dict[str, tuple[Latency, float | None]]:
        """Of everyone that had a turn and has not failed, the fastest first: its figures as told beside the fastest, and the
        standard error of its lag behind it. None where they shared no pass, and the figures are as they were.
        """
        timed = {key: self._calls[key] for key in (*self.survivors, *self._dropped) if self._calls[key]}
        leader = next(iter(timed), "")
        return {key: told_beside(key, leader, timed) or (summarise(self.turns_of(key)), None) for key in timed}

    def next(self, now: float) -> Turn | None:
        """The next turn; None when the time is up or nothing more is to be learnt."""
        is_refilled = False
        while now < self._deadline and self._survivors:
            if self._queue:
                key = self._queue.pop(0)
                if now + self._estimate_ms(key) / 1000 <= self._deadline:
                    return Turn(key, min(TURN_S, self._deadline - now), self._round)
                continue
            if is_refilled or not self._turns_in_round():
                return None  # not one call fits into the time that is left
            is_refilled = True
            self._passes += 1
            if len(self._survivors) <= FINALISTS:
                if self._is_settled(now):
                    return None
            elif now >= self._round_end or self._passes >= MAX_PASSES:
                self._halve()
                self._start_round(now)
                continue
            self._queue = self._shuffled()
        return None

    def record(self, turn: Turn, latencies_ms: Sequence[float]) -> None:
        """What a turn measured."""
        self._calls[turn.key][self._pass] = list(latencies_ms)
        self._medians[turn.key][self._pass] = median(latencies_ms)

    def fail(self, key: str) -> None:
        """A candidate is out: it raised, crashed or hung."""
        self._survivors.remove(key)
        self._queue = [queued for queued in self._queue if queued != key]

    def _start_round(self, now: float) -> None:
        self._round += 1
        self._passes = 0
        self._before = self._pass
        rounds_left = max(0, math.ceil(math.log2(max(len(self._survivors), 1) / FINALISTS))) + 1
        self._round_end = now + (self._deadline - now) / rounds_left
        self._queue = self._shuffled()

    def _shuffled(self) -> list[str]:
        self._pass += 1
        return self._random.sample(self._survivors, len(self._survivors))

    def _halve(self) -> None:
        """Keeps the faster half by this round's turns; who got no turn for want of time is no faster than the rest.

        And whoever is not clearly behind the fastest: one bad moment of the machine must not end a candidate.
        """
        keep = max(FINALISTS, math.ceil(len(self._survivors) / 2))
        seen = self._turns_in_round()
        ms = {key: median(turns.values()) for key, turns in seen.items()} | levelled_ms(seen)
        order = sorted(self._survivors, key=lambda key: ms.get(key, math.inf))
        self._survivors = [key for at, key in enumerate(order) if at < keep or self._may_lead(key, order[0])]
        self._dropped = [key for key in order if key not in self._survivors] + self._dropped

    def _may_lead(self, key: str, fastest: str) -> bool:
        """Whether all turns so far leave it open which of the two is faster."""
        lag = lag_of(self._medians[key], self._medians[fastest])
        return lag is not None and lag.passes >= MIN_TURNS and lag.share <= CLEAR_LEAD_ERRORS * lag.error

    def _turns_in_round(self) -> dict[str, Turns]:
        """Of those that had a turn."""
        of = {key: {at: ms for at, ms in self._medians[key].items() if at > self._before} for key in self._survivors}
        return {key: turns for key, turns in of.items() if turns}

    def _is_settled(self, now: float) -> bool:
        if len(self._survivors) == 1:
            return len(self._calls[self._survivors[0]]) >= MIN_FINAL_TURNS
        first, second = self.survivors[:FINALISTS]
        lag = lag_of(self._medians[second], self._medians[first])
        if lag is None or lag.passes < MIN_FINAL_TURNS or (now < self._settles_from and lag.share < SURE_LEAD):
            return False
        return lag.share > CLEAR_LEAD_ERRORS * lag.error or lag.error < CLOSE_ENOUGH

    def _score(self, key: str) -> float:
        return median(self._medians[key].values()) if self._medians[key] else self._rough_ms[key]

    def _estimate_ms(self, key: str) -> float:
        return next(reversed(self._medians[key].values()), self._rough_ms[key])
