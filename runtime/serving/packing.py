"""gzip and deflate, both ways: unpacked within a cap, packed when the client asks; REST's bodies and gRPC's messages.

What unfolds to too much is never held whole, and others get their turn on the event loop meanwhile.
"""

from __future__ import annotations

import asyncio
import zlib

from runtime.errors import InvalidInputError, PayloadTooLargeError, UnsupportedError

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
