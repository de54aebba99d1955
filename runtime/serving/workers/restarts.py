"""Whether a worker that ended by itself is started again: for a crash now and then yes, for one after the other no. Pure."""

from __future__ import annotations

from collections import deque
from typing import Final

MAX_RESTARTS: Final = 3
"""A worker that is killed for memory, or crashes on one request, is replaced; what kills every new one ends the server."""
WINDOW_S: Final = 60.0
"""Starting a worker takes a few seconds: four that end within this did nearly nothing else."""


class Restarts:
    """Counts the ends of workers, whichever of them it was; `now` is monotonic seconds."""

    def __init__(self) -> None:
        self._ends: deque[float] = deque()

    def allows(self, now: float) -> bool:
        """Notes that a worker ended, and whether another one is started in its place."""
        while self._ends and now - self._ends[0] > WINDOW_S:
            self._ends.popleft()
        self._ends.append(now)
        return len(self._ends) <= MAX_RESTARTS
