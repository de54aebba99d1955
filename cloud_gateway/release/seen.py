"""What a gateway saw of one request of a release: small enough to be written down, for the guards of the gateway that leads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

from pydantic import ConfigDict, FiniteFloat, TypeAdapter

from cloud_gateway.guards import Arm
from cloud_gateway.release.comparison import Comparison
from cloud_gateway.release.mirrored import Mirrored
from cloud_gateway.release.split import Place

SeenRequest = tuple[Arm, bool, FiniteFloat, Place, str, FiniteFloat, bool]
"""Of a caller's request: arm, whether that failed, seconds, where its key falls, segment, the candidate's share when it was routed,
and whether stable answered instead. Bare, as it is made on the way of every request."""


@dataclass(frozen=True, slots=True)
class SeenPair:
    """Of a request that both versions were given; `Mirrored` without the answers themselves."""

    segment: str
    comparison: Comparison | None
    """None: one of them failed, or there was nothing to compare."""
    is_candidate_error: bool
    is_stable_error: bool
    timed: tuple[FiniteFloat, FiniteFloat] | None
    """Seconds of stable and of the candidate, each alone."""
    noise: Comparison | None
    """Stable against a second copy of it."""

    @classmethod
    def of(cls, mirrored: Mirrored) -> Self:
        """What there is to be known of it."""
        errors = mirrored.error is not None, mirrored.stable_error is not None
        return cls(mirrored.segment, mirrored.comparison, *errors, mirrored.timed, mirrored.noise)


Seen = SeenRequest | SeenPair
# A distance may be NaN, which is as far off as can be.
_SEEN: Final = TypeAdapter(tuple[Seen, ...], config=ConfigDict(strict=True, ser_json_inf_nan="constants"))


def to_text(seen: Sequence[Seen]) -> str:
    """JSON."""
    return _SEEN.dump_json(tuple(seen)).decode()


def from_text(text: str) -> tuple[Seen, ...]:
    """What `to_text` was given; `ValueError` where it is anything else, to the last number."""
    return _SEEN.validate_json(text)
