"""How long the way to the gateway and back takes, beside what the gateway itself did: measured on every answer from there.

The gateway says where its time went when it is asked to (`edgeward_timing`); what is left of the round trip is the network's, and
that of the code on both of its ends. From a server that does not say so, the whole round trip counts as network.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from edge_agent.calls import Upstream
from runtime.serving.metrics.model_metrics import DURATION, DURATION_TEXT, NS, STAGE, STAGE_TEXT
from runtime.serving.timing import TIMING
from runtime.telemetry.exposition import Family, Kind
from runtime.telemetry.histogram import LATENCY_BOUNDS_NS, Histogram
from runtime.wire.values import InferenceRequest, InferenceResponse, Parameter

# Model names come from callers, and a gateway may have many.
MAX_MODELS: Final = 100
_THEIRS: Final = ("queue_ns", "batch_ns", "execute_ns")
_TIMES: Final = frozenset({*_THEIRS, "batch_rows"})


class TimedUpstream:
    """`upstream`, with every answer's way measured; an `edge_agent.calls.Upstream` itself."""

    def __init__(self, upstream: Upstream) -> None:
        self.state = upstream.state
        self.describe_model = upstream.describe_model
        self.is_model_ready = upstream.is_model_ready
        self._ask = upstream.infer
        self._times: dict[tuple[str, str, str], tuple[Histogram, Histogram]] = {}

    async def infer(self, request: InferenceRequest, **options: Any) -> InferenceResponse:
        """One inference there; `options` are the upstream's own."""
        is_asked_for = TIMING in request.parameters
        asked = request if is_asked_for else replace(request, parameters={**request.parameters, TIMING: True})
        began_ns = time.monotonic_ns()
        response = await self._ask(asked, **options)
        took_ns = time.monotonic_ns() - began_ns
        self._note(response, took_ns)
        if is_asked_for:
            return response
        return replace(response, parameters={k: v for k, v in response.parameters.items() if k not in _TIMES})

    async def families(self) -> Sequence[Family]:
        """The round trips, and the network's part of them, as metrics."""
        spread = [
            ({"model": model, "version": version, "role": role, "served_by": "cloud"}, *both)
            for (model, version, role), both in self._times.items()
        ]
        return [
            Family(DURATION, Kind.HISTOGRAM, DURATION_TEXT, [(labels, whole.read(NS)) for labels, whole, _ in spread]),
            Family(
                STAGE,
                Kind.HISTOGRAM,
                STAGE_TEXT,
                [({**labels, "stage": "network"}, network.read(NS)) for labels, _, network in spread],
            ),
        ]

    def _note(self, response: InferenceResponse, took_ns: int) -> None:
        key = (response.model, response.version, _role(response.parameters.get("release")))
        both = self._times.get(key)
        if both is None:
            if len(self._times) >= MAX_MODELS:
                return
            both = self._times[key] = (Histogram(LATENCY_BOUNDS_NS), Histogram(LATENCY_BOUNDS_NS))
        theirs_ns = sum(_whole(response.parameters.get(name)) for name in _THEIRS)
        both[0].add(took_ns)
        both[1].add(max(took_ns - theirs_ns, 0))


def _role(release: Parameter | None) -> str:
    """What the gateway says, within the words there are: a label must not take any text."""
    return release if release in ("stable", "candidate", "shadow") and isinstance(release, str) else "stable"


def _whole(value: Parameter | None) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0
