"""What every REST route here shares: JSON replies, errors by the one table, and keys."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from starlette.types import Send

from runtime.errors import EdgewardError
from runtime.serving.bearer import Authorize, bearer_value
from runtime.serving.rest.body import Headers
from runtime.serving.rest.whole_requests import Reply
from runtime.wire.rest_descriptions import error_json
from runtime.wire.status import hints_of, status_of

log = logging.getLogger(__name__)


async def send_json(send: Send, document: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
    """Sends `document` as JSON."""
    body = json.dumps(document).encode()
    await send({"type": "http.response.start", "status": status, "headers": _json_fields(body, headers or {})})
    await send({"type": "http.response.body", "body": body})


async def send_error(send: Send, error: Exception) -> None:
    """Sends the status, text and hints of `error`; what is not an error of ours is logged here, once."""
    status, headers = _status_and_hints(error)
    await send_json(send, error_json(error), status, headers)


def reply_error(reply: Reply, error: Exception) -> None:
    """The same for a request that was asked whole."""
    status, headers = _status_and_hints(error)
    body = json.dumps(error_json(error)).encode()
    reply(reply_head(status, _json_fields(body, headers)), (body,))


def reply_head(status: int, fields: Sequence[tuple[bytes, bytes]]) -> bytes:
    """Status line and header fields, as `whole_requests.Reply` takes them."""
    lines = [b"HTTP/1.1 %d %b" % (status, _phrase(status)), *(b"%b: %b" % field for field in fields)]
    return b"".join(b"%b\r\n" % line for line in lines)


def _json_fields(body: bytes, headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    fields = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    return fields + [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]


def _phrase(status: int) -> bytes:
    try:
        return HTTPStatus(status).phrase.encode()
    except ValueError:  # 499 is in no standard
        return b""


def _status_and_hints(error: Exception) -> tuple[int, dict[str, str]]:
    if not isinstance(error, EdgewardError):
        log.error("a request failed in an unforeseen way", exc_info=error)
    headers = hints_of(error)
    status = status_of(error).http
    if status == 401:
        headers["www-authenticate"] = "Bearer"
    return status, headers


def authorize_headers(authorize: Authorize, headers: Headers) -> None:
    """Shows the request's bearer value to `authorize`, which raises `UnauthenticatedError` where it is not good."""
    value = headers.get(b"authorization")
    authorize(bearer_value(None if value is None else value.decode("latin-1")))
