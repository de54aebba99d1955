"""What is no longer the first choice is said in the reply, and counted in the description."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from runtime.backends.base import RunOptions, Session
from runtime.engine.engine import Engine, EngineSettings
from runtime.errors import BackendUnavailableError
from runtime.selection.settings import SelectionSettings
from runtime.serving.local_service import LocalService
from runtime.serving.program import describe_models
from runtime.tensors import Array
from runtime.wire.values import InferenceRequest
from tests.runtime.selection.fakes import CLASSES, FakeBackend, FakeSession, backends, machine, make_bundle


class Gpu(FakeBackend):
    """A fast device that falls off the bus when told to."""

    is_gone = False

    def open(self, file: Path, options: RunOptions) -> Session:
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
    selection = SelectionSettings(budget_s=0.1, isolate=False)
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


async def test_a_quarantine_is_named_in_the_reply(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "b", {"ref": {"ms": 0.5}, "fast": {"ms": 0.1}})
    selection = SelectionSettings(budget_s=0.1, isolate=False)
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
    assert (described["shadow_checks"], described["recalibrations"], described["switches"]) == (0, 0, 0)
    (shown,) = describe_models(engine)
    assert shown["fallbacks"] == [after["reason"]]
    assert isinstance(shown["watch"], dict)
    assert shown["watch"]["quarantined"] == 0, "the watch counts what it found itself"
    await service.drain()
    service.close()
