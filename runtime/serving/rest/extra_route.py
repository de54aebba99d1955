"""A route that a program adds beside the protocol's: behind the same keys, its errors answered in the same way."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

Document = Callable[[], Awaitable[Mapping[str, object]]]
"""What a part of a program says of itself now, for JSON."""


@dataclass(frozen=True, slots=True)
class ExtraRoute:
    """One path; its answer may raise errors of `runtime.errors`."""

    methods: str
    """With spaces between them: "GET POST"."""
    path: str
    """In Starlette's spelling: "/edgeward/jobs/{id}"."""
    answer: Callable[[Request], Awaitable[Response]]
    summary: str | None
    """What it is for, in the OpenAPI document; of several methods what each does. None: a page or its file, which is not there."""
    is_open: bool = False
    """Answered without a key, as a page's own files are, which say nothing of this server."""


def document_route(path: str, document: Document) -> ExtraRoute:
    """Where a program gives an account of itself, named by the last word of `path`."""

    async def answer(_: Request) -> Response:
        return JSONResponse(await document())

    return ExtraRoute("GET", path, answer, f"This program's own account: {path.rpartition('/')[2]}")
