"""Bodies of HTTP requests and replies: read within a cap, unpacked within the same cap, packed when the client asks.

Caps hold while reading: a body that is too large, or that unfolds to too much, is never held whole.
"""

from __future__ import annotations

import asyncio
import time
import zlib
from collections.abc import Mapping

from starlette.types import Receive

from runtime.errors import (
    CancelledError,
    DeadlineExceededError,
    InvalidInputError,
    PayloadTooLargeError,
    UnsupportedError,
)
from runtime.serving.reading import Reading

Headers = Mapping[bytes, bytes]
"""Names in lower case, as ASGI has them."""

# Unpacked or packed at a time before others get their turn on the event loop: 1-2 ms of unpacking, 3-8 ms of packing
# (float32 tensors, own measurement on a 2-core x86-64 VM, November 2026).
STEP_BYTES = 1 << 18

# Packed bytes that are handed to the unpacker at a time: it copies what it leaves of them.
PIECE_BYTES = 1 << 16

# Of one gzip body: 256 MiB in the members of 64 KiB that bgzip writes. A member of nothing has 20 bytes and costs as much to begin.
MAX_MEMBERS = 4096

# Below this packing costs more than it saves: one network packet takes it anyhow.
MIN_PACK_BYTES = 1400

# Level 6 takes one to ten times as long and makes float32 tensors of pixels and of noise 1-11 % smaller (same measurement).
PACK_LEVEL = 1

_WINDOW = {"gzip": zlib.MAX_WBITS | 16, "deflate": zlib.MAX_WBITS}
_EITHER_WINDOW = zlib.MAX_WBITS | 32  # gzip or zlib, by its first bytes
_GZIP_MAGIC = b"\x1f\x8b"


async def read_body(
    headers: Headers,
    receive: Receive,
    max_bytes: int,
    reading: Reading | None = None,
    deadline: float | None = None,
) -> bytes:
    """The whole body, unpacked. `PayloadTooLargeError` as soon as it is known to pass `max_bytes`.

    `deadline` (of `time.monotonic`) holds while it is received: `DeadlineExceededError`.
    """
    declared = headers.get(b"content-length", b"")
    if declared.isdigit() and int(declared[:20]) > max_bytes:
        raise _too_large(f"{declared[:20].decode()} bytes", max_bytes)
    if deadline is None:
        body = await _receive_body(receive, max_bytes, reading)
    else:
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                body = await _receive_body(receive, max_bytes, reading)
        except TimeoutError:
            raise DeadlineExceededError("the deadline passed before the request was here whole") from None
    encoding = headers.get(b"content-encoding")
    return body if encoding is None else await unpack(body, encoding.decode("latin-1"), max_bytes)


async def unpack(body: bytes, encoding: str, max_bytes: int) -> bytes:
    """The body as it was before its Content-Encoding; others get their turn on the event loop meanwhile."""
    for name in reversed([part.strip().lower() for part in encoding.split(",")]):
        if name in ("identity", ""):
            continue
        if name not in ("gzip", "x-gzip", "deflate"):
            raise UnsupportedError(f"content encoding {name!r:.40} is not supported; send gzip, deflate or identity")
        body = await _unpack_once(body, name, max_bytes)
    return body


def chosen_encoding(accept: bytes | None) -> str | None:
    """What of gzip and deflate an Accept-Encoding header likes best; None for neither."""
    if accept is None:
        return None
    best, best_weight = None, 0.0
    for item in accept.decode("latin-1").lower().split(","):
        name, _, parameter = item.partition(";")
        name = name.strip()
        weight = _weight(parameter)
        if name in _WINDOW and weight > best_weight:
            best, best_weight = name, weight
    return best


