"""The agent's service over a local runtime and a gateway that fail, hang and answer as told."""

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from edge_agent.drill import Drill
from edge_agent.rules import Policy
from edge_agent.service import MAX_REASON_CHARACTERS, AgentService
from edge_agent.states import CloudState
from runtime.errors import (
    BackendUnavailableError,
    DeadlineExceededError,
    EdgewardError,
    ExecutionError,
    InvalidInputError,
    ModelNotFoundError,
    ModelNotReadyError,
    OverloadedError,
    PeerUnreachableError,
    UnsupportedError,
)
from runtime.wire.statistics import ModelStatistics
from runtime.wire.values import (
    IndexEntry,
    InferenceRequest,
    InferenceResponse,
    ModelDescription,
    Parameter,
    ServerDescription,
)

ROW = np.zeros((1, 4), np.float32)


def reply(request: InferenceRequest, who: float, **parameters: Parameter) -> InferenceResponse:
    return InferenceResponse(request.model, "1", {"scores": np.full((1, 2), who)}, request.id, parameters)


@dataclass
class Arm:
    """What both fakes share: an answer, an error, or silence; and a record of every request."""

    error: EdgewardError | None = None
    is_hanging: bool = False
    asked: list[InferenceRequest] = field(default_factory=list)
    questions: int = 0
    gate: asyncio.Event | None = None
    reached: asyncio.Event = field(default_factory=asyncio.Event)

    async def _behave(self, request: InferenceRequest) -> None:
        self.asked.append(request)
        self.reached.set()
        if self.gate is not None:
            await self.gate.wait()
        if self.is_hanging:
            assert request.deadline is not None
            await asyncio.sleep(request.deadline - time.monotonic())
            raise DeadlineExceededError("it did not answer within its time")
        if self.error is not None:
            raise self.error


@dataclass
class FakeLocal(Arm):
    """A local runtime that serves model 'm' (or nothing)."""

    models: tuple[str, ...] = ("m",)
    predicted_s: float | None = 0.001
    is_drained: bool = False
    tells: dict[str, Parameter] = field(default_factory=dict)
    """More parameters of its replies."""

    async def infer(self, request: InferenceRequest) -> InferenceResponse:
        self._require(request.model)
        await self._behave(request)
        return reply(request, 1.0, backend="fp32.onnx on onnxruntime-cpu", served_by="edge", **self.tells)

    def predict_wait_s(self, name: str, version: str, rows: int) -> float | None:
        self._require(name)
        return self.predicted_s

    async def describe_model(self, name: str, version: str) -> ModelDescription:
        self._require(name)
        return ModelDescription(name, ("1",), "here", (), (), 0)

    async def is_model_ready(self, name: str, version: str) -> bool:
        return name in self.models

    def statistics(self, name: str, version: str) -> list[ModelStatistics]:
        return [ModelStatistics(model, "1") for model in self.models if name in ("", model)]

    def describe_server(self) -> ServerDescription:
        return ServerDescription("agent", "1", ())

    def is_live(self) -> bool:
        return True

    def is_ready(self) -> bool:
        return not self.is_drained

    def index(self) -> list[IndexEntry]:
        return []

    async def load(self, name: str, parameters: Mapping[str, object]) -> None:
        self.models = (*self.models, name)

    async def unload(self, name: str) -> None:
        self.models = tuple(known for known in self.models if known != name)

    async def drain(self) -> None:
        self.is_drained = True

    def _require(self, name: str) -> None:
        if name not in self.models:
            raise ModelNotFoundError(f"model {name!r} is not served here; served: {', '.join(self.models)}")


@dataclass
class FakeGateway(Arm):
    """A gateway that serves every model but 'nowhere'."""

    cloud: CloudState = field(default_factory=lambda: CloudState(True, True))

    def state(self, now: float, model: str) -> CloudState:
        return self.cloud

    async def infer(self, request: InferenceRequest, *, is_idempotent: bool = True) -> InferenceResponse:
        await self._behave(request)
        return reply(request, 2.0, backend="fp32.onnx on onnxruntime-cuda", served_by="cloud")

    async def describe_model(self, name: str, version: str) -> ModelDescription:
        self.questions += 1
        if self.error is not None:
            raise self.error
        return ModelDescription(name, ("1", "2"), "there", (), (), 0)

    async def is_model_ready(self, name: str, version: str) -> bool:
        self.questions += 1
        return name != "nowhere"


