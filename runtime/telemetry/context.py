"""Which request a piece of work belongs to, carried along by the event loop: for spans, log lines and calls to other machines.

These two variables are the one thing here that belongs to a module: a context variable has no other place, and its value is that
of the task that reads it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextvars import ContextVar
from dataclasses import dataclass

TRACEPARENT = "traceparent"
"""The name of the header and of the gRPC metadata (https://www.w3.org/TR/trace-context/)."""

# Version 00, or a later one of which the first four fields are read; ids of zeros alone are invalid.
_VALID = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")


@dataclass(frozen=True, slots=True)
class RequestMark:
    """What a log line says of the request it was written for."""

    request_id: str
    model: str


traceparent: ContextVar[str | None] = ContextVar("edgeward_traceparent", default=None)
"""The span that is the parent of whatever is done now, as W3C writes it; None: nobody traces."""

request_mark: ContextVar[RequestMark | None] = ContextVar("edgeward_request", default=None)
"""The request that is being answered; set only where log lines name it."""


def parse_traceparent(value: str | bytes | None) -> str | None:
    """`value` where it is a valid traceparent; a broken one is as good as none, says the specification."""
    if value is None:
        return None
    text = value.decode("latin-1") if isinstance(value, bytes) else value
    return text if len(text) <= 512 and _VALID.fullmatch(text) else None


def traceparent_in(metadata: Iterable[tuple[str, str | bytes]] | None) -> str | None:
    """The valid traceparent in a call's metadata."""
    return next((parse_traceparent(value) for key, value in metadata or () if key == TRACEPARENT), None)
