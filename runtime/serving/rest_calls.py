"""What every REST route here shares: JSON replies, errors by the one table, keys, and clients that hang up."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Mapping
from typing import Any, TypeVar

from starlette.types import Receive, Send

from runtime.errors import CancelledError, EdgewardError, ModelNotReadyError
from runtime.serving.bearer import Authorize, bearer_value
from runtime.serving.http_body import Headers
from runtime.wire.rest_descriptions import error_json
from runtime.wire.status import hints_of, status_of

log = logging.getLogger(__name__)

T = TypeVar("T")

# A look whether the client is still there costs a task; a request that is answered sooner is not worth one.
HANG_UP_LOOK_AFTER_S = 0.005


async def send_reply(
    send: Send, status: int, content_type: str, body: bytes, headers: Mapping[str, str] | None = None
) -> None:
    """Sends one whole reply."""
    fields = [(b"content-type", content_type.encode()), (b"content-length", str(len(body)).encode())]
    if headers:
        fields += [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": body})


async def send_json(send: Send, document: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
    """Sends `document` as JSON."""
    await send_reply(send, status, "application/json", json.dumps(document).encode(), headers)


async def send_error(send: Send, error: Exception) -> None:
    """Sends the status, text and hints of `error`; what is not an error of ours is logged here, once."""
    if not isinstance(error, EdgewardError):
        log.error("a request failed in an unforeseen way", exc_info=error)
    headers = hints_of(error)
    status = status_of(error).http
    if status == 401:
        headers["www-authenticate"] = "Bearer"
    await send_json(send, error_json(error), status, headers)


def authorize_headers(authorize: Authorize, headers: Headers) -> None:
    """Shows the request's bearer value to `authorize`, which raises `UnauthenticatedError` where it is not good."""
    value = headers.get(b"authorization")
    authorize(bearer_value(None if value is None else value.decode("latin-1")))


async def while_connected(work: Awaitable[T], receive: Receive) -> T:
    """The result of `work`, which is cancelled when the client hangs up (`CancelledError`). The body is read already."""
    caller = asyncio.current_task()
    assert caller is not None
    watch = _HangUp(caller, receive)
    timer = asyncio.get_running_loop().call_later(HANG_UP_LOOK_AFTER_S, watch.start)
    try:
        return await work
    except asyncio.CancelledError:
        if not watch.has_happened:
            # The server cut off what its drain was too short for; this is the request's outermost frame.
            raise ModelNotReadyError(
                "the server stopped before it could answer; retry, here or at another one"
            ) from None
        caller.uncancel()
        raise CancelledError("the client went away before the answer") from None
    finally:
        timer.cancel()
        watch.stop()


class _HangUp:
    """Cancels `caller` once the client is gone."""

    def __init__(self, caller: asyncio.Task[Any], receive: Receive) -> None:
        self.has_happened = False
        self._caller = caller
        self._receive = receive
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._watch())

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.has_happened = True
        self._caller.cancel()
