"""How long one arm takes for one model, lately: sliding quantiles of the way there and of the work. Pure; `now` is passed in."""

from __future__ import annotations

import math
from typing import Final

from edge_agent.latency import LatencyWindow

# What a deadline is held against: a time that most answers keep. And what half of them keep: later than that, the odds are bad.
PREDICTED_QUANTILE: Final = 0.95
TYPICAL_QUANTILE: Final = 0.5
# Fewer answers predict nothing: the first one pays for the connection, and one lost answer must not rule an arm out.
MIN_ANSWERS: Final = 5
# Who waited so long in vain knows only that it takes longer. As for anything of unknown end, as long again is the guess.
SILENCE_FACTOR: Final = 2.0
# An arm that nobody asks is measured by nobody: after this long one request finds out. Well below the 5 s in which
# service must be normal again after an outage heals, and one request in two seconds is little load.
TRIAL_EVERY_S: Final = 2.0
# An answer so much faster than what was expected, after a pause, says that the trouble is over.
HEALED_FACTOR: Final = 0.5


class Pace:
    """The pace of one arm for one model; used from one thread. Times in seconds."""

    def __init__(self) -> None:
        self._way = LatencyWindow()
        self._work = LatencyWindow()
        self._last_asked = -math.inf
        self._is_after_pause = False

    def note_asked(self, now: float) -> None:
        """One request goes there."""
        self._is_after_pause = self.is_trial_due(now)
        self._last_asked = now

    def note_answer(self, way_s: float, work_s: float, now: float) -> None:
        """One answer: `way_s` on the network (or later than predicted), `work_s` in queue and model, as far as known."""
        expected_s = self.predicted_s(now)
        if self._is_after_pause and expected_s is not None and way_s + work_s < expected_s * HEALED_FACTOR:
            self.clear()
        self._is_after_pause = False
        self._way.add(way_s, now)
        self._work.add(work_s, now)

    def note_silence(self, waited_s: float, now: float) -> None:
        """No answer within `waited_s`: given up, withdrawn or timed out."""
        self._way.add(waited_s * SILENCE_FACTOR, now)

    def clear(self) -> None:
        """Forgets everything: the link is another than it was."""
        self._way.clear()
        self._work.clear()

    def count(self, now: float) -> int:
        """How many answers and silences the quantiles rest on."""
        return self._way.count(now)

    def quantile_s(self, q: float, now: float) -> float | None:
        """The way's quantile and the work's together, which is rather too much than too little; None when there is none."""
        way_s, work_s = self._way.quantile(q, now), self._work.quantile(q, now)
        return None if way_s is None else way_s + (work_s or 0.0)

    def predicted_s(self, now: float) -> float | None:
        """What 19 of 20 answers keep; None while too few are known."""
        return self.quantile_s(PREDICTED_QUANTILE, now) if self.count(now) >= MIN_ANSWERS else None

    def typical_s(self, now: float) -> float | None:
        """What half of the answers keep; None while too few are known."""
        return self.quantile_s(TYPICAL_QUANTILE, now) if self.count(now) >= MIN_ANSWERS else None

    def is_trial_due(self, now: float) -> bool:
        """Whether nobody was sent there for so long that one request should find out how it is."""
        return now - self._last_asked >= TRIAL_EVERY_S

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
