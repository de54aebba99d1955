"""What is no longer the first choice is said in the reply, and counted in the description."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from runtime.engine.engine import Engine, EngineSettings
from runtime.selection.settings import SelectionSettings
from runtime.serving.local_service import LocalService
from runtime.serving.program import describe_models
from runtime.wire.values import InferenceRequest
from tests.runtime.selection.fakes import CLASSES, backends, machine, make_bundle


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
