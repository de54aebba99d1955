"""How punctual this process can be: a thread that sleeps a little, again and again, and notes how late it wakes.

It wakes late when the interpreter or the processor has no time for it, and then the load generator has none either.
"""

from __future__ import annotations

import threading
import time

import numpy as np

# Two hundred beats a second take about a hundredth of a core.
INTERVAL_S = 0.005


class Heartbeat:
    """Beats from `start` to `stop`."""

    def __init__(self) -> None:
        self._late_s: list[float] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Begins."""
        self._thread.start()

    def stop(self) -> float:
        """Ends, and returns the median lateness in milliseconds (0 when there was no time for a beat)."""
        self._stopping.set()
        self._thread.join()
        return float(np.median(self._late_s)) * 1000 if self._late_s else 0.0

    def _beat(self) -> None:
        while not self._stopping.is_set():
            due = time.perf_counter() + INTERVAL_S
            time.sleep(INTERVAL_S)
            self._late_s.append(max(time.perf_counter() - due, 0.0))
