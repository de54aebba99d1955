"""The body of a whole request that arrives in pieces, put together where its tensors are to lie: one copy."""

from __future__ import annotations

from typing import Final

import numpy as np

from runtime.serving.reading import Reading
from runtime.tensors import Chunk

ALIGNED_BYTES: Final = 64
"""The first raw tensor begins at a multiple of this: a cache line, and the widest registers of today's processors."""


class Gathering:
    """Takes pieces until `body_bytes` are there. `reading` bounds what all such bodies hold together."""

    def __init__(self, head: bytes, body_bytes: int, tensors_at: int, reading: Reading) -> None:
        room = np.empty(body_bytes + ALIGNED_BYTES, np.uint8)
        start = -(room.ctypes.data + tensors_at) % ALIGNED_BYTES
        self._body = memoryview(room.data)[start : start + body_bytes]
        self._head = head
        self._reading = reading
        self._held_bytes = 0

    @property
    def is_whole(self) -> bool:
        """Whether nothing is missing."""
        return self._held_bytes == len(self._body)

    def take(self, data: Chunk) -> Chunk:
        """Takes what belongs to the body; the rest comes back. `OverloadedError`, and nothing taken, past the bound."""
        start = self._held_bytes
        size = min(len(data), len(self._body) - start)
        self._reading.take(size)
        self._held_bytes += size
        self._body[start : start + size] = memoryview(data)[:size]
        return memoryview(data)[size:]

    def body(self) -> memoryview:
        """The whole body, which nobody can change any more once this is let go."""
        return self._body.toreadonly()

    def give_back(self) -> None:
        """It is here whole, or never will be."""
        self._reading.give_back(self._held_bytes)

    def so_far(self) -> bytes:
        """All that has come, the head too, for who reads it from the beginning."""
        return self._head + self._body[: self._held_bytes]