def request(model: str = "m", deadline: float | None = None, **parameters: Parameter) -> InferenceRequest:
    return InferenceRequest(model, {"x": ROW}, parameters=parameters, deadline=deadline)


def who(response: InferenceResponse) -> tuple[float, object, object]:
    return response.outputs["scores"][0, 0], response.parameters["served_by"], response.parameters.get("reason")


async def test_the_edge_answers_first_and_says_on_what() -> None:
    local, gateway = FakeLocal(), FakeGateway()
    response = await AgentService(local, gateway).infer(request())
    assert who(response) == (1.0, "edge", None)
    assert response.parameters["backend"] == "fp32.onnx on onnxruntime-cpu"
    assert not gateway.asked


async def test_what_the_edge_has_to_tell_stands_beside_why_it_answered() -> None:
    local = FakeLocal()
    local.tells = {"reason": "the GPU is gone; the processor took over"}
    answered = await AgentService(local, FakeGateway()).infer(request())
    assert answered.parameters["reason"] == "the GPU is gone; the processor took over"
    asked = await AgentService(local, FakeGateway()).infer(request(route="edge"))
    assert str(asked.parameters["reason"]).endswith("; the GPU is gone; the processor took over")


@pytest.mark.parametrize(
    "error",
    [
        ExecutionError("drill: out of memory"),
        BackendUnavailableError("the GPU is gone"),
        ModelNotReadyError("unloading"),
        OverloadedError("the queue is full"),
        ModelNotFoundError("no such version"),
    ],
)
async def test_a_local_failure_is_answered_by_the_cloud_with_the_reason(
    error: EdgewardError, caplog: pytest.LogCaptureFixture
) -> None:
    service = AgentService(FakeLocal(error), FakeGateway())
    with caplog.at_level(logging.WARNING):
        response = await service.infer(request())
    assert who(response) == (2.0, "cloud", f"edge failed: {error}; answered by the cloud")
    assert str(error) in caplog.text
    assert service.counts.describe() == {"edge": {}, "cloud": {"edge_failed": 1}, "failed": {}}


async def test_a_model_that_is_not_here_is_answered_by_the_cloud() -> None:
    response = await AgentService(FakeLocal(), FakeGateway()).infer(request("other"))
    assert who(response)[:2] == (2.0, "cloud")
    assert "'other' is not served here" in str(response.parameters["reason"])


async def test_a_queue_that_cannot_meet_the_deadline_sends_to_the_cloud() -> None:
    local = FakeLocal(predicted_s=60.0)
    response = await AgentService(local, FakeGateway()).infer(request(deadline=time.monotonic() + 5))
    assert who(response)[:2] == (2.0, "cloud")
    assert "60 s (queue and run)" in str(response.parameters["reason"])
    assert not local.asked


async def test_a_hanging_edge_leaves_the_cloud_its_time() -> None:
    local, gateway = FakeLocal(is_hanging=True), FakeGateway()
    response = await AgentService(local, gateway, default_deadline_s=1.0).infer(request())
    assert who(response)[:2] == (2.0, "cloud")
    assert "the edge took longer than" in str(response.parameters["reason"])


async def test_a_caller_error_does_not_fall_back() -> None:
    gateway = FakeGateway()
    error = InvalidInputError("input 'x' is FP32 [1, 4]; model 'm' wants FP32 [batch, 5]")
    service = AgentService(FakeLocal(error), gateway)
    with pytest.raises(InvalidInputError) as caught:
        await service.infer(request())
    assert caught.value is error
    assert not gateway.asked
    assert service.counts.describe()["failed"] == {"InvalidInputError": 1}


async def test_when_both_fail_the_first_choice_gives_the_class_and_both_their_stories() -> None:
    service = AgentService(FakeLocal(ExecutionError("it broke")), FakeGateway(PeerUnreachableError("refused")))
    with pytest.raises(ExecutionError) as caught:
        await service.infer(request())
    assert str(caught.value) == "edge failed: it broke; cloud failed: refused"


async def test_cloud_first_falls_back_to_the_edge() -> None:
    service = AgentService(FakeLocal(), FakeGateway(PeerUnreachableError("refused")), Policy.CLOUD_FIRST)
    assert who(await service.infer(request())) == (1.0, "edge", "cloud failed: refused; answered by the edge")


