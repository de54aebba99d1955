"""The service before the models: who decides at each level, what people get to see, what is written down, and faults."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import pytest

from cloud_gateway.automation.labels import Taken
from cloud_gateway.automation.levels import Level
from cloud_gateway.automation.queue import ReviewItem
from cloud_gateway.automation.service import AutomationService
from cloud_gateway.automation.store import AutomationStore
from runtime.errors import InvalidInputError, ModelNotFoundError, StorageError
from runtime.serving.service import InferenceService
from runtime.store import writing
from runtime.tensors import TensorSpec
from runtime.wire.values import InferenceRequest, InferenceResponse, ModelDescription, RequestedOutput
from tests.cloud_gateway.automation.conftest import SETTINGS, House


@dataclass
class Models:
    """Answers class 7 with a set confidence; counts how often it is asked."""

    confidence: float = 0.97
    asked: list[InferenceRequest] = field(default_factory=list)

    async def infer(self, request: InferenceRequest) -> InferenceResponse:
        self.asked.append(request)
        scores = np.full((1, 10), (1 - self.confidence) / 9)
        scores[0, 7] = self.confidence
        return InferenceResponse(request.model, "3", {"p": scores, "other": np.zeros((1, 2))}, request.id)

    async def describe_model(self, name: str, version: str) -> ModelDescription:
        if name != "digits":
            raise ModelNotFoundError(f"no model {name!r}")
        outputs = (TensorSpec("p", "FP64", (-1, 10)), TensorSpec("other", "FP64", (-1, 2)))
        return ModelDescription(name, ("2", "3"), "onnxruntime_onnx", (), outputs, 0)


@dataclass
class Draws:
    """Every draw has this value: 0 chooses everything, 1 nothing."""

    value: float = 1.0

    def random(self) -> float:
        return self.value


@dataclass
class Gate:
    """The service with what stands behind it."""

    service: AutomationService
    models: Models
    draws: Draws
    house: House

    async def infer(self, request_id: str = "", model: str = "digits", **parameters: Any) -> InferenceResponse:
        inputs = {"image": np.zeros((1, 8, 8), np.float32)}
        return await self.service.infer(InferenceRequest(model, inputs, id=request_id, parameters=parameters))

    def at(self, level: Level) -> None:
        self.house.store.move("digits", "", level, "for this test", "ann")
        self.service.forget_levels()

    def prove_confidence(self) -> None:
        """Makes the strictest of thresholds up to 0.97 proven at the level it has."""
        with writing(self.house.store.engine) as connection:
            standing = self.house.store.standing_in(connection, "digits", "")
            for _ in range(200):
                standing._selective.observe(0.96, 0.0)
            self.house.store._write(connection, "digits", "", standing)
        self.service.forget_levels()

    def item(self, response: InferenceResponse) -> ReviewItem:
        return self.house.queue.item(str(response.parameters["review_id"]))


@pytest.fixture
def gate(house: House) -> Gate:
    models, draws = Models(), Draws()
    names = [f"class {number}" for number in range(10)]
    service = AutomationService(cast(InferenceService, models), house.store, lambda *_: names, draws)
    return Gate(service, models, draws, house)


async def test_a_model_without_settings_passes_through_untouched(gate: Gate) -> None:
    response = await gate.infer(model="another", segment="x")
    assert response.parameters == {}
    assert gate.models.asked[0].parameters == {"segment": "x"}


async def test_the_short_way_meets_the_level_too(gate: Gate) -> None:
    told: list[InferenceResponse | None] = []
    answered = asyncio.Semaphore(0)

    def answer(response: InferenceResponse | None, error: BaseException | None) -> None:
        told.append(response)
        answered.release()

    gate.at(Level.HUMAN_ONLY)
    for model in ("digits", "another"):
        request = InferenceRequest(model, {"image": np.zeros((1, 8, 8), np.float32)}, id=model)
        gate.service.ask(request, answer)
        await asyncio.wait_for(answered.acquire(), 10)
    of_a_person, of_the_model = (response.parameters if response else None for response in told)
    assert of_a_person is not None
    assert of_a_person["decided_by"] == "human_pending"
    assert of_the_model == {}
    assert [asked.id for asked in gate.models.asked] == ["another"]


async def test_a_release_behind_automation_sees_the_segment_but_not_where_the_input_lies(gate: Gate) -> None:
    await gate.infer("r1", segment="night", input_reference="s3://pictures/1.png", routing_key="ann")
    assert gate.models.asked[0].parameters == {"segment": "night", "routing_key": "ann"}


async def test_at_human_only_the_model_is_not_asked(gate: Gate) -> None:
    gate.at(Level.HUMAN_ONLY)
    response = await gate.infer("r1", input_reference="s3://pictures/1.png")
    assert gate.models.asked == []
    assert response.outputs == {}
    assert response.version == "3"
    assert response.parameters["decided_by"] == "human_pending"
    item = gate.item(response)
    assert item.request_id == "r1"
    assert item.input_reference == "s3://pictures/1.png"
    assert "image float32 [1, 8, 8]" in item.summary
    assert item.suggestion is None


async def test_in_shadow_the_model_is_recorded_and_not_shown(gate: Gate) -> None:
    response = await gate.infer("r1")
    assert response.outputs == {}
    assert len(gate.models.asked) == 1
    item = gate.item(response)
    assert item.is_blind
    assert item.suggestion is None
    gate.house.queue.answer(item.id, 3, "ann")
    assert gate.house.queue.item(item.id).suggestion == 7


@pytest.mark.parametrize(("draw", "is_blind"), [(1.0, False), (0.0, True)])
async def test_in_assist_the_suggestion_is_shown_but_for_a_share(gate: Gate, draw: float, is_blind: bool) -> None:
    gate.at(Level.ASSIST)
    gate.draws.value = draw
    response = await gate.infer()
    assert response.parameters["decided_by"] == "human_pending"
    item = gate.item(response)
    assert item.is_blind is is_blind
    assert item.suggestion == (None if is_blind else 7)
    assert item.wants == (2 if is_blind else 1)


async def test_in_partial_the_model_answers_where_it_is_sure_enough(gate: Gate) -> None:
    gate.at(Level.PARTIAL)
    unproven = await gate.infer("r0")
    assert unproven.parameters["decided_by"] == "human_pending"
    gate.prove_confidence()
    sure = await gate.infer("r1")
    assert sure.parameters["decided_by"] == "model"
    assert sure.outputs["p"][0, 7] == pytest.approx(0.97)
    gate.models.confidence = 0.4
    unsure = await gate.infer("r2")
    assert unsure.parameters["decided_by"] == "human_pending"
    assert gate.item(unsure).why == "low_confidence"
    assert unsure.outputs == {}


async def test_in_full_the_model_answers_and_a_share_is_audited_blind(gate: Gate) -> None:
    gate.at(Level.FULL)
    gate.models.confidence = 0.4
    assert "review_id" not in (await gate.infer("r1")).parameters
    gate.draws.value = 0.0
    audited = await gate.infer("r2")
    assert audited.parameters["decided_by"] == "model"
    assert audited.outputs
    item = gate.item(audited)
    assert item.why == "audit"
    assert item.suggestion is None
    gate.house.clock.now += 1000
    for who in ("ann", "bob"):
        gate.house.queue.answer(item.id, 7, who)
    assert gate.house.store.standing("digits", "").audited_at == gate.house.clock.now


async def test_what_the_model_answered_is_found_by_its_label(gate: Gate) -> None:
    gate.at(Level.FULL)
    response = await gate.infer()
    request_id = str(response.parameters["request_id"])
    assert response.id == "", "the protocol's own id is the caller's"
    assert gate.house.labels.take("digits", request_id, 7).taken is Taken.REFUSED, "not written down yet"
    await gate.service.close()
    assert gate.house.labels.take("digits", request_id, 7).taken is Taken.ACCEPTED


async def test_the_caller_gets_the_outputs_that_it_asked_for(gate: Gate) -> None:
    gate.at(Level.FULL)
    inputs = {"image": np.zeros((1, 8, 8), np.float32)}
    response = await gate.service.infer(InferenceRequest("digits", inputs, outputs=(RequestedOutput("other"),)))
    assert set(response.outputs) == {"other"}
    assert response.parameters["decided_by"] == "model"


async def test_who_wants_classes_costs_one_run_of_the_model(gate: Gate) -> None:
    gate.at(Level.FULL)
    inputs = {"image": np.zeros((1, 8, 8), np.float32)}
    wanted = RequestedOutput("p", {"classification": 2})
    response = await gate.service.infer(InferenceRequest("digits", inputs, id="r1", outputs=(wanted,)))
    assert len(gate.models.asked) == 1
    assert response.outputs["p"].tolist() == [[b"0.970000:7:class 7", b"0.003333:0:class 0"]]
    await gate.service.close()
    assert gate.house.labels.take("digits", "r1", 7).taken is Taken.ACCEPTED


@pytest.mark.parametrize("level", [Level.HUMAN_ONLY, Level.FULL])
async def test_an_output_that_the_model_has_not_is_refused_before_anybody_is_asked(gate: Gate, level: Level) -> None:
    gate.at(level)
    inputs = {"image": np.zeros((1, 8, 8), np.float32)}
    with pytest.raises(InvalidInputError, match="unknown output 'nothing'; model 'digits' has 'p', 'other'"):
        await gate.service.infer(InferenceRequest("digits", inputs, outputs=(RequestedOutput("nothing"),)))
    assert gate.models.asked == []
    assert gate.house.queue.items() == []


async def test_segments_have_levels_of_their_own(gate: Gate) -> None:
    gate.house.store.move("digits", "day", Level.FULL, "", "ann")
    assert (await gate.infer("r1", segment="day")).parameters["decided_by"] == "model"
    assert (await gate.infer("r2", segment="night")).parameters["decided_by"] == "human_pending"


@pytest.mark.parametrize("parameters", [{"segment": 3}, {"segment": "x" * 200}, {"input_reference": "x" * 2000}])
async def test_parameters_that_do_not_fit_are_refused(gate: Gate, parameters: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError, match=r"is 3; expected a text of|characters; expected"):
        await gate.infer(**parameters)


@pytest.mark.parametrize("text", ["r\0", "\0", "r\ud800", "\udfff"], ids=ascii)
@pytest.mark.parametrize("level", [Level.FULL, Level.HUMAN_ONLY])
async def test_a_text_that_no_database_keeps_is_refused_before_it_waits_beside_others(
    gate: Gate, text: str, level: Level
) -> None:
    gate.at(level)
    for asked in ({"request_id": text}, {"segment": text}, {"input_reference": text}):
        with pytest.raises(InvalidInputError, match="which no database keeps; leave it out"):
            await gate.infer(**asked)
    assert gate.models.asked == []
    assert gate.service.asked_for() <= {("digits", "")}


async def test_an_input_with_such_a_text_is_shown_to_people_without_it(gate: Gate) -> None:
    gate.at(Level.HUMAN_ONLY)
    inputs = {"words\0": np.array([b"a\0b"], object)}
    item = gate.item(await gate.service.infer(InferenceRequest("digits", inputs)))
    assert item.summary == "words\ufffd object [1]: a\ufffdb"


async def test_nobody_is_told_that_a_person_has_it_when_it_is_not_on_disk(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise StorageError("disk full")

    monkeypatch.setattr(AutomationStore, "record_in", full)
    with pytest.raises(StorageError, match="disk full"):
        await gate.infer("r1")


async def test_a_full_disk_does_not_keep_the_model_from_answering(
    gate: Gate, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    gate.at(Level.FULL)

    def full(*_: object) -> None:
        raise StorageError("disk full")

    with monkeypatch.context() as broken:
        broken.setattr(AutomationStore, "record_in", full)
        response = await gate.infer("r1")
        gate.draws.value = 0.0
        audited = await gate.infer("r2")
        await gate.service.close()
    assert response.parameters["decided_by"] == audited.parameters["decided_by"] == "model"
    assert "review_id" not in audited.parameters
    assert gate.service.lost_records == 1
    assert "disk full" in caplog.text
    await gate.service.close()
    assert gate.house.labels.take("digits", "r1", 7).taken is Taken.ACCEPTED, "written once there was room"


def test_settings_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match="start_level is full, above"):
        type(SETTINGS)(model="m", start_level=Level.FULL, highest_level=Level.ASSIST)
