"""What only an agent has, as metrics: who answered and why, fallbacks, the breaker before each gateway, the spool."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType

from edge_agent.breaker import BreakerState
from edge_agent.counts import Counts, Hedge
from runtime.telemetry.exposition import Collector, Family, Kind, Sample
from runtime.wire.values import ServedBy

Breakers = Callable[[], Mapping[str, BreakerState]]
"""The state of the breaker before each gateway, by its address; costs no network."""
Spool = Callable[[], Awaitable[Mapping[str, float]]]
"""What waits for the cloud: "requests" and "bytes"; empty where there is no spool."""


async def no_spool() -> Mapping[str, float]:
    """There is none."""
    return MappingProxyType({})


def agent_metrics(counts: Counts, breakers: Breakers, spool: Spool = no_spool) -> Collector:
    """The collector of an agent."""
    return partial(_collect, counts, breakers, spool)


async def _collect(counts: Counts, breakers: Breakers, spool: Spool) -> Sequence[Family]:
    table = counts.describe()
    answers: list[Sample] = [
        ({"served_by": arm, "reason": reason}, count) for arm in ServedBy for reason, count in table[arm].items()
    ]
    fallbacks: list[Sample] = [({"reason": str(why)}, count) for why, count in sorted(counts.fallbacks.items())]
    hedges: list[Sample] = [({"what": str(what)}, counts.hedges[what]) for what in Hedge]
    states: list[Sample] = [
        ({"gateway": address, "state": str(state)}, float(state is now))
        for address, now in breakers().items()
        for state in BreakerState
    ]
    waiting = await spool()
    return [
        Family("edgeward_answers_total", Kind.COUNTER, "Requests that were answered, by who did and why.", answers),
        Family(
            "edgeward_fallbacks_total",
            Kind.COUNTER,
            "Requests that another arm than the wished-for one answered, by reason.",
            fallbacks,
        ),
        Family("edgeward_hedges_total", Kind.COUNTER, "Second calls beside a first that took long.", hedges),
        Family(
            "edgeward_breaker_state", Kind.GAUGE, "1 for the state that the breaker before a gateway is in.", states
        ),
        Family("edgeward_spool_requests", Kind.GAUGE, "Requests that wait for the cloud.", _one(waiting, "requests")),
        Family("edgeward_spool_bytes", Kind.GAUGE, "Bytes that wait for the cloud.", _one(waiting, "bytes")),
    ]


def _one(waiting: Mapping[str, float], name: str) -> list[Sample]:
    return [({}, waiting[name])] if name in waiting else []
