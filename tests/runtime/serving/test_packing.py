"""Packing and unpacking, without a server."""

import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import InvalidInputError, PayloadTooLargeError
from runtime.serving.packing import MAX_MEMBERS, STEP_BYTES, chosen_encoding, pack, unpack


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        (None, None),
        (b"", None),
        (b"*", None),
        (b"br", None),
        (b"gzip", "gzip"),
        (b"deflate", "deflate"),
        (b"GZIP, deflate, br", "gzip"),
        (b"gzip;q=0.1, deflate;q=0.9", "deflate"),
        (b"gzip; q=0, deflate ; q=0.001", "deflate"),
        (b"gzip;q=", None),
        (b"gzip;q=nan", None),
    ],
)
def test_the_encoding_that_a_client_likes_best(accept: bytes | None, chosen: str | None) -> None:
    assert chosen_encoding(accept) == chosen


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
@pytest.mark.parametrize("size", [0, 1, STEP_BYTES - 1, STEP_BYTES, 3 * STEP_BYTES + 1])
async def test_what_is_packed_unpacks_to_the_same(encoding: str, size: int) -> None:
    body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    packed = await pack(body, encoding)
    assert (gzip.decompress if encoding == "gzip" else zlib.decompress)(packed) == body
    assert await unpack(packed, encoding, max_bytes=size) == body
    if size:
        with pytest.raises(PayloadTooLargeError):
            await unpack(packed, encoding, max_bytes=size - 1)


@given(st.binary(max_size=200), st.sampled_from(["gzip", "deflate"]))
async def test_bytes_that_are_not_packed_are_refused(body: bytes, encoding: str) -> None:
    try:
        await unpack(body, encoding, max_bytes=1000)
    except (InvalidInputError, PayloadTooLargeError):
        return
    assert zlib.decompress(body, zlib.MAX_WBITS | 32) is not None


@given(st.lists(st.binary(max_size=200) | st.just(bytes(300_000)), min_size=1, max_size=6))
async def test_a_gzip_body_may_have_several_members(bodies: list[bytes]) -> None:
    packed, whole = b"".join(map(gzip.compress, bodies)), b"".join(bodies)
    assert await unpack(packed, "gzip", max_bytes=len(whole)) == whole
    if whole:
        with pytest.raises(PayloadTooLargeError):
            await unpack(packed, "gzip", max_bytes=len(whole) - 1)
    with pytest.raises(InvalidInputError, match="ends after"):
        await unpack(packed[:-1], "gzip", max_bytes=len(whole))


async def test_members_are_gzip_and_not_without_number() -> None:
    one = gzip.compress(b"x")
    for bad, why in (
        (one + b"more", "4 bytes behind"),
        (one + zlib.compress(b"x"), "bytes behind"),
        (zlib.compress(b"x") + one, "bytes behind"),
        (one * (MAX_MEMBERS + 1), "more than 4096 members"),
    ):
        with pytest.raises(InvalidInputError, match=why):
            await unpack(bad, "gzip", max_bytes=MAX_MEMBERS)
    assert await unpack(one * MAX_MEMBERS, "gzip", max_bytes=MAX_MEMBERS) == b"x" * MAX_MEMBERS
    with pytest.raises(InvalidInputError, match="bytes behind"):
        await unpack(zlib.compress(b"x") * 2, "deflate", max_bytes=10)


async def test_encodings_are_undone_from_the_last_to_the_first() -> None:
    assert await unpack(gzip.compress(zlib.compress(b"body")), "deflate, gzip", max_bytes=100) == b"body"
