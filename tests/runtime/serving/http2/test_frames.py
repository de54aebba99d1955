"""Frames as bytes: what is read of them, and what is refused."""

from __future__ import annotations

import struct

import pytest

from runtime.serving.http2 import frames
from runtime.serving.http2.frames import (
    ENABLE_PUSH,
    HAS_PRIORITY,
    INITIAL_WINDOW_SIZE,
    MAX_FRAME_SIZE,
    PADDED,
    ConnectionFault,
    ErrorCode,
    header_block_part,
    read_number,
    read_settings,
    settings_frame,
)


def test_frames_as_they_go_out() -> None:
    assert frames.window_update(3, 0x1234) == bytes.fromhex("000004 08 00 00000003 00001234")
    assert frames.reset_stream(5, ErrorCode.CANCEL) == bytes.fromhex("000004 03 00 00000005 00000008")
    assert frames.goaway(7, ErrorCode.NO_ERROR, "x") == bytes.fromhex("000009 07 00 00000000 00000007 00000000 78")
    assert frames.frame_head(0x123456, frames.DATA, 1, 9) == bytes.fromhex("123456 00 01 00000009")
    assert settings_frame({INITIAL_WINDOW_SIZE: 1}) == bytes.fromhex("000006 04 00 00000000 0004 00000001")


def test_settings_are_read_in_order_and_those_unknown_too() -> None:
    payload = struct.pack(">HIHI", 0xF00, 7, INITIAL_WINDOW_SIZE, 2**31 - 1)
    assert read_settings(payload) == [(0xF00, 7), (INITIAL_WINDOW_SIZE, 2**31 - 1)]


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        (INITIAL_WINDOW_SIZE, 2**31, ErrorCode.FLOW_CONTROL_ERROR),
        (MAX_FRAME_SIZE, 16_383, ErrorCode.PROTOCOL_ERROR),
        (MAX_FRAME_SIZE, 2**24, ErrorCode.PROTOCOL_ERROR),
        (ENABLE_PUSH, 2, ErrorCode.PROTOCOL_ERROR),
    ],
)
def test_a_setting_out_of_range_is_refused(name: int, value: int, code: ErrorCode) -> None:
    with pytest.raises(ConnectionFault, match=str(value)) as caught:
        read_settings(struct.pack(">HI", name, value))
    assert caught.value.code is code


@pytest.mark.parametrize("size", [1, 5, 7])
def test_settings_cut_short_are_refused(size: int) -> None:
    with pytest.raises(ConnectionFault, match=f"{size} bytes"):
        read_settings(bytes(size))


@pytest.mark.parametrize("size", [0, 3, 5])
def test_a_number_has_four_bytes(size: int) -> None:
    with pytest.raises(ConnectionFault, match=f"RST_STREAM of {size} bytes"):
        read_number(bytes(size), "RST_STREAM")


@pytest.mark.parametrize(
    ("flags", "payload", "block"),
    [
        (0, b"block", b"block"),
        (PADDED, b"\x02block\0\0", b"block"),
        (PADDED, b"\x05" + bytes(5), b""),
        (HAS_PRIORITY, b"12345block", b"block"),
        (PADDED | HAS_PRIORITY, b"\x0112345block\0", b"block"),
    ],
)
def test_a_header_block_is_found_between_padding_and_priority(flags: int, payload: bytes, block: bytes) -> None:
    assert header_block_part(flags, payload) == block


@pytest.mark.parametrize(
    ("flags", "payload"),
    [(PADDED, b""), (PADDED, b"\x05block"[:5]), (HAS_PRIORITY, b"1234"), (PADDED | HAS_PRIORITY, b"\x01123456"[:6])],
)
def test_padding_or_priority_longer_than_the_frame_is_refused(flags: int, payload: bytes) -> None:
    with pytest.raises(ConnectionFault) as caught:
        header_block_part(flags, payload)
    assert caught.value.code is ErrorCode.PROTOCOL_ERROR
