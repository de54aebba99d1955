"""`POST /v2/models/NAME[/versions/VERSION]/infer`: the hot route of REST, as a plain ASGI function.

JSON and binary tensors (`Inference-Header-Content-Length`) both ways, gzip and deflate both ways. Copies of a binary
tensor: in, one where uvicorn gathers the body, one more where it came in several parts; out, none of a large one.
"""

from __future__ import annotations

import math
import time

from starlette.types import Receive, Scope, Send

from runtime.errors import InvalidInputError
from runtime.serving.bearer import Authorize
from runtime.serving.controls import Controls
from runtime.serving.deadlines import with_timeout
from runtime.serving.hang_ups import HangUps
from runtime.serving.http_body import (
    MAX_READING_BYTES,
    MIN_PACK_BYTES,
    Headers,
    Reading,
    chosen_encoding,
    pack,
    read_body,
)
from runtime.serving.names import check_name
from runtime.serving.rest_calls import authorize_headers, send_error
from runtime.serving.service import InferenceService
from runtime.serving.shared_memory import write_outputs
from runtime.wire.rest_body import HEADER_LENGTH, Body
from runtime.wire.rest_repeats import ReplyEncoder, RequestDecoder

TIMEOUT_HEADER = "Edgeward-Timeout-Ms"
"""How long the client waits, in milliseconds, as gRPC's deadline; counts from when the request's head has arrived."""

# Up to here one write of the joined chunks costs less than a write for each.
JOIN_BYTES = 1 << 16

_TIMEOUT_KEY = TIMEOUT_HEADER.lower().encode()
_LENGTH_KEY = HEADER_LENGTH.lower().encode()


class InferRoute:
    """Answers inference requests; `target_of` says which paths are its own."""

    def __init__(
        self, service: InferenceService, controls: Controls, authorize: Authorize | None, max_body_bytes: int
    ) -> None:
        self._infer = controls.around(service.infer)
        self._controls = controls
        self._decode = RequestDecoder(controls.memory)
        self._encode = ReplyEncoder()
        self._hang_ups = HangUps()
        self._authorize = authorize
        self._max_body_bytes = max_body_bytes
        self._reading = Reading(max(MAX_READING_BYTES, max_body_bytes))

    async def __call__(self, target: tuple[str, str], scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request for the model and version in `target`."""
        try:
            headers: Headers = dict(scope["headers"])
            body = await self._answer(target, headers, receive)
            encoding = chosen_encoding(headers.get(b"accept-encoding"))
            if encoding is None or body.size_bytes < MIN_PACK_BYTES:
                await _send(send, body)
            else:
                await _send(send, Body((await pack(body.joined(), encoding),), body.header_length), encoding)
        except Exception as error:
            self._controls.load.note_error(error)
            await send_error(send, error)

    async def _answer(self, target: tuple[str, str], headers: Headers, receive: Receive) -> Body:
        if self._authorize is not None:
            authorize_headers(self._authorize, headers)
        self._controls.follow_headers(headers)
        model, version = target
        check_name(model, version)
        deadline = _deadline(headers)
        body = await read_body(headers, receive, self._max_body_bytes, self._reading, deadline)
        length = headers.get(_LENGTH_KEY)
        header_length = None if length is None else length.decode("latin-1")
        request, wanted = self._decode(model, version, body, header_length, deadline)
        if request.parameters:
            request = with_timeout(request)
        response = await self._hang_ups.while_connected(self._infer(request), receive)
        if request.outputs:
            return self._encode(response, wanted, write_outputs(request, response))
        return self._encode(response, wanted)


def target_of(path: str) -> tuple[str, str] | None:
    """Model and version ("" without one) of an inference path; None for any other path."""
    match path.split("/"):
        case ["", "v2", "models", model, "infer"]:
            return model, ""
        case ["", "v2", "models", model, "versions", version, "infer"]:
            return model, version
    return None


def _deadline(headers: Headers) -> float | None:
    given = headers.get(_TIMEOUT_KEY)
    if given is None:
        return None
    try:
        timeout_ms = float(given)
    except ValueError:
        timeout_ms = math.nan
    if not 0 < timeout_ms < math.inf:
        raise InvalidInputError(f"{TIMEOUT_HEADER} is {given.decode('latin-1')!r:.40}; expected milliseconds above 0")
    return time.monotonic() + timeout_ms / 1000


async def _send(send: Send, body: Body, encoding: str | None = None) -> None:
    size_bytes = body.size_bytes
    fields = [(b"content-type", body.content_type.encode()), (b"content-length", b"%d" % size_bytes)]
    if body.header_length is not None:
        fields.append((_LENGTH_KEY, b"%d" % body.header_length))
    if encoding is not None:
        fields += [(b"content-encoding", encoding.encode()), (b"vary", b"accept-encoding")]
    await send({"type": "http.response.start", "status": 200, "headers": fields})
    if size_bytes <= JOIN_BYTES:
        await send({"type": "http.response.body", "body": body.joined()})
        return
    for chunk in body.chunks:
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b""})
