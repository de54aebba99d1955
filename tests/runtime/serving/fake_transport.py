"""The socket's end of an HTTP/2 connection, without a socket."""

from __future__ import annotations

from runtime.serving.http2.connection import Http2Connection
from runtime.tensors import Chunk


class Transport:
    """Writes down what is written; says that it takes no more above `room_bytes`."""

    def __init__(self) -> None:
        self.protocol: Http2Connection | None = None
        self.written = bytearray()
        self.room_bytes = 1 << 40
        self.is_reading = True
        self.is_closed = False

    def write(self, raw: bytes) -> None:
        assert not self.is_closed, "written behind the end"
        self.written += raw
        if len(self.written) > self.room_bytes and self.protocol is not None:
            self.protocol.pause_writing()

    def writelines(self, parts: list[Chunk]) -> None:
        self.write(b"".join(parts))

    def pause_reading(self) -> None:
        self.is_reading = False

    def resume_reading(self) -> None:
        self.is_reading = True

    def close(self) -> None:
        self.is_closed = True
