"""What requests that are not whole hold together, bounded: one count for each transport of a server."""

from __future__ import annotations

from typing import Final

from runtime.errors import OverloadedError

MAX_READING_BYTES: Final = 1 << 28
"""Of all bodies under way on one port, unless one alone may be larger; what is here whole is counted by the queues."""


class Reading:
    """The bytes of all bodies that are under way, bounded: many slow clients together hold no more than that."""

    def __init__(self, max_bytes: int = MAX_READING_BYTES) -> None:
        self.held_bytes = 0
        self._max_bytes = max_bytes

    def take(self, size_bytes: int) -> None:
        """Counts so many more; `OverloadedError` when that is too much."""
        if self.held_bytes + size_bytes > self._max_bytes:
            raise OverloadedError(
                f"the bodies that are being received hold {self.held_bytes} bytes; this server holds at most "
                f"{self._max_bytes} of unfinished requests; retry later"
            )
        self.held_bytes += size_bytes

    def give_back(self, size_bytes: int) -> None:
        """They are here whole, or never will be."""
        self.held_bytes -= size_bytes
