"""The fields around a call: what a request's say, and what an answer's are to a decoder that is not ours."""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

import pytest
from hpack import Decoder
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import InvalidInputError
from runtime.serving.grpc.heads import OK, RESPONSE, NoGrpcError, end_block, only_block, read_head
from runtime.serving.http2.fields import Fields
from runtime.serving.http2.frames import StreamFault
from tests.runtime.serving.raw_http2 import INFER, grpc_fields

GOOD: Fields = tuple(grpc_fields())


def with_field(name: bytes, value: bytes) -> Fields:
    return (*(field for field in GOOD if field[0] != name), (name, value))


def decoded(block: bytes) -> list[tuple[bytes, bytes]]:
    return [(name, value) for name, value in Decoder().decode(block, raw=True)]


def test_what_a_head_says() -> None:
    head = read_head(
        (*GOOD, (b"grpc-timeout", b"250m"), (b"grpc-encoding", b"gzip"), (b"x", b"y"), (b"b-bin", b"AQI,Aw=="))
    )
    assert (head.path, head.timeout_s, head.encoding) == (INFER, 0.25, "gzip")
    assert head.metadata() == (("x", "y"), ("b-bin", b"\x01\x02"), ("b-bin", b"\x03"))
    assert read_head(GOOD).timeout_s is None
    assert read_head((*GOOD, (b"grpc-encoding", b"identity"))).encoding is None


@pytest.mark.parametrize(
    ("told", "seconds"),
    [
        (b"1H", 3600),
        (b"2M", 120),
        (b"3S", 3),
        (b"4m", 4e-3),
        (b"5u", 5e-6),
        (b"6n", 6e-9),
        (b"99999999H", 359999996400),
        (b"0n", 0),
    ],
)
def test_timeouts(told: bytes, seconds: float) -> None:
    assert read_head((*GOOD, (b"grpc-timeout", told))).timeout_s == pytest.approx(seconds)


@pytest.mark.parametrize(
    "told", [b"", b"1", b"H", b"123456789S", b"-1S", b"1.5S", b"1s", b" 1S", b"\xd9\xa1S", b"1S\n"]
)
def test_a_timeout_that_is_none_is_the_callers_mistake(told: bytes) -> None:
    with pytest.raises((InvalidInputError, StreamFault)):
        read_head((*GOOD, (b"grpc-timeout", told)))


@pytest.mark.parametrize(
    "fields",
    [
        with_field(b":path", b""),
        GOOD[1:],
        tuple(field for field in GOOD if field[0] != b":path"),
        tuple(field for field in GOOD if field[0] != b":scheme"),
        (*GOOD[:4], GOOD[0], *GOOD[4:]),
        (*GOOD[1:], GOOD[0]),
        (*GOOD[:4], (b":status", b"200"), *GOOD[4:]),
        (*GOOD[:4], (b":", b""), *GOOD[4:]),
        (*GOOD, (b"Upper", b"x")),
        (*GOOD, (b"", b"x")),
        (*GOOD, (b"a b", b"x")),
        (*GOOD, (b"connection", b"close")),
        (*GOOD, (b"transfer-encoding", b"chunked")),
        (*GOOD, (b"x", b"a\r\nb")),
        (*GOOD, (b"x", b"\0")),
    ],
    ids=[
        "empty path",
        "no method",
        "no path",
        "no scheme",
        "two methods",
        "method at the end",
        "status",
        "colon",
        "capitals",
        "no name",
        "space",
        "connection",
        "transfer-encoding",
        "line break",
        "zero",
    ],
)
def test_what_may_not_be_in_http2_ends_the_stream(fields: Fields) -> None:
    with pytest.raises(StreamFault):
        read_head(fields)


@pytest.mark.parametrize(
    ("kind", "is_grpc"),
    [
        (b"application/grpc", True),
        (b"application/grpc+proto", True),
        (b"application/grpc;charset=utf-8", True),
        (b"application/grpc-web", False),
        (b"application/grpcx", False),
        (b"application/json", False),
        (b"", False),
    ],
)
def test_only_grpc_is_grpc(kind: bytes, is_grpc: bool) -> None:
    fields = with_field(b"content-type", kind)
    if is_grpc:
        assert read_head(fields).path == INFER
        return
    with pytest.raises(NoGrpcError, match="expected application/grpc") as caught:
        read_head(fields)
    assert decoded(caught.value.block)[0] == (b":status", b"415")


def test_another_method_is_told_so() -> None:
    with pytest.raises(NoGrpcError) as caught:
        read_head(((b":method", b"GET"), *GOOD[1:]))
    assert decoded(caught.value.block)[0] == (b":status", b"405")


def test_metadata_that_is_no_base64_is_the_callers_mistake() -> None:
    head = read_head((*GOOD, (b"x-bin", b"*")))
    with pytest.raises(InvalidInputError, match="x-bin"):
        head.metadata()


def test_an_answer_begins_and_ends_as_grpc_says() -> None:
    assert decoded(RESPONSE)[:2] == [(b":status", b"200"), (b"content-type", b"application/grpc")]
    assert decoded(OK) == [(b"grpc-status", b"0")]
    assert decoded(end_block(3, "100 %", {"a": "b"}.items())) == [
        (b"grpc-status", b"3"),
        (b"grpc-message", b"100 %25"),
        (b"a", b"b"),
    ]
    assert decoded(only_block(3, "x"))[:3] == [*decoded(RESPONSE)[:2], (b"grpc-status", b"3")]


@given(st.text(max_size=300))
def test_any_text_comes_back_and_is_printable_on_the_way(text: str) -> None:
    (_, told) = decoded(end_block(2, text))[1]
    assert all(0x20 <= byte < 0x7F for byte in told)
    assert unquote_to_bytes(told) == text.encode("utf-8", "replace")
