"""Admin routes as an ASGI application: who may ask, how much may be sent, errors as JSON, headers that browsers obey.

Reading needs no key where only this machine can reach the port; whatever changes something needs the admin key always. A key
travels in a header and never in a cookie, so no web page can borrow it; and a read without a key is answered only to requests for
this machine by one of its loopback names, so that a page on the web cannot read through a name of its own (DNS rebinding).
"""

from __future__ import annotations

import ipaddress
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cloud_gateway.admin.reviewers import ReviewerKeys
from runtime.errors import CancelledError, InvalidInputError, PayloadTooLargeError, UnauthenticatedError
from runtime.serving.bearer import Authorize, bearer_value
from runtime.serving.rest.body import read_body
from runtime.serving.rest.calls import authorize_headers, send_error
from runtime.store import check_text, check_texts
from runtime.wire.rest_body import parse_object

# Of a JSON body; a release plan or a label is a few kilobytes.
MAX_BODY_BYTES: Final = 4 << 20

# For answers that do not bring their own. A page (HTML) brings its own content-security-policy.
HEADERS: Final = {
    b"cache-control": b"no-store",
    b"content-security-policy": b"default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    b"cross-origin-resource-policy": b"same-origin",
    b"cross-origin-opener-policy": b"same-origin",
    b"referrer-policy": b"no-referrer",
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
}


class AdminRequest:
    """A request to an admin route: parameters of its path and query, and its body within the route's cap."""

    def __init__(self, request: Request, max_body_bytes: int) -> None:
        self._request = request
        self._max_body_bytes = max_body_bytes

    @property
    def path(self) -> Mapping[str, str]:
        """What stands in the braces of the route's path."""
        return _checked(self._request.path_params)

    @property
    def query(self) -> Mapping[str, str]:
        """What stands behind the question mark; of a name that stands there twice, the last."""
        return _checked(self._request.query_params)

    @property
    def reviewer(self) -> str | None:
        """Whose reviewer key it brought; None: none, or the admin key."""
        name: str | None = self._request.scope.get(_REVIEWER)
        return name

    @property
    def headers(self) -> Mapping[str, str]:
        """By name, in any case."""
        return self._request.headers

    async def body(self) -> bytes:
        """All of it; `PayloadTooLargeError` as soon as it is known to be too large."""
        return await read_body(dict(self._request.scope["headers"]), self._request.receive, self._max_body_bytes)

    async def json(self, *, are_texts_checked: bool = True) -> dict[str, Any]:
        """The body as a JSON object, empty where there is no body; `InvalidInputError` otherwise.

        Also for a text that no database keeps, unless the route looks at that itself: not `are_texts_checked`.
        """
        body = await self.body()
        document = parse_object(body) if body else {}
        if are_texts_checked and b"\\u" in body:  # in JSON's own letters alone can such a text arrive
            check_texts(document, "the body")
        return document

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives, within the cap; for what is too large to be held."""
        size = 0
        is_more = True
        while is_more:
            message = await self._request.receive()
            if message["type"] == "http.disconnect":
                raise CancelledError("the client went away before the request was complete")
            part: bytes = message.get("body", b"")
            size += len(part)
            if size > self._max_body_bytes:
                raise PayloadTooLargeError(f"the body has over {self._max_body_bytes} bytes; that is the cap here")
            is_more = message.get("more_body", False)
            if part:
                yield part


def list_in(document: Mapping[str, Any], name: str, most: int) -> list[Any]:
    """The list `name` of a body, which has 1 to `most` entries; `InvalidInputError` otherwise."""
    if name not in document:
        raise InvalidInputError(f"the body has no {name!r}; expected a list of 1 to {most} {name}")
    value = document[name]
    if not isinstance(value, list):
        raise InvalidInputError(f"{name!r} is {value!r:.80}; expected a list of 1 to {most} {name}")
    if not 0 < len(value) <= most:
        raise InvalidInputError(f"{name!r} has {len(value)} entries; expected 1 to {most}")
    return value


def _checked(given: Mapping[str, str]) -> Mapping[str, str]:
    """Of a path or query, what every database keeps; `InvalidInputError` otherwise."""
    for name, value in given.items():
        check_text(value, f"{name!r:.80} of the address")
    return given


# Where the check of keys leaves the name for the route, in the request's scope.
_REVIEWER: Final = "edgeward.reviewer"

Answer = Callable[[AdminRequest], Awaitable[Mapping[str, Any] | Response]]


@dataclass(frozen=True, slots=True)
class AdminRoute:
    """One method and path, and what answers: a JSON object, or a response of Starlette's. Errors are those of `runtime.errors`."""

    method: str
    """"GET" reads; whatever else changes something, and so needs the admin key."""
    path: str
    """As Starlette writes it: "/admin/releases/{model}"."""
    answer: Answer
    max_body_bytes: int = MAX_BODY_BYTES
    is_open: bool = False
    """Answered without a key wherever it is asked from: a page's own files, which say nothing of this gateway."""
    is_for_reviewers: bool = False
    """Answered to a reviewer's key too, which opens nothing else."""

    @property
    def changes(self) -> bool:
        """Whether it may do more than read."""
        return self.method not in ("GET", "HEAD")


