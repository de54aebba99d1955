"""Hedges through a real channel: the first good answer wins, the loser's work is not done, the budget holds."""

import asyncio
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from edge_agent.counts import Hedge
from edge_agent.pace import MIN_ANSWERS
from edge_agent.rules import Policy
from edge_agent.service import AgentService
from edge_agent.states import CloudState
from edge_agent.upstream import Gateway
from edge_agent.upstreams import Gateways
from runtime.batching.cut import BatchPolicy
from runtime.serving.scheduler import Scheduler
from runtime.wire.values import InferenceRequest, InferenceResponse
from tests.edge_agent.test_service import FakeGateway, FakeLocal, request, who
from tests.edge_agent.test_upstream import Echo, serving, until


class Busy(Echo):
    """A gateway whose one model runs as long as its gate is shut, one request at a time."""

    def __init__(self, workers: ThreadPoolExecutor) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.gate.set()
        self.ran = 0
        self.scheduler = Scheduler("m", self._run, lambda rows: 0.01, BatchPolicy(), workers)

    def _run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        self.ran += 1
        self.gate.wait()
        return dict(inputs)

    async def infer(self, asked: InferenceRequest) -> InferenceResponse:
        outputs = await self.scheduler.run(asked.inputs, 1, None)
        return InferenceResponse(asked.model, "1", {"scores": np.full((1, 2), 2.0)}, asked.id, {"n": len(outputs)})


@pytest.mark.slow
async def test_the_loser_is_withdrawn_and_what_still_waits_there_is_never_run() -> None:
    with ThreadPoolExecutor(2) as workers:
        busy = Busy(workers)
        async with serving(busy) as port:
            gateways = Gateways([Gateway(f"127.0.0.1:{port}")])
            service = AgentService(FakeLocal(), gateways, Policy.CLOUD_FIRST, hedge_share=1.0)
            for _ in range(MIN_ANSWERS):
                assert who(await service.infer(request()))[0] == 2.0
            busy.gate.clear()
            running = asyncio.create_task(service.infer(request(idempotent=False)))
            await until(lambda: busy.ran == MIN_ANSWERS + 1)
            response = await service.infer(request())
            assert who(response)[:2] == (1.0, "edge")
            assert "the cloud took longer than" in str(response.parameters["reason"])
            await until(lambda: busy.scheduler.statistics.cancelled == 1)
            busy.gate.set()
            assert who(await running)[0] == 2.0
            await busy.scheduler.drain()
            assert busy.ran == MIN_ANSWERS + 1, "the withdrawn request was not run"
            assert service.counts.hedges == {Hedge.SENT: 1, Hedge.WON: 1}
            assert service.counts.fallbacks == {"cloud_late": 1}
            await gateways.close()


async def test_hedges_keep_to_their_share() -> None:
    gateway = FakeGateway(cloud=CloudState(True, True, predicted_s=0.001, typical_s=0.001))
    local = FakeLocal(predicted_s=0.0)

    async def slowly(asked: InferenceRequest, *, is_idempotent: bool = True) -> InferenceResponse:
        await asyncio.sleep(0.004)
        return await FakeGateway().infer(asked)

    gateway.infer = slowly  # type: ignore[method-assign]
    service = AgentService(local, gateway, Policy.CLOUD_FIRST, hedge_share=0.1)
    for _ in range(100):
        await service.infer(request())
    hedges = service.counts.hedges
    assert 1 <= hedges[Hedge.SENT] <= 11
    assert hedges[Hedge.HELD_BACK] >= 20
    assert service.counts.describe_effort()["requests"] == 100


@pytest.mark.parametrize("parameters", [{"sequence_id": 7}, {"sequence_start": True}, {"idempotent": False}])
async def test_what_must_not_run_twice_is_not_hedged(parameters: dict[str, object]) -> None:
    gateway = FakeGateway(cloud=CloudState(True, True, predicted_s=0.001, typical_s=0.001), gate=asyncio.Event())
    service = AgentService(FakeLocal(), gateway, Policy.CLOUD_FIRST, hedge_share=1.0)
    asked = asyncio.create_task(service.infer(request(**parameters)))  # type: ignore[arg-type]
    await gateway.reached.wait()
    done, _ = await asyncio.wait({asked}, timeout=0.1)
    assert not done
    assert gateway.gate is not None
    gateway.gate.set()
    assert who(await asked)[1] == "cloud"
    assert service.counts.hedges == {}
