"""HTTP/2 by hand (RFC 9113), so that it can be wrong: frames as bytes, and a connection that sends whatever it is told."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from select import select
from types import TracebackType

from protos import inference

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, END_HEADERS, ACK = 1, 4, 1
INITIAL_WINDOW_SIZE = 4
WAIT_S = 10.0
# A server that has taken nothing for so long holds back, as it should.
STUCK_S = 0.3

INFER = inference.METHODS["ModelInfer"].path
STREAM = inference.METHODS["ModelStreamInfer"].path


def frame(kind: int, flags: int, stream: int, payload: bytes = b"", length: int | None = None) -> bytes:
    """One frame; `length` where the header is to tell another than the payload's."""
    told = len(payload) if length is None else length
    return struct.pack(">I", told)[1:] + struct.pack(">BBI", kind & 0xFF, flags & 0xFF, stream & 0xFFFFFFFF) + payload


def settings(*pairs: tuple[int, int]) -> bytes:
    return frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", name, value) for name, value in pairs))


def header_block(fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    """HPACK (RFC 7541) without its table: every field a literal that is not remembered."""
    return b"".join(b"\x00" + _text(name) + _text(value) for name, value in fields)


def grpc_fields(path: str = INFER, *more: tuple[bytes, bytes]) -> list[tuple[bytes, bytes]]:
    return [
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", path.encode()),
        (b":authority", b"localhost"),
        (b"content-type", b"application/grpc"),
        (b"te", b"trailers"),
        *more,
    ]


def open_call(stream: int, path: str = INFER, *more: tuple[bytes, bytes]) -> bytes:
    """The headers of a call, which stays open."""
    return frame(HEADERS, END_HEADERS, stream, header_block(grpc_fields(path, *more)))


def message(raw: bytes, length: int | None = None) -> bytes:
    """A gRPC message with its prefix of five bytes; `length` where that is to lie."""
    return b"\x00" + struct.pack(">I", len(raw) if length is None else length) + raw


def call(stream: int, raw: bytes) -> bytes:
    """A whole unary call."""
    return open_call(stream) + frame(DATA, END_STREAM, stream, message(raw))


class Http2:
    """A connection to `address` that has sent the preface and its settings, unless told not to."""

    def __init__(self, address: str, first: bytes = PREFACE + settings()) -> None:
        host, _, port = address.rpartition(":")
        self._socket = socket.create_connection((host, int(port)), WAIT_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._seen = b""
        if first:
            self.send(first)

    def send(self, raw: bytes) -> bool:
        """False once the server has ended the connection."""
        try:
            self._socket.sendall(raw)
        except (ConnectionError, BrokenPipeError):
            return False
        return True

    def flood(self, raw: bytes, times: int, *, reads: bool = True) -> int:
        """Sends it again and again until the server ends the connection or takes no more; how often that went.

        What comes is taken, or left lying.
        """
        self._socket.setblocking(False)
        chunk, sent, left = raw * 64, 0, raw * times
        try:
            while sent < len(left):
                try:
                    sent += self._socket.send(left[sent : sent + len(chunk)])
                except BlockingIOError:
                    if reads and not self._take():
                        break
                    if not select([], [self._socket], [], STUCK_S)[1] and not reads:
                        break
        except OSError:
            pass
        finally:
            self._socket.settimeout(WAIT_S)
        return sent // len(raw)

    def frames(self) -> Sequence[tuple[int, int, int, bytes]]:
        """(type, flags, stream, payload) of everything until the server ends the connection, or is silent for `WAIT_S`."""
        try:
            while part := self._socket.recv(1 << 16):
                self._seen += part
        except OSError:
            pass
        return self._parsed()

    def until(self, kind: int, stream: int) -> tuple[int, int, int, bytes] | None:
        """The first frame of that type on that stream; None when the connection ends before."""
        return self.until_seen(lambda kind_, flags, stream_: (kind_, stream_) == (kind, stream))

    def until_ended(self, stream: int) -> tuple[int, int, int, bytes] | None:
        """The frame that ends the server's half of a stream; None when the connection ends before."""
        return self.until_seen(
            lambda kind, flags, stream_: (
                stream_ == stream and (kind == RST_STREAM or (kind in (HEADERS, DATA) and bool(flags & END_STREAM)))
            )
        )

    def until_seen(self, is_it: Callable[[int, int, int], bool]) -> tuple[int, int, int, bytes] | None:
        """The first frame whose type, flags and stream are those looked for; None when the connection ends before."""
        while True:
            for found in self._parsed():
                if is_it(*found[:3]):
                    return found
            try:
                part = self._socket.recv(1 << 16)
            except ConnectionError:
                return None
            if not part:
                return None
            self._seen += part

    def half_close(self) -> None:
        """Says that nothing more will be sent; nothing where the server has ended the connection already."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Http2:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _take(self) -> bool:
        try:
            part = self._socket.recv(1 << 16)
        except BlockingIOError:
            return True
        self._seen = (self._seen + part)[-(1 << 20) :]
        return bool(part)

    def _parsed(self) -> list[tuple[int, int, int, bytes]]:
        return frames_in(self._seen)


def frames_in(raw: bytes) -> list[tuple[int, int, int, bytes]]:
    """(type, flags, stream, payload) of every frame that is whole."""
    found, at = [], 0
    while at + 9 <= len(raw):
        length = int.from_bytes(raw[at : at + 3], "big")
        kind, flags, stream = struct.unpack(">BBI", raw[at + 3 : at + 9])
        if at + 9 + length > len(raw):
            break
        found.append((kind, flags, stream & 0x7FFFFFFF, raw[at + 9 : at + 9 + length]))
        at += 9 + length
    return found


def _text(value: bytes) -> bytes:
    return _number(len(value)) + value


def _number(value: int) -> bytes:
    """An integer with a prefix of seven bits."""
    if value < 127:
        return bytes([value])
    rest, told = value - 127, bytearray([127])
    while rest >= 128:
        told.append(rest % 128 + 128)
        rest //= 128
    told.append(rest)
    return bytes(told)
