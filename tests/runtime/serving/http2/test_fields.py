"""Header blocks: decoded as by `hpack` alone, whatever is remembered of them."""

from __future__ import annotations

import pytest
from hpack import Decoder, Encoder
from hpack.exceptions import HPACKError
from hypothesis import given
from hypothesis import strategies as st

from runtime.serving.http2.fields import MAX_LIST_BYTES, FieldDecoder, encode_fields
from runtime.serving.http2.frames import ConnectionFault, ErrorCode

NEWEST = b"\xbe"
"""The field that entered the table last."""


def remembered(name: bytes, value: bytes) -> bytes:
    return b"\x40" + encode_fields([(name, value)])[1:]


def table_size(size: int) -> bytes:
    return bytes((0x20 | size,)) if size < 31 else b"\x3f" + _rest(size - 31)


def _rest(value: int) -> bytes:
    told = bytearray()
    while value >= 128:
        told.append(value % 128 + 128)
        value //= 128
    return bytes((*told, value))


VALUES = st.sampled_from([b"1", b"2", b"3" * 2000, b"4" * 4000, b"5" * 5000])
OPERATIONS = st.one_of(
    st.builds(remembered, st.just(b"x"), VALUES),
    st.builds(lambda value: encode_fields([(b"y", value)]), VALUES),
    st.sampled_from([b"\x82", b"\x87", NEWEST, b"\xbf", b"\xc0"]),
)
BLOCKS = st.builds(
    lambda sizes, fields: b"".join([*map(table_size, sizes), *fields]),
    st.lists(st.sampled_from([0, 40, 2100, 4096]), max_size=2),
    st.lists(OPERATIONS, max_size=3),
)


@given(blocks=st.lists(BLOCKS, max_size=5), order=st.lists(st.integers(0, 4), max_size=30))
def test_every_block_means_what_it_means_to_a_decoder_without_a_memory(blocks: list[bytes], order: list[int]) -> None:
    ours, judge = FieldDecoder(), Decoder(MAX_LIST_BYTES)
    for block in (blocks[at] for at in order if at < len(blocks)):
        try:
            expected = tuple((name, value) for name, value in judge.decode(block, raw=True))
        except HPACKError:
            with pytest.raises(ConnectionFault):
                ours(block)
            return
        assert ours(block) == expected


@pytest.mark.parametrize(
    "change",
    [
        table_size(0) + table_size(4096) + remembered(b"x", b"2"),
        remembered(b"x", b"3" * 4000) + remembered(b"x", b"2") + remembered(b"x", b"4" * 4000),
    ],
    ids=["emptied and filled", "pushed out and pushed out"],
)
def test_a_table_as_long_as_before_is_another_one(change: bytes) -> None:
    """CPython gives the newest entry the place of the one that went: what tells them apart must not be where they lie."""
    for _ in range(50):
        decoder = FieldDecoder()
        decoder(remembered(b"x", b"1" * 2000))
        before = decoder(NEWEST)
        decoder(change)
        assert decoder(NEWEST) != before


@given(
    st.lists(st.lists(st.tuples(st.binary(min_size=1, max_size=9), st.binary(max_size=300)), max_size=6), max_size=8)
)
def test_what_an_encoder_with_a_table_says(lists: list[list[tuple[bytes, bytes]]]) -> None:
    decoder, encoder = FieldDecoder(), Encoder()
    for fields in lists:
        for _ in range(2):  # the second time by its places in the table
            assert decoder(encoder.encode(fields, huffman=True)) == tuple(fields)


@given(st.lists(st.tuples(st.binary(max_size=300), st.binary(max_size=40_000)), max_size=3))
def test_what_we_encode_needs_no_table(fields: list[tuple[bytes, bytes]]) -> None:
    decoder = Decoder(1 << 20)
    decoder.max_allowed_table_size = decoder.header_table_size = 0
    assert [(name, value) for name, value in decoder.decode(encode_fields(fields), raw=True)] == fields


def test_more_than_is_taken_ends_the_connection() -> None:
    decoder = FieldDecoder()
    with pytest.raises(ConnectionFault, match="bytes of headers") as caught:
        decoder(encode_fields([(b"a", b"")] * (MAX_LIST_BYTES // 33 + 1)))
    assert caught.value.code is ErrorCode.ENHANCE_YOUR_CALM


@pytest.mark.parametrize(
    "block",
    [b"\xff", b"\x80", b"\xbe", b"\x40", b"\x00\x05abc", b"\x00\x81\xff\x00", b"\x3f\xe2\x1f", b"\x82\x20"],
    ids=["cut short", "index 0", "not there", "no name", "cut name", "Huffman", "table of 4,097", "size behind fields"],
)
def test_what_is_no_block_ends_the_connection(block: bytes) -> None:
    with pytest.raises(ConnectionFault) as caught:
        FieldDecoder()(block)
    assert caught.value.code is ErrorCode.COMPRESSION_ERROR
