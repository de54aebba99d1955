"""Whether calls take as long as they were measured to: recent times against the cost model, pure.

Compared is the median of the number of rows that was called most, so that single slow calls and mixed batches do not count.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from runtime.selection.latency import show_ms

Timing = tuple[int, float]
"""Rows of a call, and the milliseconds it took."""

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


@dataclass(frozen=True, slots=True)
class Drift:
    """Calls of `rows` rows take `seen_ms`, where `expected_ms` were measured."""

    rows: int
    seen_ms: float
    expected_ms: float

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
        self._timings: list[Timing] = []
        self._direction = 0
        self._looks = 0
        self._since = 0.0

    def look(self, timings: Sequence[Timing], now: float) -> Drift | None:
        """The drift that has lasted by now, seen in `timings` since the last look and the looks before; None without."""
        self._timings = [*self._timings, *timings][-MAX_CALLS:]
        if not self._timings:
            return None
        ((rows, count),) = Counter(rows for rows, _ in self._timings).most_common(1)
        if count < MIN_CALLS:
            return None
        seen_ms = median(ms for timed, ms in self._timings if timed == rows)
        self._timings = []
        expected_ms = self._cost_ms(rows)
        if self._usual is None:
            self._usual = max(1.0, seen_ms / expected_ms)
        direction = self._direction_of(seen_ms, expected_ms, self._usual)
        if direction != self._direction:
            self._direction, self._looks, self._since = direction, 0, now
        self._looks += 1
        if direction == 0 or self._looks < LOOKS or now - self._since < SUSTAINED_S:
            return None
        return Drift(rows, seen_ms, expected_ms)

    @staticmethod
    def _direction_of(seen_ms: float, expected_ms: float, usual: float) -> int:
        if seen_ms > RATIO * usual * expected_ms + SLACK_MS:
            return 1
        return -1 if RATIO * seen_ms + SLACK_MS < expected_ms else 0
