"""One row of digits through an agent, from the bytes of a request to those of the reply; compare with `test_data_plane`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.micro.data_plane import DataPlane
from edge_agent.calls import Upstream
from edge_agent.service import AgentService
from edge_agent.states import CloudState
from runtime.errors import PeerUnreachableError
from runtime.wire.values import InferenceRequest, InferenceResponse, ModelDescription

CALLS = 32
"""Of a round, so that the loop's own start is small beside them."""


class _Far:
    """A gateway 30 ms away, which an answer here never waits for."""

    def state(self, now: float, model: str) -> CloudState:
        return CloudState(is_configured=True, is_permitted=True, predicted_s=0.05, typical_s=0.03)

    async def infer(self, request: InferenceRequest, *, is_idempotent: bool = True) -> InferenceResponse:
        await asyncio.sleep(0.03)
        raise PeerUnreachableError("nobody is there")

    async def describe_model(self, name: str, version: str) -> ModelDescription:
        raise PeerUnreachableError("nobody is there")

    async def is_model_ready(self, name: str, version: str) -> bool:
        return False


@pytest.fixture(params=[None, _Far()], ids=["alone", "before_a_gateway"])
def place(request: pytest.FixtureRequest) -> Iterator[tuple[asyncio.Runner, DataPlane]]:
    """A loop, and an agent on it."""
    with asyncio.Runner() as runner:
        plane = runner.run(_open(request.param))
        try:
            yield runner, plane
        finally:
            runner.run(plane.close())


def test_grpc(benchmark: BenchmarkFixture, place: tuple[asyncio.Runner, DataPlane]) -> None:
    """32 calls of ModelInfer one after another, answered here; with a gateway each has a hedge that is never sent."""
    runner, plane = place
    assert benchmark(lambda: runner.run(plane.grpc(CALLS))) > CALLS


async def _open(upstream: Upstream | None) -> DataPlane:
    return DataPlane(lambda local: AgentService(local, upstream))
