"""Metrics of a model by their values: what waits before it, and how often another backend took over."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

from runtime.batching.cut import BatchPolicy
from runtime.serving.metrics.labels import in_the_cloud
from runtime.serving.metrics.model_metrics import model_metrics
from tests.runtime.serving.test_scheduler import ON_A_WORKER_S, Doubler, ask, scheduler

OURS = {"model": "m", "version": "3", "role": "stable", "served_by": "cloud"}


@pytest.fixture
def workers() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


def serving(model: SimpleNamespace, queue: Any) -> Any:
    return SimpleNamespace(schedulers=lambda: [(model, queue)])


async def test_what_waits_is_told_in_rows_bytes_and_requests(workers: ThreadPoolExecutor) -> None:
    model = Doubler()
    model.gate.clear()
    queue = scheduler(model, workers, ON_A_WORKER_S, BatchPolicy(8))
    running = asyncio.ensure_future(ask(queue, 0))
    while not queue._running_until:  # noqa: ASYNC110  (the scheduler has no event for that)
        await asyncio.sleep(0)
    waiting = [asyncio.ensure_future(ask(queue, at, rows=at)) for at in (1, 2)]
    await asyncio.sleep(0)
    chosen = SimpleNamespace(
        backend=SimpleNamespace(name="x", device="cpu"), variant=SimpleNamespace(name="int8", precision="int8")
    )
    known = SimpleNamespace(
        name="m", version=3, fallbacks=["a took over", "b too"], candidate=chosen, watch=None, switches={}
    )
    collect = model_metrics(serving(known, queue), in_the_cloud)

    async def told(name: str) -> float:
        (family,) = [family for family in await collect() if family.name == f"edgeward_{name}"]
        ((labels, value),) = family.samples
        assert labels == OURS
        return float(value)  # type: ignore[arg-type]

    # [row, 2] of float32 each.
    assert [await told(f"queue_{what}") for what in ("rows", "bytes", "requests")] == [3, 24, 2]
    assert await told("backend_fallbacks_total") == 2
    model.gate.set()
    await asyncio.gather(running, *waiting)
    assert [await told(f"queue_{what}") for what in ("rows", "bytes", "requests")] == [0, 0, 0]
