"""Drift of what a gateway is asked leads its models down to where people decide, from real rows to the level."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

import pytest

from cloud_gateway.automation.drift import DriftWatch, findings_of
from cloud_gateway.automation.levels import Level
from cloud_gateway.automation.service import AutomationService
from runtime.bundle.bundle import Bundle
from runtime.engine.engine import Engine
from runtime.engine.settings import EngineSettings
from runtime.monitoring.verdict import Verdict
from runtime.selection.settings import SelectionSettings
from runtime.serving.local_service import LocalService
from runtime.serving.observing.recorder import StatisticsRecorder
from runtime.serving.observing.settings import StatisticsSettings
from runtime.serving.service import InferenceService
from runtime.wire.values import InferenceRequest
from tests.cloud_gateway.automation.conftest import Clock, House

QUICK = SelectionSettings(budget_s=0.2, isolate=False, backends=("onnxruntime-cpu",), variants=("fp32.onnx",))


class Watched:
    """A watch over findings that a test sets."""

    def __init__(self, house: House) -> None:
        self.findings: dict[str, str] = {}
        self.store = house.store
        self.service = AutomationService(cast(InferenceService, None), house.store, lambda *_: None)
        self.watch = DriftWatch(house.store, self.service, lambda: self.findings)

    async def look(self, **findings: str) -> None:
        self.findings = findings
        await self.watch.look()

    def at(self, segment: str = "") -> tuple[Level, str]:
        standing = self.store.standing("digits", segment)
        return standing.level, standing.drift


@pytest.fixture
def watched(house: House) -> Watched:
    for segment in ("", "night"):
        house.store.move("digits", segment, Level.FULL, "trusted", "ann")
    return Watched(house)


async def test_drift_leads_every_segment_down_and_its_end_is_noted(watched: Watched) -> None:
    await watched.look()
    assert watched.at() == (Level.FULL, "")
    await watched.look(digits="pixel 7: inversion", other="not ours")
    assert watched.at() == watched.at("night") == (Level.ASSIST, "pixel 7: inversion")
    lines = len(watched.store.history())
    await watched.look(digits="pixel 7: inversion, and more of it")
    assert (watched.at()[1], len(watched.store.history())) == ("pixel 7: inversion", lines)
    await watched.look()  # nobody has looked: that is no end of it
    assert watched.at()[1]
    await watched.look(digits="")
    assert watched.at() == (Level.ASSIST, "")


async def test_a_segment_that_comes_while_rows_drift_does_not_begin_by_itself(house: House, watched: Watched) -> None:
    house.store.settings["digits"] = house.store.settings["digits"].model_copy(update={"start_level": Level.FULL})
    await watched.service._standing("digits", "new")
    await watched.look(digits="pixel 7: inversion")
    assert watched.at("new")[0] is Level.ASSIST


async def test_the_finding_of_another_gateway_stays(house: House, watched: Watched) -> None:
    await watched.look(digits="")
    await Watched(house).look(digits="pixel 7: inversion")
    await watched.look(digits="")
    assert watched.at()[1] == "pixel 7: inversion"
    after_a_restart = Watched(house)
    await after_a_restart.look(digits="")
    assert watched.at()[1] == ""


async def test_rows_that_changed_sides_are_found_and_told(house: House, digits: Bundle, tmp_path: Path) -> None:
    engine, clock = Engine(EngineSettings(QUICK, home=tmp_path)), Clock()
    recorder = StatisticsRecorder(StatisticsSettings(rows_per_s=1e9), clock)
    service = LocalService(engine, name="test", version="1", observers=(recorder,))
    engine.load(digits.root)
    samples = digits.samples()
    assert samples is not None

    async def window(rows: Any) -> None:
        requests = (InferenceRequest("digits", {"image": row[None]}) for row in rows)
        await asyncio.gather(*(service.infer(request) for request in requests))
        recorder.count_now()
        clock.now += 31
        recorder.count_now()

    house.store.move("digits", "", Level.PARTIAL, "trusted", "ann")
    automation = AutomationService(service, house.store, service.class_names)
    watch = DriftWatch(house.store, automation, lambda: findings_of(recorder.verdicts(), engine.versions))
    await window(samples.inputs["image"])
    await watch.look()
    assert house.store.standing("digits", "").level is Level.PARTIAL
    await window(1 - samples.inputs["image"])
    await watch.look()
    standing = house.store.standing("digits", "")
    assert standing.level is Level.ASSIST
    assert "more" in standing.drift
    assert findings_of(recorder.verdicts(), lambda _: [99]) == {}
    calm: dict[tuple[str, int], tuple[Verdict, ...]] = {("digits", 1): ()}
    assert findings_of(calm, engine.versions) == findings_of(calm, engine.versions, calm) == {"digits": ""}
    told = findings_of(calm, engine.versions, recorder.verdicts())
    assert told["digits"].startswith("on devices, image."), told
    await service.drain()
    service.close()
    engine.close()
