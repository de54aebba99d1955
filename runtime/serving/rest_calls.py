"""What every REST route here shares: JSON replies, errors by the one table, and keys."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any

from starlette.types import Send

from runtime.errors import EdgewardError
from runtime.serving.bearer import Authorize, bearer_value
from runtime.serving.http_body import Headers
from runtime.wire.rest_descriptions import error_json
from runtime.wire.status import hints_of, status_of

log = logging.getLogger(__name__)


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
