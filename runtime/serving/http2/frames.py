"""HTTP/2 frames as bytes (RFC 9113, sections 4 and 6), and what may be wrong with them."""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Final

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADER: Final = struct.Struct(">BHBBI")
"""Length (in two parts), type, flags, stream."""
HEADER_BYTES: Final = HEADER.size

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS, PADDED, HAS_PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20
HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE = (
    range(1, 7)
)

MAX_WINDOW: Final = 2**31 - 1
MAX_STREAM_ID: Final = 2**31 - 1
DEFAULT_WINDOW: Final = 65_535
DEFAULT_FRAME_SIZE: Final = 16_384
LARGEST_FRAME_SIZE: Final = 2**24 - 1
DEFAULT_TABLE_SIZE: Final = 4096

_SETTING: Final = struct.Struct(">HI")
_NUMBER: Final = struct.Struct(">I")


class ErrorCode(IntEnum):
    """Why a stream or a connection ends (section 7)."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    ENHANCE_YOUR_CALM = 11


class ConnectionFault(Exception):  # noqa: N818  (the protocol's faults, not ours)
    """The client broke the protocol, or a bound, in a way that ends its connection."""

    def __init__(self, code: ErrorCode, text: str) -> None:
        super().__init__(text)
        self.code = code


class StreamFault(Exception):  # noqa: N818
    """The same for one stream; the others go on."""

    def __init__(self, code: ErrorCode, text: str) -> None:
        super().__init__(text)
        self.code = code


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One frame."""
    return frame_head(len(payload), kind, flags, stream) + payload


def frame_head(length: int, kind: int, flags: int, stream: int) -> bytes:
    """What comes before a payload of `length` bytes."""
    return HEADER.pack(length >> 16, length & 0xFFFF, kind, flags, stream)


def settings_frame(values: dict[int, int]) -> bytes:
    """A SETTINGS frame."""
    return frame(SETTINGS, 0, 0, b"".join(_SETTING.pack(*pair) for pair in values.items()))


def window_update(stream: int, increment: int) -> bytes:
    """Lets the other side send so many bytes more."""
    return frame(WINDOW_UPDATE, 0, stream, _NUMBER.pack(increment))


def reset_stream(stream: int, code: ErrorCode) -> bytes:
    """Ends a stream at once."""
    return frame(RST_STREAM, 0, stream, _NUMBER.pack(code))


def goaway(last_stream: int, code: ErrorCode, text: str = "") -> bytes:
    """Says that no stream after `last_stream` is or will be looked at."""
    return frame(GOAWAY, 0, 0, struct.pack(">II", last_stream, code) + text.encode()[:200])


def read_settings(payload: bytes) -> list[tuple[int, int]]:
    """The settings in a frame, in order, each within its range; `ConnectionFault` otherwise."""
    if len(payload) % _SETTING.size:
        raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, f"SETTINGS of {len(payload)} bytes; expected a multiple of 6")
    values = list(_SETTING.iter_unpack(payload))
    for name, value in values:
        if name == INITIAL_WINDOW_SIZE and value > MAX_WINDOW:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, f"INITIAL_WINDOW_SIZE {value} is above {MAX_WINDOW}")
        if name == MAX_FRAME_SIZE and not DEFAULT_FRAME_SIZE <= value <= LARGEST_FRAME_SIZE:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"MAX_FRAME_SIZE {value} is out of range")
        if name == ENABLE_PUSH and value > 1:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"ENABLE_PUSH {value}; expected 0 or 1")
    return values


def read_number(payload: bytes, what: str) -> int:
    """The 32 bits that RST_STREAM and WINDOW_UPDATE consist of; `ConnectionFault` where there are more or fewer."""
    if len(payload) != _NUMBER.size:
        raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, f"{what} of {len(payload)} bytes; expected 4")
    number: int = _NUMBER.unpack(payload)[0]
    return number


def header_block_part(flags: int, payload: bytes) -> bytes:
    """What of a HEADERS frame is its header block (6.2); `ConnectionFault` where its padding or its priority is longer than it."""
    begins, ends = 0, len(payload)
    if flags & PADDED:
        begins = 1
        ends -= payload[0] if payload else 0
    if flags & HAS_PRIORITY:
        begins += 5
    if begins > ends:
        text = f"HEADERS of {len(payload)} bytes, where padding and priority take more"
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, text)
    return payload[begins:ends]
