"""What is no longer the first choice is said in the reply, and counted in the description."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from runtime.backends.base import RunOptions, Session
from runtime.engine.engine import Engine
from runtime.engine.settings import EngineSettings
from runtime.errors import BackendUnavailableError, NoCandidateError
from runtime.selection.cost import CostModel
from runtime.selection.settings import SelectionSettings
from runtime.serving.local_service import LocalService
from runtime.serving.program import describe_models
from runtime.tensors import Array
from runtime.wire.values import InferenceRequest
from tests.runtime.selection.fakes import CLASSES, FakeBackend, FakeSession, backends, machine, make_bundle

pytestmark = pytest.mark.usefixtures("time_for_every_look")


class Gpu(FakeBackend):
    """A fast device that falls off the bus when told to."""

    is_gone = False

    def open(self, file: Path, options: RunOptions) -> Session:
        self.opened.append(file.name)
        return OnGpu(self)


class OnGpu(FakeSession):
    def __init__(self, gpu: Gpu) -> None:
        super().__init__({"ms": 0.01})
        self._gpu = gpu

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        if self._gpu.is_gone:
            raise BackendUnavailableError("fake-gpu lost its device: CUDA failure 719")
        return super().run(inputs)


async def test_a_device_that_vanishes_is_named_in_the_reply_and_counted(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "b", {"ref": {"ms": 5.0}})
    gpu = Gpu("fake-gpu", "gpu")
    selection = SelectionSettings(budget_s=3.0, isolate=False)
    engine = Engine(EngineSettings(selection, home=tmp_path / "home"), machine(), (FakeBackend(), gpu))
    engine.load(bundle.root)
    service = LocalService(engine)
    rows = np.ones((1, CLASSES), np.float32)
    before = (await service.infer(InferenceRequest("fake", {"x": rows}))).parameters
    assert (str(before["backend"]).partition(",")[0], "reason" in before) == ("ref on fake-gpu", False)
    gpu.is_gone = True
    lost = await service.infer(InferenceRequest("fake", {"x": rows}))
    np.testing.assert_array_equal(lost.outputs["y"], rows)
    assert lost.parameters["backend"] == "ref on fake-cpu, 1 thread"
    assert "is gone (fake-gpu lost its device: CUDA failure 719); ref on fake-cpu, 1 thread took over" in str(
        lost.parameters["reason"]
    )
    (shown,) = describe_models(engine)
    assert shown["fallbacks"] == [lost.parameters["reason"]]
    await service.drain()
    service.close()


def order(engine: Engine, *backends: str) -> None:
    """Puts the candidates of `backends` first, in this order, and takes them as fast: whatever measured fastest today."""
    model = engine.model("fake")
    at = {name: place for place, name in enumerate(backends)}
    fast = CostModel(((1, 0.01),))
    ranked = sorted(model.choice.ranked, key=lambda r: at.get(r.candidate.backend.name, len(at)))
    choice = replace(model.choice, ranked=tuple(replace(r, cost=fast) for r in ranked))
    model.adopt(choice, "a test")


@pytest.mark.parametrize("devices", [("gpu", "gpu"), ("gpu", "npu")], ids=["one device", "two devices"])
async def test_all_candidates_on_lost_devices_are_passed_by(tmp_path: Path, devices: tuple[str, str]) -> None:
    bundle = make_bundle(tmp_path / "b", {"ref": {}})
    first, second = Gpu("first-gpu", devices[0]), Gpu("second-gpu", devices[1])
    selection = SelectionSettings(budget_s=3.0, isolate=False)
    engine = Engine(EngineSettings(selection, home=tmp_path / "home"), machine(), (FakeBackend(), first, second))
    engine.load(bundle.root)
    order(engine, "first-gpu", "second-gpu", "fake-cpu")
    service = LocalService(engine)
    rows = np.ones((1, CLASSES), np.float32)
    first.is_gone = second.is_gone = True
    opened = len(second.opened)
    requests = [InferenceRequest("fake", {"x": rows}) for _ in range(3)]
    replies = await asyncio.gather(*(service.infer(request) for request in requests))
    for reply in replies:
        np.testing.assert_array_equal(reply.outputs["y"], rows)
        assert reply.parameters["backend"] == "ref on fake-cpu, 1 thread"
    said = str(replies[0].parameters["reason"])
    assert said.startswith("ref on first-gpu")
    assert said.endswith("; ref on fake-cpu, 1 thread took over")
    is_skipped = devices[0] == devices[1]
    assert len(second.opened) - opened == (0 if is_skipped else 1), "of a device that is gone nothing more is opened"
    assert ("second-gpu" in said) != is_skipped
    assert len(engine.model("fake").fallbacks) == 1
    await service.drain()
    service.close()


async def test_when_no_device_is_left_the_callers_are_told(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "b", {"ref": {}})
    gpu = Gpu("fake-gpu", "gpu")
    selection = SelectionSettings(budget_s=3.0, isolate=False)
    engine = Engine(EngineSettings(selection, home=tmp_path / "home"), machine(), (gpu,))
    engine.load(bundle.root)
    service = LocalService(engine)
    gpu.is_gone = True
    request = InferenceRequest("fake", {"x": np.ones((1, CLASSES), np.float32)})
    # Two at a time: what a whole batch meets has to reach everyone in it.
    found = await asyncio.gather(*(service.infer(request) for _ in range(2)), return_exceptions=True)
    assert [type(error) for error in found] == [NoCandidateError, NoCandidateError]
    assert "none of its 1 candidates opens any more (lost: gpu)" in str(found[0])
    gpu.is_gone = False
    assert "reason" not in (await service.infer(request)).parameters, "the device is back, and nothing took over"
    await service.drain()
    service.close()


class SlowToOpen(FakeBackend):
    """A backend whose files open only while the event loop goes on."""

    def __init__(self) -> None:
        super().__init__()
        self.is_slow = False
        self.begun = threading.Event()
        self.loop_went_on = threading.Event()
        self.runs: list[str] = []

    def open(self, file: Path, options: RunOptions) -> Session:
        if self.is_slow:
            self.begun.set()
            if not self.loop_went_on.wait(10):
                raise AssertionError("the event loop stood still while a session was opened")
        session = super().open(file, options)
        run = session.run

        def counted(inputs: Mapping[str, Array]) -> dict[str, Array]:
            self.runs.append("zeros" if not inputs["x"].any() else "request")
            return run(inputs)

        session.run = counted  # type: ignore[method-assign]
        return session


async def test_the_loop_goes_on_while_what_takes_over_is_opened_and_warmed_up(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "b", {"ref": {}})
    gpu, cpu = Gpu("fake-gpu", "gpu"), SlowToOpen()
    selection = SelectionSettings(budget_s=3.0, isolate=False)
    engine = Engine(EngineSettings(selection, home=tmp_path / "home"), machine(), (gpu, cpu))
    engine.load(bundle.root)
    order(engine, "fake-gpu", "fake-cpu")
    service = LocalService(engine)
    request = InferenceRequest("fake", {"x": np.ones((1, CLASSES), np.float32)})
    await service.infer(request)
    gpu.is_gone = cpu.is_slow = True
    cpu.runs.clear()

    async def beat() -> None:
        assert await asyncio.to_thread(cpu.begun.wait, 10)
        for _ in range(3):
            await asyncio.sleep(0)
        cpu.loop_went_on.set()

    reply, _ = await asyncio.gather(service.infer(request), beat())
    assert reply.parameters["backend"] == "ref on fake-cpu, 1 thread"
    assert cpu.runs[0] == "zeros", "it is warm before it takes a request"
    assert cpu.runs[-1] == "request"
    await service.drain()
    service.close()


async def test_a_quarantine_is_named_in_the_reply(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "b", {"ref": {"ms": 0.5}, "fast": {"ms": 0.1}})
    selection = SelectionSettings(budget_s=3.0, isolate=False)
    engine = Engine(EngineSettings(selection, home=tmp_path / "home"), machine(), backends())
    model = engine.load(bundle.root)
    service = LocalService(engine)
    request = InferenceRequest("fake", {"x": np.ones((1, CLASSES), np.float32)})
    before = (await service.infer(request)).parameters
    assert "reason" not in before
    first = model.serving
    assert before["backend"] == first
    assert model.quarantine(model.candidate, "its answers were wrong")
    after = (await service.infer(request)).parameters
    assert after["backend"] == model.serving != first
    assert f"{first} is in quarantine (its answers were wrong)" in str(after["reason"])
    described = (await service.describe_model("fake", "")).parameters
    assert (described["shadow_checks"], described["recalibrations"], described["switches"]) == (0, 0, 1)
    (shown,) = describe_models(engine)
    assert shown["fallbacks"] == [after["reason"]]
    assert isinstance(shown["watch"], dict)
    assert shown["watch"]["quarantined"] == 0, "the watch counts what it found itself"
    await service.drain()
    service.close()
