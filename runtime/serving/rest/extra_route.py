"""A route that a program adds beside the protocol's: behind the same keys, its errors answered in the same way."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response


@dataclass(frozen=True, slots=True)
class ExtraRoute:
    """One path; its answer may raise errors of `runtime.errors`."""

    methods: str
    """With spaces between them: "GET POST"."""
    path: str
    """In Starlette's spelling: "/edgeward/jobs/{id}"."""
    answer: Callable[[Request], Awaitable[Response]]
    summary: str
    """What it is for, in the OpenAPI document; of several methods what each does."""
