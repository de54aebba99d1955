"""What a gateway saw of one request of a release: small enough to be written down, for the guards of the gateway that leads."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from cloud_gateway.guards import Arm
from cloud_gateway.release.comparison import Comparison
from cloud_gateway.release.mirrored import Mirrored
from cloud_gateway.release.split import Place

SeenRequest = tuple[Arm, bool, float, Place, str, float, bool]
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
    timed: tuple[float, float] | None
    """Seconds of stable and of the candidate, each alone."""
    noise: Comparison | None
    """Stable against a second copy of it."""

    @classmethod
    def of(cls, mirrored: Mirrored) -> Self:
        """What there is to be known of it."""
        errors = mirrored.error is not None, mirrored.stable_error is not None
        return cls(mirrored.segment, mirrored.comparison, *errors, mirrored.timed, mirrored.noise)


Seen = SeenRequest | SeenPair


def to_text(seen: Sequence[Seen]) -> str:
    """JSON."""
    return json.dumps([_pair_to_json(one) if isinstance(one, SeenPair) else one for one in seen])


def from_text(text: str) -> tuple[Seen, ...]:
    """What `to_text` was given."""
    return tuple(_pair(one) if isinstance(one, dict) else _request(one) for one in json.loads(text))


def _request(told: list[Any]) -> SeenRequest:
    arm, is_error, latency_s, where, segment, share, is_replaced = told
    return Arm(arm), is_error, latency_s, where, segment, share, is_replaced


def _pair_to_json(pair: SeenPair) -> dict[str, Any]:
    return {
        "segment": pair.segment,
        "compared": _comparison_to_json(pair.comparison),
        "errors": [pair.is_candidate_error, pair.is_stable_error],
        "timed": pair.timed,
        "noise": _comparison_to_json(pair.noise),
    }


def _pair(told: dict[str, Any]) -> SeenPair:
    timed = told["timed"]
    is_candidate_error, is_stable_error = told["errors"]
    return SeenPair(
        told["segment"],
        _comparison(told["compared"]),
        is_candidate_error,
        is_stable_error,
        None if timed is None else (timed[0], timed[1]),
        _comparison(told["noise"]),
    )


def _comparison_to_json(comparison: Comparison | None) -> list[Any] | None:
    return None if comparison is None else [comparison.agrees, comparison.distance, comparison.classes]


def _comparison(told: list[Any] | None) -> Comparison | None:
    if told is None:
        return None
    agrees, distance, classes = told
    return Comparison(agrees, distance, tuple((before, after) for before, after in classes))
