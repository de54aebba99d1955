"""`POST /v2/models/NAME[/versions/VERSION]/infer`: the hot route of REST, as a plain ASGI function.

JSON and binary tensors (`Inference-Header-Content-Length`) both ways, gzip and deflate both ways. Copies of a large binary
tensor behind a head that was seen before: in, two, out of uvloop's buffer and to where the body is gathered; out, none.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Any

from starlette.types import Receive, Scope, Send

from runtime.errors import CancelledError, InvalidInputError
from runtime.serving.asking import Withdraw
from runtime.serving.bearer import Authorize
from runtime.serving.controls import Controls
from runtime.serving.deadlines import with_timeout
from runtime.serving.memory.shared_memory import write_outputs
from runtime.serving.names import check_name
from runtime.serving.packing import MIN_PACK_BYTES, chosen_encoding, pack
from runtime.serving.reading import MAX_READING_BYTES, Reading
from runtime.serving.rest.body import Headers, read_body
from runtime.serving.rest.calls import authorize_headers, reply_error, reply_head, send_error
from runtime.serving.rest.connection import JOIN_BYTES
from runtime.serving.rest.hang_ups import HangUps
from runtime.serving.rest.whole_requests import AskWhole, MayGather, Reply
from runtime.serving.service import InferenceService
from runtime.tensors import Chunk
from runtime.wire.repeats import Repeats
from runtime.wire.rest_body import HEADER_LENGTH, Body
from runtime.wire.rest_codec import WantedBinary
from runtime.wire.rest_repeats import ReplyEncoder, RequestDecoder
from runtime.wire.values import InferenceRequest, InferenceResponse

TIMEOUT_HEADER = "Edgeward-Timeout-Ms"
"""How long the client waits, in milliseconds, as gRPC's deadline; counts from when the request's head has arrived."""

_TIMEOUT_KEY = TIMEOUT_HEADER.lower().encode()
_LENGTH_KEY = HEADER_LENGTH.lower().encode()


@dataclass(frozen=True, slots=True)
class _Head:
    """What the head of a request says of an inference."""

    target: tuple[str, str]
    headers: Headers
    header_length: str | None


class InferRoute:
    """Answers inference requests: through ASGI, or whole ones at once (`whole_requests`). `target_of` says which are its own."""

    def __init__(
        self, service: InferenceService, controls: Controls, authorize: Authorize | None, max_body_bytes: int
    ) -> None:
        self._infer = controls.around(service.infer)
        self._ask = controls.asking(service)
        self._controls = controls
        self._decode = RequestDecoder(controls.memory)
        self._encode = ReplyEncoder()
        self._hang_ups = HangUps()
        self._authorize = authorize
        self._max_body_bytes = max_body_bytes
        self._reply_heads: Repeats[tuple[int, int | None, str | None], bytes] = Repeats()
        self._packing: set[asyncio.Task[None]] = set()
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

    def at_once(self, scope: Mapping[str, Any]) -> tuple[AskWhole, MayGather] | None:
        """Who answers requests with this head; None where they go the long way."""
        target = target_of(scope["path"]) if scope["method"] == "POST" else None
        headers: Headers = dict(scope["headers"])
        if target is None or self._controls.tracer is not None or b"content-encoding" in headers:
            return None
        if int(headers[b"content-length"]) > self._max_body_bytes:
            return None
        head = _Head(target, headers, _header_length(headers))
        return partial(self._answer_whole, head), partial(self._may_gather, head)

    def _may_gather(self, head: _Head) -> Reading | None:
        if _TIMEOUT_KEY in head.headers:  # counts from the head on
            return None
        try:
            if self._authorize is not None:
                authorize_headers(self._authorize, head.headers)
            check_name(*head.target)
        except Exception:  # the long way says what it is
            return None
        return self._reading

    def _answer_whole(self, head: _Head, body: Chunk, reply: Reply) -> Withdraw | None:
        load = self._controls.load
        self._controls.wakeful.came()
        is_over = False

        def told(response: InferenceResponse | None, error: BaseException | None) -> None:
            nonlocal is_over
            is_over = True
            self._told(head, request, wanted, reply, response, error)

        try:
            if self._authorize is not None:
                authorize_headers(self._authorize, head.headers)
            model, version = head.target
            check_name(model, version)
            request, wanted = self._decode(model, version, body, head.header_length, _deadline(head.headers))
            if request.parameters:
                request = with_timeout(request)
            withdraw = self._ask(request, told)
        except Exception as error:
            load.note_error(error)
            reply_error(reply, error)
            return None
        load.in_flight += 1

        def withdrawn() -> None:
            nonlocal is_over
            if is_over:  # answered, though the client may not have it yet, or withdrawn before
                return
            is_over = True
            load.in_flight -= 1
            load.note_error(CancelledError("the client went away before the answer"))
            withdraw()

        return withdrawn

    def _told(
        self,
        head: _Head,
        request: InferenceRequest,
        wanted: WantedBinary,
        reply: Reply,
        response: InferenceResponse | None,
        error: BaseException | None,
    ) -> None:
        load = self._controls.load
        load.in_flight -= 1
        try:
            if response is None:
                assert error is not None, "an answer is one or the other"
                raise error
            if request.outputs:
                body = self._encode(response, wanted, write_outputs(request, response))
            else:
                body = self._encode(response, wanted)
            load.answered += 1
        except Exception as wrong:
            load.note_error(wrong)
            reply_error(reply, wrong)
            return
        encoding = chosen_encoding(head.headers.get(b"accept-encoding"))
        if encoding is not None and body.size_bytes >= MIN_PACK_BYTES:
            task = asyncio.get_running_loop().create_task(self._reply_packed(body, encoding, reply))
            self._packing.add(task)
            task.add_done_callback(self._packing.discard)
            return
        self._reply(body, reply)

    async def _reply_packed(self, body: Body, encoding: str, reply: Reply) -> None:
        packed = Body((await pack(body.joined(), encoding),), body.header_length)
        self._reply(packed, reply, encoding)

    def _reply(self, body: Body, reply: Reply, encoding: str | None = None) -> None:
        key = body.size_bytes, body.header_length, encoding
        head = self._reply_heads.get(key)
        if head is None:
            head = self._reply_heads.keep(key, reply_head(HTTPStatus.OK, _fields(body, encoding)))
        reply(head, body.chunks)
        self._controls.wakeful.answered()

    async def _answer(self, target: tuple[str, str], headers: Headers, receive: Receive) -> Body:
        if self._authorize is not None:
            authorize_headers(self._authorize, headers)
        self._controls.follow_headers(headers)
        model, version = target
        check_name(model, version)
        deadline = _deadline(headers)
        body = await read_body(headers, receive, self._max_body_bytes, self._reading, deadline)
        request, wanted = self._decode(model, version, body, _header_length(headers), deadline)
        if request.parameters:
            request = with_timeout(request)
        with self._controls.load.answering():
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


def _header_length(headers: Headers) -> str | None:
    length = headers.get(_LENGTH_KEY)
    return None if length is None else length.decode("latin-1")


def _fields(body: Body, encoding: str | None) -> list[tuple[bytes, bytes]]:
    fields = [(b"content-type", body.content_type.encode()), (b"content-length", b"%d" % body.size_bytes)]
    if body.header_length is not None:
        fields.append((_LENGTH_KEY, b"%d" % body.header_length))
    if encoding is not None:
        fields += [(b"content-encoding", encoding.encode()), (b"vary", b"accept-encoding")]
    return fields


async def _send(send: Send, body: Body, encoding: str | None = None) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": _fields(body, encoding)})
    if body.size_bytes <= JOIN_BYTES:
        await send({"type": "http.response.body", "body": body.joined()})
        return
    for chunk in body.chunks:
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b""})