async def test_cloud_first_does_not_try_a_gateway_behind_an_open_breaker() -> None:
    gateway = FakeGateway(cloud=CloudState(True, False, detail="the breaker is open for another 1.00 s"))
    response = await AgentService(FakeLocal(), gateway, Policy.CLOUD_FIRST).infer(request())
    assert who(response)[:2] == (1.0, "edge")
    assert "breaker is open" in str(response.parameters["reason"])
    assert not gateway.asked


@pytest.mark.parametrize("policy", Policy)
@pytest.mark.parametrize("error", [None, ExecutionError("broken"), OverloadedError("full"), ModelNotFoundError("gone")])
@pytest.mark.parametrize("route", ["auto", "edge", "cloud"])
@pytest.mark.parametrize("model", ["m", "other"])
async def test_local_only_never_reaches_the_gateway(
    policy: Policy, error: EdgewardError | None, route: str, model: str
) -> None:
    local, gateway = FakeLocal(error), FakeGateway()
    service = AgentService(local, gateway, policy)
    try:
        response = await service.infer(request(model, privacy="local_only", route=route))
    except EdgewardError:
        pass
    else:
        assert who(response)[:2] == (1.0, "edge")
    assert gateway.asked == []
    assert gateway.questions == 0


async def test_route_overrides_the_policy_and_does_not_fall_back() -> None:
    service = AgentService(FakeLocal(ExecutionError("it broke")), FakeGateway())
    assert who(await service.infer(request(route="cloud"))) == (2.0, "cloud", "route=cloud was asked for")
    with pytest.raises(ExecutionError, match="^it broke$"):
        await service.infer(request(route="edge"))


@pytest.mark.parametrize(("name", "value"), [("route", "moon"), ("privacy", "some"), ("route", 1), ("privacy", True)])
async def test_an_unknown_override_is_the_callers_error(name: str, value: Parameter) -> None:
    with pytest.raises(InvalidInputError, match=f"parameter '{name}' is {value!r}; expected one of"):
        await AgentService(FakeLocal(), FakeGateway()).infer(request(**{name: value}))


async def test_without_a_gateway_it_works_and_no_error_is_about_that_but_of_who_asks_for_it() -> None:
    assert who(await AgentService(FakeLocal()).infer(request())) == (1.0, "edge", None)
    with pytest.raises(ExecutionError, match="^it broke$"):
        await AgentService(FakeLocal(ExecutionError("it broke"))).infer(request())
    with pytest.raises(UnsupportedError, match="--gateway"):
        await AgentService(FakeLocal()).infer(request(route="cloud"))


async def test_deadlines_are_always_set_and_what_is_left_is_passed_on() -> None:
    local, gateway = FakeLocal(ExecutionError("it broke")), FakeGateway()
    before = time.monotonic()
    await AgentService(local, gateway, default_deadline_s=8.0).infer(request())
    assert local.asked[0].deadline is not None
    assert gateway.asked[0].deadline is not None
    assert before + 7 < local.asked[0].deadline == gateway.asked[0].deadline <= time.monotonic() + 8.0
    deadline = time.monotonic() + 3.0
    await AgentService(local, gateway).infer(request(deadline=deadline))
    assert gateway.asked[1].deadline == deadline
    with pytest.raises(DeadlineExceededError, match="before the request was routed"):
        await AgentService(local, gateway).infer(request(deadline=time.monotonic() - 1.0))


async def test_the_overrides_stay_here_and_other_parameters_travel() -> None:
    gateway = FakeGateway()
    await AgentService(FakeLocal(), gateway).infer(request(route="cloud", privacy="any", priority=2))
    assert gateway.asked[0].parameters == {"priority": 2}


async def test_a_long_reason_is_cut() -> None:
    response = await AgentService(FakeLocal(ExecutionError("x" * 9000)), FakeGateway()).infer(request())
    assert len(str(response.parameters["reason"])) == MAX_REASON_CHARACTERS


async def test_the_drill_file_turns_local_runs_off_and_on(tmp_path: Path) -> None:
    file = tmp_path / "drill"
    local = FakeLocal()
    service = AgentService(local, FakeGateway(), drill=Drill(file))
    assert who(await service.infer(request()))[1] == "edge"
    file.write_text("practice")
    assert who(await service.infer(request())) == (2.0, "cloud", "edge failed: drill: practice; answered by the cloud")
    assert len(local.asked) == 1
    file.unlink()
    assert who(await service.infer(request()))[1] == "edge"


