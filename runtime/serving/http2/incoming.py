"""Bytes to frames (RFC 9113, section 4): what a client sends, taken apart and handed on in order.

DATA is handed on as it comes and never gathered, its padding left out; any other frame once it is whole; a header block once its
last frame is here. What depends on streams and windows is the taker's matter.
"""

from __future__ import annotations

from typing import Final, Protocol

from runtime.serving.http2.fields import MAX_LIST_BYTES
from runtime.serving.http2.frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADER,
    HEADER_BYTES,
    HEADERS,
    MAX_STREAM_ID,
    PADDED,
    PREFACE,
    SETTINGS,
    ConnectionFault,
    ErrorCode,
    header_block_part,
)
from runtime.tensors import Chunk

MAX_FRAME_BYTES: Final = 1 << 20
"""Of DATA, which is not gathered. Large tensors in few frames."""
MAX_CONTROL_BYTES: Final = MAX_LIST_BYTES
"""Of any other frame, and of a header block in several: these are gathered. No block of so many fields as are taken is longer."""
MAX_BLOCK_FRAMES: Final = 64
MAX_EMPTY_FRAMES: Final = 1000
"""DATA frames in a row that bring nothing (CVE-2019-9518)."""
VIEW_BYTES: Final = 4096
"""From here on what came is handed on as a view: whoever takes it copies it once, to where it is to lie."""


