"""Bodies of HTTP requests: read within a cap, and unpacked within the same cap (`packing`).

The cap holds while reading: a body that is too large is never held whole.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

from starlette.types import Receive

from runtime.errors import CancelledError, DeadlineExceededError, PayloadTooLargeError
from runtime.serving.packing import unpack
from runtime.serving.reading import Reading

Headers = Mapping[bytes, bytes]
"""Names in lower case, as ASGI has them."""


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


def _too_large(seen: str, max_bytes: int) -> PayloadTooLargeError:
    return PayloadTooLargeError(
        f"the body has {seen}; this server takes at most {max_bytes}; send smaller batches or raise max_message_bytes"
    )
