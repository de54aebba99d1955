"""Rows of digits through the data plane, from the bytes of requests to those of replies; see `data_plane`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.micro.data_plane import DataPlane, together

CALLS = 32
"""Of a round, so that the loop's own start is small beside them."""

Place = tuple[asyncio.Runner, DataPlane]


@pytest.fixture
def place() -> Iterator[Place]:
    """A loop, and the data plane on it."""
    with asyncio.Runner() as runner:
        plane = runner.run(_open())
        try:
            yield runner, plane
        finally:
            runner.run(plane.close())


@pytest.mark.parametrize("clients", [1, 8])
def test_grpc(benchmark: BenchmarkFixture, place: Place, clients: int) -> None:
    """32 calls of ModelInfer by so many clients at once."""
    runner, plane = place
    assert benchmark(lambda: runner.run(together(plane.grpc, clients, CALLS // clients))) > CALLS


@pytest.mark.parametrize("clients", [1, 8])
def test_rest(benchmark: BenchmarkFixture, place: Place, clients: int) -> None:
    """32 POSTs with binary tensors by so many clients at once."""
    runner, plane = place
    assert benchmark(lambda: runner.run(together(plane.rest, clients, CALLS // clients))) > CALLS


async def _open() -> DataPlane:
    return DataPlane()