class FrameTaker(Protocol):
    """Who is handed the frames. What it raises ends the reading; `ConnectionFault` says why."""

    def begin_data(self, stream_id: int, length: int, padding: int) -> None:
        """A DATA frame of `length` bytes begins, `padding` of which are nobody's."""

    def take_data(self, chunk: Chunk, is_last: bool) -> None:
        """The next bytes of the DATA frame that began last; with `is_last` the client has ended the stream."""

    def take_headers(self, stream_id: int, block: bytes, is_last: bool) -> None:
        """A whole header block."""

    def take_frame(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        """Any other frame, of a type that may be unknown."""


class FrameReader:
    """Cuts what one client sends into frames."""

    def __init__(self, taker: FrameTaker) -> None:
        self._taker = taker
        self.is_greeted = False
        """Whether the client has begun as HTTP/2 begins: with its preface and SETTINGS."""
        self.is_stopped = False
        """Set where nothing more is to be handed on, at once."""
        self._preface = PREFACE
        self._left = b""
        """Of a frame that is not whole, unless it is DATA."""
        self._data_left = self._padding_left = 0
        self._data_is_last = False
        self._block: tuple[int, bool, bytearray] | None = None
        """Stream, whether it ends with it, and beginning of a header block that is not whole."""
        self._block_frames = self._empty_frames = 0

    def feed(self, data: bytes) -> None:
        """Hands on all frames that are whole with it. `ConnectionFault`: the client broke the protocol; nothing more is read."""
        if self._left:
            data, self._left = self._left + data, b""
        at = self._take_preface(data) if self._preface else 0
        at = self._take_frames(data, at)
        if at < len(data):
            self._left = data[at:]

    def _take_preface(self, data: bytes) -> int:
        size = min(len(self._preface), len(data))
        if data[:size] != self._preface[:size]:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "this port speaks gRPC, that is HTTP/2, and nothing else")
        self._preface = self._preface[size:]
        return size

    def _take_frames(self, data: bytes, at: int) -> int:
        """Handles every frame that is whole, and what is here of a DATA frame; where the rest begins."""
        end = len(data)
        while not self.is_stopped:
            if self._data_left:
                if at == end:
                    return at
                at = self._take_data(data, at)
                continue
            if self._padding_left:
                skipped = min(self._padding_left, end - at)
                self._padding_left -= skipped
                at += skipped
            if end - at < HEADER_BYTES:
                return at
            high, low, kind, flags, stream_id = HEADER.unpack_from(data, at)
            length = high << 16 | low
            stream_id &= MAX_STREAM_ID
            begins = at + HEADER_BYTES
            if kind == DATA:
                padding = 0
                if flags & PADDED:
                    if length and begins == end:
                        return at
                    padding = _padding(data, begins, length)
                self._begin_data(flags, stream_id, length, padding)
                at = begins + (1 if padding else 0)
                continue
            if length > MAX_CONTROL_BYTES:
                raise _too_long(length, MAX_CONTROL_BYTES)
            if end - begins < length:
                return at
            at = begins + length
            self._take(kind, flags, stream_id, data[begins:at])
        return end

    def _begin_data(self, flags: int, stream_id: int, length: int, padding: int) -> None:
        if self._block is not None or not self.is_greeted:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"DATA where none may be, on stream {stream_id}")
        if length > MAX_FRAME_BYTES:
            raise _too_long(length, MAX_FRAME_BYTES)
        self._taker.begin_data(stream_id, length, padding)
        self._data_is_last = bool(flags & END_STREAM)
        self._data_left = length - padding
        if padding:
            self._padding_left = padding - 1
        if self._data_left:
            self._empty_frames = 0
        elif self._data_is_last:
            self._taker.take_data(b"", True)
        else:
            self._empty_frames += 1
            if self._empty_frames > MAX_EMPTY_FRAMES:
                text = f"{MAX_EMPTY_FRAMES} frames without anything in them"
                raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, text)

    def _take_data(self, data: bytes, at: int) -> int:
        """Hands on what is here of a DATA frame; where it ends."""
        size = min(self._data_left, len(data) - at)
        self._data_left -= size
        chunk = data[at : at + size] if size < VIEW_BYTES else memoryview(data)[at : at + size]
        self._taker.take_data(chunk, self._data_is_last and not self._data_left)
        return at + size

    def _take(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        if self._block is not None and kind != CONTINUATION:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a header block was interrupted by another frame")
        if kind == HEADERS:
            self._take_headers(flags, stream_id, payload)
        elif kind == CONTINUATION:
            self._take_continuation(flags, stream_id, payload)
        elif self.is_greeted:
            self._taker.take_frame(kind, flags, stream_id, payload)
        elif kind == SETTINGS and not flags & ACK:
            self.is_greeted = True
            self._taker.take_frame(kind, flags, stream_id, payload)
        else:
            raise _no_settings()

    def _take_headers(self, flags: int, stream_id: int, payload: bytes) -> None:
        if not self.is_greeted:
            raise _no_settings()
        if not stream_id % 2:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"clients open odd streams, not {stream_id}")
        block = header_block_part(flags, payload)
        is_last = bool(flags & END_STREAM)
        if flags & END_HEADERS:
            self._taker.take_headers(stream_id, block, is_last)
        else:
            self._block, self._block_frames = (stream_id, is_last, bytearray(block)), 1

    def _take_continuation(self, flags: int, stream_id: int, payload: bytes) -> None:
        if self._block is None or self._block[0] != stream_id:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "CONTINUATION of nothing")
        _, is_last, block = self._block
        block += payload
        self._block_frames += 1
        if len(block) > MAX_CONTROL_BYTES or self._block_frames > MAX_BLOCK_FRAMES:
            text = f"headers of more than {MAX_CONTROL_BYTES} bytes or in more than {MAX_BLOCK_FRAMES} frames"
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, text)
        if flags & END_HEADERS:
            self._block = None
            self._taker.take_headers(stream_id, bytes(block), is_last)


def _padding(data: bytes, at: int, length: int) -> int:
    """Bytes of a padded DATA frame that are nobody's, the one that counts the others among them (6.1)."""
    if not length or data[at] >= length:
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"padding of a frame of {length} bytes is longer than it")
    return data[at] + 1


def _too_long(length: int, most: int) -> ConnectionFault:
    return ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, f"a frame of {length} bytes; at most {most} are taken")


def _no_settings() -> ConnectionFault:
    return ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a connection begins with SETTINGS")
