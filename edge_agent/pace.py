"""How long one arm takes for one model, lately: sliding quantiles of the way there and of the work. Pure; `now` is passed in."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from edge_agent.latency import LatencyWindow, nearest_rank

# What a deadline is held against: a time that most answers keep. And what half of them keep: later than that, the odds are bad.
PREDICTED_QUANTILE: Final = 0.95
TYPICAL_QUANTILE: Final = 0.5
FLOOR_QUANTILE: Final = 0.1
# Fewer answers predict nothing: the first one pays for the connection, and one lost answer must not rule an arm out.
MIN_ANSWERS: Final = 5
# Who waited so long in vain knows only that it takes longer. As for anything of unknown end, as long again is the guess.
SILENCE_FACTOR: Final = 2.0
# An answer so much faster than what was expected says that the trouble may be over; so many in a row, that it is.
HEALED_FACTOR: Final = 0.5
HEALED_RUN: Final = 3
# One silence may be bad luck; after two without an answer between them, what was measured before says little.
SILENT_RUN: Final = 2


@dataclass(frozen=True, slots=True)
class Reading:
    """What may be expected of an arm now. Times in seconds, None where too few answers are known."""

    predicted_s: float | None
    """What 19 of 20 answers keep."""
    typical_s: float | None
    """What half of the answers keep."""
    floor_s: float | None
    """What the fastest answers of late took: what it may be again, should the trouble be over."""
    unasked_s: float
    """Since a request last went there; infinite when the last one was well served after silences: the next one may go."""


class Pace:
    """The pace of one arm for one model; used from one thread. Times in seconds."""

    def __init__(self) -> None:
        self._way = LatencyWindow()
        self._work = LatencyWindow()
        self._silences = LatencyWindow()
        self._last_asked = -math.inf
        self._fast_in_a_row = 0
        self._silent_in_a_row = 0
        self._last_silence_s = 0.0

    def note_asked(self, now: float) -> None:
        """One request goes there."""
        self._last_asked = now

    def note_answer(self, way_s: float, work_s: float, now: float) -> None:
        """One answer: `way_s` on the network (or later than predicted), `work_s` in queue and model, as far as known."""
        self._silent_in_a_row = 0
        if self._silences.count(now):
            expected_s = self.read(now).predicted_s
            is_fast = expected_s is not None and way_s + work_s < expected_s * HEALED_FACTOR
            self._fast_in_a_row = self._fast_in_a_row + 1 if is_fast else 0
            if self._fast_in_a_row >= HEALED_RUN:
                self._silences.clear()
        self._way.add(way_s, now)
        self._work.add(work_s, now)

    def note_silence(self, waited_s: float, now: float) -> None:
        """No answer within `waited_s`: given up, withdrawn or timed out."""
        self._last_silence_s = waited_s * SILENCE_FACTOR
        self._silences.add(self._last_silence_s, now)
        self._fast_in_a_row = 0
        self._silent_in_a_row += 1

    def clear(self) -> None:
        """Forgets everything: the link is another than it was."""
        for window in (self._way, self._work, self._silences):
            window.clear()
        self._fast_in_a_row = self._silent_in_a_row = 0

    def count(self, now: float) -> int:
        """How many answers and silences the quantiles rest on."""
        return self._way.count(now) + self._silences.count(now)

    def read(self, now: float) -> Reading:
        """What requests may expect. The way's quantile and the work's together are rather too much than too little."""
        way, work, silences = self._way.values(now), self._work.values(now), self._silences.values(now)
        unasked_s = math.inf if self._fast_in_a_row > 0 else now - self._last_asked
        floor_s = nearest_rank(way, FLOOR_QUANTILE)
        predicted_s = typical_s = None
        if len(way) + len(silences) >= MIN_ANSWERS:
            ways = sorted([*way, *silences]) if silences else way
            predicted_s = (nearest_rank(ways, PREDICTED_QUANTILE) or 0.0) + (
                nearest_rank(work, PREDICTED_QUANTILE) or 0.0
            )
            typical_s = (nearest_rank(ways, TYPICAL_QUANTILE) or 0.0) + (nearest_rank(work, TYPICAL_QUANTILE) or 0.0)
        if silences and self._silent_in_a_row >= SILENT_RUN:
            predicted_s = max(predicted_s or 0.0, self._last_silence_s)
            typical_s = max(typical_s or 0.0, self._last_silence_s)
        return Reading(predicted_s, typical_s, floor_s, unasked_s)

    def describe(self, now: float) -> dict[str, float | int | None]:
        """Quantiles of both parts in milliseconds, for `agent status`."""
        parts = {"network": self._way, "service": self._work}
        told: dict[str, float | int | None] = {"answers": self.count(now)}
        for name, window in parts.items():
            for q in (0.5, 0.95):
                value = window.quantile(q, now)
                told[f"{name}_p{round(q * 100)}_ms"] = None if value is None else round(value * 1e3, 3)
        return told


class Paces:
    """One `Pace` a model; the one that was not used for longest is forgotten when there are too many."""

    # Names of models come from requests: memory must not grow with them.
    LIMIT: Final = 256

    def __init__(self) -> None:
        self._paces: dict[str, Pace] = {}

    def of(self, model: str) -> Pace:
        """The pace for `model`, new where it was never asked."""
        pace = self._paces.pop(model, None) or Pace()
        if len(self._paces) >= self.LIMIT:
            del self._paces[next(iter(self._paces))]
        self._paces[model] = pace
        return pace

    def clear(self) -> None:
        """Forgets every answer, but not when models were last asked."""
        for pace in self._paces.values():
            pace.clear()

    def items(self) -> list[tuple[str, Pace]]:
        """Models and their paces."""
        return list(self._paces.items())