async def test_models_are_described_here_first_then_there() -> None:
    service = AgentService(FakeLocal(), FakeGateway())
    assert (await service.describe_model("m", "")).platform == "here"
    assert (await service.describe_model("other", "")).platform == "there"
    with pytest.raises(ModelNotFoundError):
        await AgentService(FakeLocal(), FakeGateway(), Policy.EDGE_ONLY).describe_model("other", "")
    unreachable = FakeGateway(PeerUnreachableError("refused"))
    with pytest.raises(PeerUnreachableError, match="'other' is not served here.*refused"):
        await AgentService(FakeLocal(), unreachable).describe_model("other", "")


async def test_a_model_is_ready_when_an_allowed_arm_has_it() -> None:
    both = AgentService(FakeLocal(), FakeGateway())
    assert [await both.is_model_ready(name, "") for name in ("m", "other", "nowhere")] == [True, True, False]
    alone = AgentService(FakeLocal(), FakeGateway(), Policy.EDGE_ONLY)
    assert [await alone.is_model_ready(name, "") for name in ("m", "other")] == [True, False]


async def test_loading_is_local() -> None:
    service = AgentService(FakeLocal())
    await service.load("other", {})
    assert await service.is_model_ready("other", "")
    await service.unload("other")
    assert not await service.is_model_ready("other", "")


async def test_drain_waits_for_requests_wherever_they_are() -> None:
    local, gateway = FakeLocal(ExecutionError("it broke")), FakeGateway(gate=asyncio.Event())
    service = AgentService(local, gateway)
    asked = asyncio.create_task(service.infer(request()))
    await gateway.reached.wait()
    draining = asyncio.create_task(service.drain())
    await asyncio.sleep(0)
    assert not service.is_ready()
    with pytest.raises(ModelNotReadyError, match="shutting down"):
        await service.infer(request())
    assert not draining.done()
    assert not local.is_drained
    assert gateway.gate is not None
    gateway.gate.set()
    await draining
    assert local.is_drained
    assert who(await asked)[1] == "cloud"


async def test_cancelling_withdraws_the_request_and_falls_back_nowhere() -> None:
    local, gateway = FakeLocal(is_hanging=True), FakeGateway()
    service = AgentService(local, gateway)
    asked = asyncio.create_task(service.infer(request()))
    await local.reached.wait()
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    assert not gateway.asked
    await service.drain()


async def test_a_request_without_another_arm_can_be_withdrawn() -> None:
    local = FakeLocal(is_hanging=True)
    service = AgentService(local)
    asking = asyncio.create_task(service.infer(request()))
    await local.reached.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    async with asyncio.timeout(10):
        await service.drain()  # nothing is under way any more


async def test_a_stalled_edge_is_hedged_and_then_passed_over(tmp_path: Path) -> None:
    file = tmp_path / "drill"
    file.write_text("stall 60")
    service = AgentService(FakeLocal(), FakeGateway(), default_deadline_s=1.0, drill=Drill(file))
    reasons = []
    for _ in range(4):
        response = await service.infer(request())
        assert who(response)[:2] == (2.0, "cloud")
        reasons.append(str(response.parameters["reason"]))
        await asyncio.sleep(0)  # the edge's call is withdrawn, and its silence noted
    assert "the edge took longer than" in reasons[0]
    assert "this device would answer in" in reasons[-1], "two silences in a row are enough"
    assert service.counts.describe_effort()["asked"] == {"edge": 2, "cloud": 4}


async def test_trials_of_a_slow_arm_are_no_change_of_who_answers(caplog: pytest.LogCaptureFixture) -> None:
    slow = CloudState(True, True, predicted_s=300.0, typical_s=200.0)
    gateway = FakeGateway(cloud=slow, is_hanging=True)
    # So slow itself that it is asked at once beside a trial.
    service = AgentService(FakeLocal(predicted_s=50.0), gateway, Policy.CLOUD_FIRST, 60.0, hedge_share=1.0)
    told = []
    for unasked_s in (0.0, 9.0, 0.0, 9.0, 0.0):
        gateway.cloud = replace(slow, unasked_s=unasked_s)
        told.append(str(who(await service.infer(request()))[2]))
    assert told[1::2] == ["asked at once beside a trial of the cloud"] * 2
    assert len(gateway.asked) == 2
    changes = [line for line in caplog.messages if "from now on" in line]
    assert len(changes) == 1, changes
    assert service.counts.fallbacks == {"too_slow": 3, "beside_trial": 2}
