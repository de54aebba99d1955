"""A request on its way to the version that did not have its caller, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from cloud_gateway.guards import Arm
from cloud_gateway.release.comparison import Comparison
from runtime.tensors import Array


class Offered(NamedTuple):
    """As it was offered: made on the way of a request, so all that can be is worked out later, elsewhere."""

    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array] | None
    """None: there is nothing to compare."""
    answered: Arm
    failure: str
    """How the candidate failed; empty: it did not."""
    number: int
    """Among those offered, from 1."""
    size_bytes: int
    segment: str
    request_id: str
    about: object

    @property
    def rows(self) -> int:
        """Of its inputs."""
        return next((len(value) for value in self.inputs.values() if value.ndim), 1)


@dataclass(frozen=True, slots=True)
class Mirrored:
    """A request that both versions were given."""

    request_id: str
    segment: str
    comparison: Comparison | None
    """None: one of them failed, or there was nothing to compare."""
    stable_outputs: Mapping[str, Array] | None
    candidate_outputs: Mapping[str, Array] | None
    error: str | None = None
    """How the candidate failed."""
    stable_error: str | None = None
    answered: Arm = Arm.STABLE
    """Which had the caller; the other one was asked here."""
    timed: tuple[float, float] | None = None
    """Seconds of stable and of the candidate, each alone; None: it ran in a batch."""
    noise: Comparison | None = None
    """Stable against a second copy of it."""
    about: object = None
    """What whoever offered the request wants to know it by."""
