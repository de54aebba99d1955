"""Whether a candidate is plainly broken: no statistics are needed to see it. Pure."""

from __future__ import annotations

from typing import Final

# A candidate that fails so many requests in a row, over at least so long, is broken: at 100 % of the traffic there are no
# statistics, for stable answers nothing that it could be compared with.
BROKEN_AFTER: Final = 20
BROKEN_AFTER_S: Final = 1.0


class FailuresInARow:
    """Of the candidate's requests, the last ones that failed, one after the other."""

    def __init__(self) -> None:
        self._count = 0
        self._since = 0.0
        self._last = ""

    def note(self, failure: str | None, now: float) -> None:
        """Whether it answered a request (None), or how it failed; `now` in seconds."""
        if failure is None:
            self._count = 0
            return
        if not self._count:
            self._since = now
        self._count += 1
        self._last = failure

    def broken_because(self, now: float) -> str | None:
        """Why the candidate counts as broken, or None."""
        if self._count < BROKEN_AFTER or now - self._since < BROKEN_AFTER_S:
            return None
        return f"its last {self._count} requests all failed, the last one with: {self._last}"
