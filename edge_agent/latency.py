"""How long answers take, lately: quantiles over a sliding window. Pure; `now` is passed in."""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import deque
from typing import Final

# Kept sorted as it changes, for every request asks for its quantiles. 128 answers give a p95 that rests on six slower ones.
DEFAULT_SIZE: Final = 128
# Older answers say little about the link now. They must also be forgotten, or a cloud once predicted as too slow would
# never be asked again and so never be measured again.
DEFAULT_MAX_AGE_S: Final = 10.0


class LatencyWindow:
    """The last `size` latencies that are younger than `max_age_s`; used from one thread."""

    def __init__(self, size: int = DEFAULT_SIZE, max_age_s: float = DEFAULT_MAX_AGE_S) -> None:
        self._size = size
        self._max_age_s = max_age_s
        self._entries: deque[tuple[float, float]] = deque()
        self._sorted: list[float] = []

    def add(self, latency_s: float, now: float) -> None:
        """Takes one answer's latency; for a timeout, the time waited: it would have been at least that."""
        if len(self._entries) >= self._size:
            self._drop_oldest()
        self._entries.append((now, latency_s))
        insort(self._sorted, latency_s)

    def clear(self) -> None:
        """Forgets everything: the link is another than it was."""
        self._entries.clear()
        self._sorted.clear()

    def count(self, now: float) -> int:
        """How many latencies the quantiles rest on."""
        self._forget(now)
        return len(self._entries)

    def total(self, now: float) -> float:
        """The sum of what is in the window."""
        self._forget(now)
        return sum(self._sorted)

    def quantile(self, q: float, now: float) -> float | None:
        """The latency in seconds that a share of `q` (0..1] stays within (nearest rank); None when there is none."""
        self._forget(now)
        return nearest_rank(self._sorted, q)

    def values(self, now: float) -> list[float]:
        """What is in the window, smallest first; not to be changed."""
        self._forget(now)
        return self._sorted

    def _forget(self, now: float) -> None:
        while self._entries and now - self._entries[0][0] > self._max_age_s:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        _, latency_s = self._entries.popleft()
        del self._sorted[bisect_left(self._sorted, latency_s)]


def nearest_rank(ordered: list[float], q: float) -> float | None:
    """The value of `ordered` that a share of `q` (0..1] stays within; None of nothing."""
    return ordered[max(math.ceil(q * len(ordered)), 1) - 1] if ordered else None
