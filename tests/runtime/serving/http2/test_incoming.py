"""Bytes to frames: cut anywhere they are the same frames, and what is none ends the reading."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.serving.http2.frames import ConnectionFault, ErrorCode
from runtime.serving.http2.incoming import (
    MAX_BLOCK_FRAMES,
    MAX_CONTROL_BYTES,
    MAX_EMPTY_FRAMES,
    MAX_FRAME_BYTES,
    VIEW_BYTES,
    FrameReader,
)
from runtime.tensors import Chunk
from tests.runtime.serving.raw_http2 import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PING,
    PREFACE,
    PRIORITY,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    frame,
    settings,
)

PADDED, HAS_PRIORITY = 0x8, 0x20


class Taken:
    """Writes down what it is handed, DATA as one piece a frame."""

    def __init__(self) -> None:
        self.events: list[tuple[object, ...]] = []

    def begin_data(self, stream_id: int, length: int, padding: int) -> None:
        self.events.append(("data", stream_id, length, padding))

    def take_data(self, chunk: Chunk, is_last: bool) -> None:
        match self.events[-1]:
            case ("chunk", bytes(before), False):
                self.events[-1] = ("chunk", before + chunk, is_last)
            case _:
                self.events.append(("chunk", bytes(chunk), is_last))

    def take_headers(self, stream_id: int, block: bytes, is_last: bool) -> None:
        self.events.append(("headers", stream_id, block, is_last))

    def take_frame(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        self.events.append(("frame", kind, flags, stream_id, payload))


def read(*pieces: bytes) -> list[tuple[object, ...]]:
    taken = Taken()
    reader = FrameReader(taken)
    for piece in pieces:
        reader.feed(piece)
    return taken.events


def padded(payload: bytes, padding: int) -> bytes:
    return bytes((padding,)) + payload + bytes(padding)


def blocks(stream: int, block: bytes, cuts: list[int], flags: int) -> bytes:
    """A header block in frames that end at `cuts`."""
    ends = [*sorted(cut % (len(block) + 1) for cut in cuts), len(block)]
    parts = [block[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    raw = [
        frame(CONTINUATION if at else HEADERS, 0 if at else flags, stream, part) for at, part in enumerate(parts[:-1])
    ]
    kind, ended = (CONTINUATION, 0) if len(parts) > 1 else (HEADERS, flags)
    return b"".join([*raw, frame(kind, ended | END_HEADERS, stream, parts[-1])])


PAYLOADS = st.binary(max_size=30)
ODD = st.integers(0, 9).map(lambda n: 2 * n + 1)
ENDING = st.sampled_from([0, END_STREAM])
FRAMES = st.one_of(
    st.builds(lambda flags, stream, raw: frame(DATA, flags, stream, raw), ENDING, ODD, PAYLOADS),
    st.builds(
        lambda flags, stream, raw, padding: frame(DATA, flags | PADDED, stream, padded(raw, padding)),
        ENDING,
        ODD,
        PAYLOADS,
        st.integers(0, 20),
    ),
    st.builds(lambda raw: frame(DATA, 0, 1, raw), st.sampled_from([bytes(VIEW_BYTES), bytes(3 * VIEW_BYTES + 1)])),
    st.builds(blocks, ODD, PAYLOADS, st.lists(st.integers(0, 30), max_size=4), ENDING),
    st.builds(
        frame, st.sampled_from([WINDOW_UPDATE, RST_STREAM, PING, GOAWAY, PRIORITY, 0x77]), st.just(0), ODD, PAYLOADS
    ),
)


@given(frames=st.lists(FRAMES, max_size=8), cuts=st.lists(st.integers(0, 1 << 15), max_size=40))
def test_cut_anywhere_they_are_the_same_frames(frames: list[bytes], cuts: list[int]) -> None:
    raw = PREFACE + settings() + b"".join(frames)
    ends = sorted({cut % (len(raw) + 1) for cut in cuts} | {len(raw)})
    pieces = [raw[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    assert read(*pieces) == read(raw)


def test_byte_by_byte() -> None:
    raw = (
        PREFACE
        + settings((1, 2))
        + frame(DATA, PADDED | END_STREAM, 1, padded(b"data", 3))
        + frame(PING, ACK, 0, b"12345678")
    )
    expected = [
        ("frame", SETTINGS, 0, 0, struct.pack(">HI", 1, 2)),
        ("data", 1, 8, 4),
        ("chunk", b"data", True),
        ("frame", PING, ACK, 0, b"12345678"),
    ]
    assert read(*(raw[at : at + 1] for at in range(len(raw)))) == expected
    assert read(raw) == expected


def test_padding_and_priority_are_no_part_of_a_header_block() -> None:
    raw = frame(HEADERS, END_HEADERS | PADDED | HAS_PRIORITY, 1, padded(b"12345block", 4))
    assert read(PREFACE + settings() + raw)[1:] == [("headers", 1, b"block", False)]


def test_data_is_never_gathered() -> None:
    """Otherwise each byte of a frame that comes byte by byte would cost a copy of all before it; padding is no exception."""
    taken = Taken()
    reader = FrameReader(taken)
    reader.feed(PREFACE + settings() + frame(DATA, PADDED, 1, b"\xffbegins", length=MAX_FRAME_BYTES))
    assert taken.events[-1] == ("chunk", b"begins", False)
    assert not reader._left


def test_large_data_is_handed_on_as_a_view() -> None:
    chunks: list[Chunk] = []
    taken = Taken()
    taken.take_data = lambda chunk, _: chunks.append(chunk)  # type: ignore[method-assign]
    raw = PREFACE + settings() + frame(DATA, 0, 1, bytes(VIEW_BYTES))
    FrameReader(taken).feed(raw)
    (view,) = chunks
    assert isinstance(view, memoryview)
    assert view.obj is raw


def test_nothing_follows_once_it_is_stopped() -> None:
    class Stops(Taken):
        def take_headers(self, stream_id: int, block: bytes, is_last: bool) -> None:
            reader.is_stopped = True

    taken = Stops()
    reader = FrameReader(taken)
    reader.feed(PREFACE + settings() + frame(HEADERS, END_HEADERS, 1) + frame(DATA, 0, 1, b"x"))
    assert len(taken.events) == 1


def test_an_empty_end_is_no_empty_frame() -> None:
    """Streams may well end with a frame that brings nothing else; those that do not are counted."""
    read(PREFACE + settings() + frame(DATA, END_STREAM, 1) * (MAX_EMPTY_FRAMES + 1))
    for empty in (frame(DATA, 0, 1), frame(DATA, PADDED, 1, b"\x02\0\0")):
        with pytest.raises(ConnectionFault, match="without anything") as caught:
            read(PREFACE + settings() + empty * (MAX_EMPTY_FRAMES + 1))
        assert caught.value.code is ErrorCode.ENHANCE_YOUR_CALM


def test_a_header_block_may_be_as_long_as_our_settings_say() -> None:
    block = bytes(MAX_CONTROL_BYTES)
    assert read(PREFACE + settings() + frame(HEADERS, END_HEADERS, 1, block))[1:] == [("headers", 1, block, False)]


HEAD = frame(HEADERS, 0, 1, b"x")
BAD: dict[str, tuple[bytes, ErrorCode]] = {
    "no HTTP/2": (b"GET / HTTP/1.1\r\n", ErrorCode.PROTOCOL_ERROR),
    "DATA first": (PREFACE + frame(DATA, 0, 1, b"x"), ErrorCode.PROTOCOL_ERROR),
    "HEADERS first": (PREFACE + frame(HEADERS, END_HEADERS, 1), ErrorCode.PROTOCOL_ERROR),
    "PING first": (PREFACE + frame(PING, 0, 0, bytes(8)), ErrorCode.PROTOCOL_ERROR),
    "acknowledgement first": (PREFACE + frame(SETTINGS, ACK, 0), ErrorCode.PROTOCOL_ERROR),
    "even stream": (frame(HEADERS, END_HEADERS, 2), ErrorCode.PROTOCOL_ERROR),
    "stream 0": (frame(HEADERS, END_HEADERS, 0), ErrorCode.PROTOCOL_ERROR),
    "DATA in a block": (HEAD + frame(DATA, 0, 1), ErrorCode.PROTOCOL_ERROR),
    "PING in a block": (HEAD + frame(PING, 0, 0, bytes(8)), ErrorCode.PROTOCOL_ERROR),
    "unknown in a block": (HEAD + frame(0x99, 0, 0), ErrorCode.PROTOCOL_ERROR),
    "block of another": (HEAD + frame(CONTINUATION, 0, 3), ErrorCode.PROTOCOL_ERROR),
    "CONTINUATION of nothing": (frame(CONTINUATION, 0, 1), ErrorCode.PROTOCOL_ERROR),
    "padding of all": (frame(DATA, PADDED, 1, b"\x05xxxx"), ErrorCode.PROTOCOL_ERROR),
    "padding of nothing": (frame(DATA, PADDED, 1, b""), ErrorCode.PROTOCOL_ERROR),
    "long DATA": (frame(DATA, 0, 1, length=MAX_FRAME_BYTES + 1), ErrorCode.FRAME_SIZE_ERROR),
    "long HEADERS": (frame(HEADERS, 0, 1, length=MAX_CONTROL_BYTES + 1), ErrorCode.FRAME_SIZE_ERROR),
    "long unknown": (frame(0x99, 0, 1, length=MAX_CONTROL_BYTES + 1), ErrorCode.FRAME_SIZE_ERROR),
    "long block": (HEAD + frame(CONTINUATION, 0, 1, bytes(MAX_CONTROL_BYTES)), ErrorCode.ENHANCE_YOUR_CALM),
    "many frames": (HEAD + frame(CONTINUATION, 0, 1) * MAX_BLOCK_FRAMES, ErrorCode.ENHANCE_YOUR_CALM),
}


@pytest.mark.parametrize(("raw", "code"), BAD.values(), ids=BAD)
def test_what_is_no_http2_is_refused(raw: bytes, code: ErrorCode) -> None:
    begins = raw if raw.startswith((b"GET", PREFACE)) else PREFACE + settings() + raw
    with pytest.raises(ConnectionFault) as caught:
        read(begins)
    assert caught.value.code is code
