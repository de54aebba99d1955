"""The service that runs models here: right rows, chosen outputs, reloads and drains without a failed request."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from runtime.bundle.bundle import Bundle
from runtime.engine.engine import Engine
from runtime.engine.settings import EngineSettings
from runtime.errors import InvalidInputError, ModelNotFoundError, ModelNotReadyError, OverloadedError
from runtime.selection.cost import CostModel
from runtime.selection.settings import SelectionSettings
from runtime.serving.local_service import LocalService
from runtime.wire.values import InferenceRequest, ModelState, RequestedOutput, ServedBy

QUICK = SelectionSettings(budget_s=0.2, isolate=False, backends=("onnxruntime-cpu",), variants=("fp32.onnx",))


@pytest.fixture
def bundle_copy(digits: Bundle, tmp_path: Path) -> Path:
    shutil.copytree(digits.root, tmp_path / "bundle")
    return tmp_path / "bundle"


@pytest.fixture
async def service(bundle_copy: Path, tmp_path: Path) -> AsyncIterator[LocalService]:
    engine = Engine(EngineSettings(QUICK, home=tmp_path / "home"))
    engine.load(bundle_copy)
    service = LocalService(engine, name="test", version="1", served_by=ServedBy.EDGE)
    yield service
    await service.drain()
    service.close()


def request(rows: int = 1, **more: object) -> InferenceRequest:
    return InferenceRequest("digits", {"image": np.zeros((rows, 1, 8, 8), np.float32)}, **more)  # type: ignore[arg-type]


async def test_concurrent_requests_get_the_rows_they_sent(service: LocalService, digits: Bundle) -> None:
    samples = digits.samples()
    assert samples is not None
    images, expected = samples.inputs["image"], samples.outputs["probabilities"]
    parts = [slice(start, start + 1 + start % 4) for start in range(0, 400, 4)]
    replies = await asyncio.gather(*(service.infer(InferenceRequest("digits", {"image": images[p]})) for p in parts))
    for part, reply in zip(parts, replies, strict=True):
        np.testing.assert_allclose(reply.outputs["probabilities"], expected[part], atol=1e-5)
        assert reply.parameters["served_by"] == "edge"
        assert str(reply.parameters["backend"]).startswith("fp32.onnx on onnxruntime-cpu")


@pytest.mark.parametrize(("under_cap", "largest"), [(None, 32), (8, 8)])
async def test_what_is_joined_stays_under_the_memory_cap(service: LocalService, under_cap: int, largest: int) -> None:
    model = service.engine.model("digits")
    cost = CostModel(((1, 1.0), (8, 1.1), (32, 1.2)))
    ranked = tuple(replace(one, cost=cost, max_rows=under_cap) for one in model.choice.ranked)
    model.adopt(replace(model.choice, ranked=ranked), "a test")
    await asyncio.gather(*(service.infer(request()) for _ in range(100)))
    ((_, queue),) = service.schedulers()
    assert max(queue.statistics.batches) == largest


async def test_outputs_are_chosen_and_classified(service: LocalService) -> None:
    reply = await service.infer(request(2, outputs=(RequestedOutput("probabilities", {"classification": 3}),)))
    best = reply.outputs["probabilities"]
    assert best.shape == (2, 3)
    value, index, name = best[0, 0].decode().split(":")
    assert float(value) > 0
    assert index == name, "the digits' class names are the digits"
    with pytest.raises(InvalidInputError, match="unknown output 'scores'; model 'digits' has 'probabilities'"):
        await service.infer(request(outputs=(RequestedOutput("scores"),)))
    with pytest.raises(InvalidInputError, match="'classification'.*-1"):
        await service.infer(request(outputs=(RequestedOutput("probabilities", {"classification": -1}),)))


async def test_a_wrong_priority_is_named(service: LocalService) -> None:
    with pytest.raises(InvalidInputError, match="'priority' is 'high'"):
        await service.infer(request(parameters={"priority": "high"}))


async def test_a_description_says_what_was_chosen(service: LocalService) -> None:
    described = await service.describe_model("digits", "")
    assert described.platform == "onnxruntime_onnx"
    assert described.versions == ("1",)
    assert "fp32.onnx on onnxruntime-cpu" in str(described.parameters["backend"])
    with pytest.raises(ModelNotFoundError):
        await service.describe_model("digits", "7")
    assert await service.is_model_ready("digits", "1")
    assert not await service.is_model_ready("digits", "7")


async def test_the_queue_refuses_what_it_cannot_answer_in_time(service: LocalService) -> None:
    model = service.engine.model("digits")
    slow = tuple(replace(one, cost=CostModel(((1, 1e3), (32, 32e3)))) for one in model.choice.ranked)
    model.adopt(replace(model.choice, ranked=slow), "a test")
    now = asyncio.get_running_loop().time()
    with pytest.raises(OverloadedError, match="deadline leaves"):
        await service.infer(request(8000, deadline=now + 60))
    assert service.predict_wait_s("digits", rows=32) > service.predict_wait_s("digits", rows=1) > 0


async def test_reloading_under_load_fails_no_request(service: LocalService, bundle_copy: Path) -> None:
    stop = asyncio.Event()
    versions: set[str] = set()

    async def ask() -> int:
        count = 0
        while not stop.is_set():
            versions.add((await service.infer(request())).version)
            count += 1
            await asyncio.sleep(0)
        return count

    askers = [asyncio.ensure_future(ask()) for _ in range(4)]
    manifest = json.loads((bundle_copy / "manifest.json").read_text())
    for version in range(2, 5):
        (bundle_copy / "manifest.json").write_text(json.dumps(manifest | {"version": version}))
        await service.load("digits", {})
    stop.set()
    assert sum(await asyncio.gather(*askers)) > 0
    assert "4" in versions
    assert len(versions) > 1


async def test_unloading_answers_what_was_accepted(service: LocalService) -> None:
    accepted = [asyncio.ensure_future(service.infer(request())) for _ in range(20)]
    await asyncio.sleep(0)
    await service.unload("digits")
    assert len(await asyncio.gather(*accepted)) == 20
    with pytest.raises(ModelNotFoundError, match="UNAVAILABLE: unloaded"):
        await service.infer(request())
    assert service.index()[0].state is ModelState.UNAVAILABLE
    await service.load("digits", {})
    assert (await service.infer(request())).version == "1"


async def test_a_draining_service_takes_nothing_new(service: LocalService) -> None:
    accepted = [asyncio.ensure_future(service.infer(request())) for _ in range(5)]
    await asyncio.sleep(0)
    await service.drain()
    assert all(task.done() for task in accepted)
    assert not service.is_ready()
    assert service.is_live()
    with pytest.raises(ModelNotReadyError, match="shutting down"):
        await service.infer(request())


async def test_a_blocking_load_does_not_stop_the_loop(
    service: LocalService, bundle_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = asyncio.Event()
    loop = asyncio.get_running_loop()
    reload: Callable[..., object] = service.engine.reload

    def slow(*arguments: object) -> object:
        asyncio.run_coroutine_threadsafe(gate.wait(), loop).result(10)
        return reload(*arguments)

    monkeypatch.setattr(service.engine, "reload", slow)
    loading = asyncio.ensure_future(service.load("digits", {}))
    await asyncio.sleep(0)
    assert (await service.infer(request())).version == "1"
    assert not loading.done()
    gate.set()
    await loading


async def test_times_are_in_the_reply_of_a_request_that_asks(service: LocalService) -> None:
    silent = await service.infer(request())
    told = await service.infer(request(3, parameters={"edgeward_timing": True}))
    assert set(told.parameters) - set(silent.parameters) == {"queue_ns", "batch_ns", "execute_ns", "batch_rows"}
    assert told.parameters["batch_rows"] == 3
    assert int(told.parameters["execute_ns"]) > 0
    assert "queue_ns" not in (await service.infer(request(parameters={"edgeward_timing": False}))).parameters
    assert "edgeward_timing" in service.describe_server().extensions
    with pytest.raises(InvalidInputError, match="'edgeward_timing' is 'yes'"):
        await service.infer(request(parameters={"edgeward_timing": "yes"}))
