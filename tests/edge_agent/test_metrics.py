"""What only an agent has: answers by reason, fallbacks, breaker, spool, and the network's part of a round trip."""

import asyncio
from collections.abc import Mapping
from typing import Any

import numpy as np

from edge_agent.breaker import BreakerState
from edge_agent.counts import Counts, Hedge
from edge_agent.metrics import agent_metrics
from edge_agent.network_time import MAX_MODELS, TimedUpstream
from edge_agent.plan import Step, Why
from edge_agent.states import NO_GATEWAY, CloudState
from runtime.telemetry.exposition import Family
from runtime.telemetry.histogram import Buckets
from runtime.wire.values import InferenceRequest, InferenceResponse, ModelDescription, Parameter, ServedBy


def counted() -> Counts:
    counts = Counts()
    for arm, why, times in (
        (ServedBy.EDGE, Why.FIRST_CHOICE, 7),
        (ServedBy.EDGE, Why.BREAKER_OPEN, 2),
        (ServedBy.CLOUD, Why.EDGE_FAILED, 1),
        (ServedBy.CLOUD, Why.ASKED_FOR, 4),
    ):
        for _ in range(times):
            counts.note_answer(Step(arm, why, "", 0.0))
    return counts


def samples(families: list[Family], name: str) -> dict[str, float]:
    (family,) = [family for family in families if family.name == name]
    return {"/".join(labels.values()): value for labels, value in family.samples if not isinstance(value, Buckets)}


async def test_answers_fallbacks_breakers_and_the_spool() -> None:
    def breakers() -> Mapping[str, BreakerState]:
        return {"cloud:8001": BreakerState.HALF_OPEN}

    async def spool() -> Mapping[str, float]:
        return {"requests": 3, "bytes": 900}

    counts = counted()
    counts.hedges.update({Hedge.SENT: 5, Hedge.WON: 2})
    told = list(await agent_metrics(counts, breakers, spool)())
    assert samples(told, "edgeward_hedges_total") == {"sent": 5, "won": 2, "held_back": 0}
    assert samples(told, "edgeward_answers_total")["edge/first_choice"] == 7
    assert samples(told, "edgeward_fallbacks_total") == {"breaker_open": 2, "edge_failed": 1}
    assert samples(told, "edgeward_breaker_state") == {
        "cloud:8001/closed": 0.0,
        "cloud:8001/open": 0.0,
        "cloud:8001/half_open": 1.0,
    }
    assert samples(told, "edgeward_spool_requests") == {"": 3}
    assert samples(told, "edgeward_spool_bytes") == {"": 900}


async def test_without_a_spool_there_is_no_depth() -> None:
    told = list(await agent_metrics(Counts(), dict)())
    assert samples(told, "edgeward_spool_requests") == {}


class Cloud:
    """Answers after 20 ms, of which it says that 15 were its own."""

    def __init__(self, says: dict[str, Parameter]) -> None:
        self.says = says
        self.asked: list[InferenceRequest] = []

    def state(self, now: float, model: str) -> CloudState:
        return NO_GATEWAY

    async def infer(self, request: InferenceRequest) -> InferenceResponse:
        self.asked.append(request)
        await asyncio.sleep(0.02)
        said = {"served_by": "cloud", **self.says}
        return InferenceResponse(request.model, "3", {"y": np.zeros(1)}, request.id, said)

    async def describe_model(self, name: str, version: str) -> ModelDescription:
        raise NotImplementedError

    async def is_model_ready(self, name: str, version: str) -> bool:
        return True


TIMES: dict[str, Parameter] = {"queue_ns": 5_000_000, "batch_ns": 0, "execute_ns": 10_000_000, "batch_rows": 1}


async def spread(upstream: TimedUpstream) -> dict[str, tuple[dict[str, str], Any]]:
    return {family.name: family.samples[0] for family in await upstream.families()}


async def test_the_network_is_what_the_gateway_did_not_take() -> None:
    cloud = Cloud({**TIMES, "release": "candidate"})
    upstream = TimedUpstream(cloud)
    response = await upstream.infer(InferenceRequest("m", {}))
    assert cloud.asked[0].parameters == {"edgeward_timing": True}
    assert response.parameters == {"served_by": "cloud", "release": "candidate"}, "nobody asked for the times"
    told = await spread(upstream)
    labels, whole = told["edgeward_request_duration_seconds"]
    assert labels == {"model": "m", "version": "3", "role": "candidate", "served_by": "cloud"}
    network = told["edgeward_request_stage_seconds"][1]
    assert (whole.count, network.count) == (1, 1)
    assert abs(whole.sum - network.sum - 0.015) < 1e-9


async def test_who_asks_for_the_times_gets_them() -> None:
    upstream = TimedUpstream(Cloud(TIMES))
    response = await upstream.infer(InferenceRequest("m", {}, parameters={"edgeward_timing": True}))
    assert response.parameters["execute_ns"] == 10_000_000


async def test_a_stranger_that_says_nothing_or_nonsense_is_measured_too() -> None:
    upstream = TimedUpstream(Cloud({"queue_ns": "x", "execute_ns": True, "release": 'evil"} 1'}))
    await upstream.infer(InferenceRequest("m", {}))
    labels, network = (await spread(upstream))["edgeward_request_stage_seconds"]
    assert labels["role"] == "stable"
    assert network.sum >= 0.02


async def test_model_names_of_strangers_are_bounded() -> None:
    class Quick(Cloud):
        async def infer(self, request: InferenceRequest) -> InferenceResponse:
            return InferenceResponse(request.model, "1", {})

    upstream = TimedUpstream(Quick({}))
    for number in range(MAX_MODELS + 20):
        await upstream.infer(InferenceRequest(f"m{number}", {}))
    assert len((await upstream.families())[0].samples) == MAX_MODELS