async def pack(body: bytes, encoding: str) -> bytes:
    """The body in `encoding` ("gzip" or "deflate"); others get their turn on the event loop meanwhile."""
    packer = zlib.compressobj(PACK_LEVEL, zlib.DEFLATED, _WINDOW[encoding])
    view, parts = memoryview(body), []
    for start in range(0, len(body), STEP_BYTES):
        if start:
            await asyncio.sleep(0)
        parts.append(packer.compress(view[start : start + STEP_BYTES]))
    parts.append(packer.flush())
    return b"".join(parts)


async def _receive_body(receive: Receive, max_bytes: int, reading: Reading | None) -> bytes:
    message = await receive()
    if message["type"] == "http.disconnect":
        raise CancelledError("the client went away before the request was complete")
    body: bytes = message.get("body", b"")
    if message.get("more_body", False):
        return await _receive_on(body, receive, max_bytes, Reading(max_bytes) if reading is None else reading)
    if len(body) > max_bytes:
        raise _too_large(f"{len(body)} bytes", max_bytes)
    return body


async def _receive_on(first: bytes, receive: Receive, max_bytes: int, reading: Reading) -> bytes:
    parts, size, is_more = [first], len(first), True
    counted = 0
    try:
        while is_more:
            if size > max_bytes:
                raise _too_large("more bytes than that", max_bytes)
            reading.take(size - counted)
            counted = size
            message = await receive()
            if message["type"] == "http.disconnect":
                raise CancelledError("the client went away before the request was complete")
            part = message.get("body", b"")
            parts.append(part)
            size += len(part)
            is_more = message.get("more_body", False)
        if size > max_bytes:
            raise _too_large(f"{size} bytes", max_bytes)
        return b"".join(parts)
    finally:
        reading.give_back(counted)


async def _unpack_once(body: bytes, name: str, max_bytes: int) -> bytes:
    unpacker, members = zlib.decompressobj(_EITHER_WINDOW), 1
    parts, size, rest, at = [], 0, b"", 0
    try:
        while True:
            if not rest:
                rest = body[at : at + PIECE_BYTES]
                at += len(rest)
            part = unpacker.decompress(rest, STEP_BYTES)
            rest = unpacker.unconsumed_tail
            size += len(part)
            parts.append(part)
            if size > max_bytes:
                raise PayloadTooLargeError(
                    f"the {name} body of {len(body)} bytes unfolds to more than {max_bytes} bytes; send smaller batches"
                )
            if unpacker.eof:
                rest = unpacker.unused_data
                begins = at - len(rest)
                if begins == len(body):
                    break
                members += 1
                _check_member(body, begins, name, members)
                unpacker = zlib.decompressobj(_WINDOW["gzip"])
            elif not part and not rest and at == len(body):
                raise InvalidInputError(f"the {name} body ends after {len(body)} bytes, before its packed data does")
            if rest or at < len(body):
                await asyncio.sleep(0)
    except zlib.error as error:
        raise InvalidInputError(f"the body says it is {name}, but it does not unpack: {error}") from None
    return b"".join(parts)


def _check_member(body: bytes, begins: int, name: str, members: int) -> None:
    """`InvalidInputError` where what comes behind the packed data is no further member of a gzip file (RFC 1952, 2.2)."""
    if not (body.startswith(_GZIP_MAGIC) and body.startswith(_GZIP_MAGIC, begins)):
        raise InvalidInputError(f"the {name} body has {len(body) - begins} bytes behind its packed data")
    if members > MAX_MEMBERS:
        raise InvalidInputError(f"the {name} body has more than {MAX_MEMBERS} members; pack it as fewer")


def _weight(parameter: str) -> float:
    name, _, value = parameter.strip().partition("=")
    if name.strip() != "q":
        return 1.0
    try:
        return float(value)
    except ValueError:
        return 0.0


def _too_large(seen: str, max_bytes: int) -> PayloadTooLargeError:
    return PayloadTooLargeError(
        f"the body has {seen}; this server takes at most {max_bytes}; send smaller batches or raise max_message_bytes"
    )
