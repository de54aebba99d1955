"""What is known of the two arms at one moment, as values: what routing decides on."""

from __future__ import annotations

from dataclasses import dataclass

from runtime.errors import EdgewardError


@dataclass(frozen=True, slots=True)
class LocalState:
    """The local runtime, seen from one request."""

    refusal: EdgewardError | None = None
    """What it would say at once (no such model here, still loading, ...); None: it is ready."""
    predicted_s: float | None = None
    """Seconds until the answer, queue and run; None: not measured yet."""


@dataclass(frozen=True, slots=True)
class CloudState:
    """The gateway, seen from here."""

    is_configured: bool
    is_permitted: bool = False
    """Whether the breaker lets a request through."""
    predicted_s: float | None = None
    """Seconds until the answer, from recent ones; None: there are none."""
    detail: str = ""
    """Why it is not permitted."""


NO_GATEWAY = CloudState(is_configured=False)