def admin_app(
    routes: Sequence[AdminRoute], authorize: Authorize, *, is_loopback: bool, reviewers: ReviewerKeys | None = None
) -> ASGIApp:
    """The application. `authorize` sees the bearer value of whatever needs the admin key.

    `is_loopback`: only this machine reaches the port, so reading needs none. `reviewers`: who may review with keys of their own.
    """
    keys = reviewers or ReviewerKeys()
    made = [Route(r.path, _Endpoint(r, authorize, keys, is_loopback=is_loopback), methods=[r.method]) for r in routes]
    return _with_headers(Starlette(routes=made, exception_handlers={HTTPException: _http_error}))


class _Endpoint:
    """An ASGI callable that Starlette takes for an application."""

    def __init__(self, route: AdminRoute, authorize: Authorize, reviewers: ReviewerKeys, *, is_loopback: bool) -> None:
        self._route = route
        self._authorize = authorize
        self._reviewers = reviewers
        self._is_loopback = is_loopback

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            self._check(request)
            told = await self._route.answer(AdminRequest(request, self._route.max_body_bytes))
            response = told if isinstance(told, Response) else JSONResponse(told)
        except Exception as error:
            await send_error(send, error)
        else:
            await response(scope, receive, send)

    def _check(self, request: Request) -> None:
        """`UnauthenticatedError` unless whoever asks may."""
        if self._route.is_open:
            return
        reviewer = self._reviewers.name_of(bearer_value(request.headers.get("authorization")))
        if reviewer is not None:
            if not self._route.is_for_reviewers:
                raise UnauthenticatedError(
                    f"the key of reviewer {reviewer!r} lists and answers reviews, and nothing else; this needs the admin key"
                )
            request.scope[_REVIEWER] = reviewer
            return
        if not self._route.changes and self._is_loopback and "authorization" not in request.headers:
            if not _names_loopback(request.headers.get("host", "")):
                raise UnauthenticatedError(
                    f"reading without the admin key is for http://127.0.0.1 and http://localhost alone; the request names "
                    f"{request.headers.get('host', '')!r:.100}; send the key as 'authorization: Bearer <key>'"
                )
            return
        authorize_headers(self._authorize, dict(request.scope["headers"]))


def _names_loopback(host: str) -> bool:
    """Whether a Host header names this machine by a name that nobody else can give to another."""
    name = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
    name = name.strip("[]").lower()
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _with_headers(app: ASGIApp) -> ASGIApp:
    """Adds `HEADERS` to every answer that does not bring them, errors too."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_more(message: Message) -> None:
            if message["type"] == "http.response.start":
                had = list(message.get("headers", []))
                names = {name.lower() for name, _ in had}
                message["headers"] = [*had, *(pair for pair in HEADERS.items() if pair[0] not in names)]
            await send(message)

        await app(scope, receive, send_more)

    return wrapped


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    route = f"{request.method} {request.url.path!r:.200}"
    if error.status_code == HTTPStatus.NOT_FOUND:
        text = f"no route {route} on the admin port; models are served on another port"
    elif error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = sorted((error.headers or {}).get("Allow", "").split(", "))  # Starlette has them in no order
        text = f"{route}: wrong method; allowed: {', '.join(allowed)}"
    else:
        text = f"{route}: {error.detail}"
    return JSONResponse({"error": text}, status_code=error.status_code, headers=error.headers)
