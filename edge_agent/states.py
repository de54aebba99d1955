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
    """Seconds until the answer that most requests keep: queue, measured cost, and how late answers were lately; None: unknown."""
    typical_s: float | None = None
    """The same for half of the requests; None: as predicted."""
    is_live: bool = False
    """Whether `predicted_s` rests on answers of late, not on calibration alone."""
    pressure: str = ""
    """Why this device would rather not run anything now (memory is short); empty: it is well."""
    unasked_s: float = 0.0
    """Since a request last went there; infinite when that one was well served, or there was none: worth another look, if slow."""
    floor_s: float | None = None
    """What an answer takes when all is well: queue and measured cost; None: unknown."""


@dataclass(frozen=True, slots=True)
class CloudState:
    """The gateway, seen from here."""

    is_configured: bool
    is_permitted: bool = False
    """Whether the breaker lets a request through."""
    predicted_s: float | None = None
    """Seconds until the answer that most requests keep, from recent ones; None: there are none."""
    detail: str = ""
    """Why it is not permitted."""
    typical_s: float | None = None
    """The same for half of the requests; None: as predicted."""
    unasked_s: float = 0.0
    """Since a request last went there; infinite when that one was well served, or there was none: worth another look, if slow."""
    floor_s: float | None = None
    """What the fastest answers of late took; None: unknown."""


NO_GATEWAY = CloudState(is_configured=False)
