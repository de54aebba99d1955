"""One HTTP/2 stream of a server: who takes what its client sends, and what of the answer waits for room."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from runtime.tensors import Chunk

if TYPE_CHECKING:
    from runtime.serving.http2.connection import Http2Connection


class Receiver(Protocol):
    """Takes what the client sends on one stream. Called on the event loop; raises nothing but `StreamFault`."""

    def take(self, chunk: Chunk, is_last: bool) -> None:
        """The next bytes, perhaps none; nothing follows the last. What it does not use yet it copies or keeps."""

    def lose(self) -> None:
        """Nobody waits for an answer any more: the client took the stream back, or its connection is gone."""


class Stream:
    """Made by its connection, and forgotten by it once both sides have ended it."""

    __slots__ = (
        "client_ended",
        "connection",
        "credit",
        "debt",
        "id",
        "is_over",
        "on_sent",
        "queue",
        "queued_bytes",
        "receiver",
        "since",
        "trailers",
        "used",
    )

    def __init__(self, connection: Http2Connection, id_: int, now: float) -> None:
        self.connection = connection
        self.id = id_
        self.receiver: Receiver | None = None
        self.client_ended = False
        """The client sends no more."""
        self.is_over = False
        """The answer has ended, or nobody wants it."""
        self.credit = 0
        """What the client lets us send beyond its initial window, in bytes; less than nothing once we have sent some."""
        self.debt = 0
        """Bytes that came and for which we have not made room again."""
        self.used = 0
        """Those of them that nobody needs any more."""
        self.queue: deque[memoryview] = deque()
        """What of the answer waits for room."""
        self.queued_bytes = 0
        self.on_sent: Callable[[], object] | None = None
        """Told when nothing of an answer that goes on waits any more."""
        self.trailers: bytes | None = None
        """The frame behind what waits; None: more may come."""
        self.since = now
        """When it was opened, or last got rid of something that waited, as the event loop counts."""
