"""Whether calls take as long as they were measured to: recent times against the cost model, pure.

Compared is the median of the number of rows that was called most, so that single slow calls and mixed batches do not count.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import median
from typing import Final, NamedTuple

from runtime.selection.latency import show_ms

MIN_CALLS: Final = 32
"""Of one number of rows, for a median: its standard error is then about a fifth of the spread of the calls."""
MAX_CALLS: Final = 256
RATIO: Final = 1.5
"""What counts as drift. Repeats spread by up to 15 % on a machine that is called stable, and a session that spins beside
another makes it 1.4 times slower (ONNX Runtime 1.32, 2 cores, November 2026): neither of them is worth measuring again for."""
SLACK_MS: Final = 0.5
"""Calls that come one by one find cold caches and sleeping threads, unlike those of a measurement: 10 ms apart, small models
took 0.2 to 0.5 ms longer than back to back (digits and ResNet-8, ONNX Runtime 1.32, 2 cores, November 2026)."""
LOOKS: Final = 3
SUSTAINED_S: Final = 10.0
"""Seen in so many looks, over so long: another program that starts or a page that loads is over by then."""


class Timing(NamedTuple):
    """A call of `rows` rows."""

    rows: int
    took_ms: float
    alone_ms: float
    """What it would have taken without what else its own process did; see `own_load`."""


class Verdict(StrEnum):
    """What one look found."""

    AS_MEASURED = "as_measured"
    SLOWER = "slower"
    FASTER = "faster"
    OWN_LOAD = "own_load"
    """Slower than measured, and no more than this process's own other work explains: nothing to measure again for."""


@dataclass(frozen=True, slots=True)
class Drift:
    """Calls of `rows` rows take `seen_ms`, where `expected_ms` were measured."""

    rows: int
    seen_ms: float
    expected_ms: float

    @property
    def verdict(self) -> Verdict:
        """Which way it went."""
        return Verdict.SLOWER if self.seen_ms > self.expected_ms else Verdict.FASTER

    def __str__(self) -> str:
        word = "row" if self.rows == 1 else "rows"
        return (
            f"a call of {self.rows} {word} takes {show_ms(self.seen_ms)}, {self.seen_ms / self.expected_ms:.2f} × "
            f"the {show_ms(self.expected_ms)} it was measured to take"
        )


class DriftTest:
    """Takes timings look by look. Not thread-safe."""

    def __init__(self, cost_ms: Callable[[int], float], *, learns_usual: bool = False) -> None:
        """`cost_ms`: measured milliseconds by rows.

        `learns_usual`: what the first look sees above it is how this model is called here, and no drift. For after a
        calibration, which another one would only confirm.
        """
        self._cost_ms = cost_ms
        self._usual: float | None = None if learns_usual else 1.0
        self.verdict: Verdict | None = None
        """Of the last look; None where it saw too few calls."""
        self._timings: list[Timing] = []
        self._lasting = Verdict.AS_MEASURED
        self._looks = 0
        self._since = 0.0

    def look(self, timings: Sequence[Timing], now: float) -> Drift | None:
        """The drift that has lasted by now, seen in `timings` since the last look and the looks before; None without."""
        self.verdict = None
        self._timings = [*self._timings, *timings][-MAX_CALLS:]
        if not self._timings:
            return None
        ((rows, count),) = Counter(timing.rows for timing in self._timings).most_common(1)
        if count < MIN_CALLS:
            return None
        took_ms = median(timing.took_ms for timing in self._timings if timing.rows == rows)
        alone_ms = median(timing.alone_ms for timing in self._timings if timing.rows == rows)
        self._timings = []
        expected_ms = self._cost_ms(rows)
        if self._usual is None:
            self._usual = max(1.0, alone_ms / expected_ms)
        self.verdict = _verdict(took_ms, alone_ms, expected_ms, self._usual)
        if self.verdict is not self._lasting:
            self._lasting, self._looks, self._since = self.verdict, 0, now
        self._looks += 1
        is_drift = self.verdict in (Verdict.SLOWER, Verdict.FASTER)
        if not is_drift or self._looks < LOOKS or now - self._since < SUSTAINED_S:
            return None
        return Drift(rows, alone_ms if self.verdict is Verdict.SLOWER else took_ms, expected_ms)


def _verdict(took_ms: float, alone_ms: float, expected_ms: float, usual: float) -> Verdict:
    most_ms = RATIO * usual * expected_ms + SLACK_MS
    if alone_ms > most_ms:
        return Verdict.SLOWER
    if took_ms > most_ms:
        return Verdict.OWN_LOAD
    return Verdict.FASTER if RATIO * took_ms + SLACK_MS < expected_ms else Verdict.AS_MEASURED
