"""A request of the agent by calls, without a task: told once or not at all, and in its own context wherever answers come from."""

import asyncio
import logging
from contextvars import Context

import pytest

from edge_agent.service import AgentService
from runtime.errors import ExecutionError
from runtime.serving.asking import Answer, Withdraw
from runtime.telemetry.context import RequestMark, request_mark, traceparent
from runtime.wire.values import InferenceRequest, InferenceResponse
from tests.edge_agent.test_service import FakeGateway, FakeLocal, reply, request, who


class AtOnce(FakeLocal):
    """Answers by the short way, each in a context of its own, as an engine's batch does that other requests share."""

    unforeseen: Exception | None = None

    def ask(self, request: InferenceRequest, answer: Answer) -> Withdraw:
        self.asked.append(request)
        error = self.unforeseen or self.error
        answered = asyncio.get_running_loop().call_soon(
            answer, None if error else reply(request, 1.0, served_by="edge"), error, context=Context()
        )
        return answered.cancel


@pytest.mark.parametrize("gateway", [None, FakeGateway()], ids=["alone", "with a gateway"])
async def test_what_this_device_answers_takes_no_task(gateway: FakeGateway | None) -> None:
    service = AgentService(AtOnce(), gateway)
    answered: asyncio.Future[InferenceResponse | None] = asyncio.get_running_loop().create_future()
    before = asyncio.all_tasks()
    service.ask(request(), lambda response, _: answered.set_result(response))
    assert asyncio.all_tasks() == before
    response = await answered
    assert response is not None
    assert who(response)[:2] == (1.0, "edge")
    await service.drain()


async def test_what_is_withdrawn_is_told_nothing() -> None:
    told: list[object] = []
    service = AgentService(AtOnce(), FakeGateway())
    withdraw = service.ask(request(), lambda *what: told.append(what))
    withdraw()
    withdraw()
    await service.drain()
    await asyncio.sleep(0.01)
    assert told == []


async def test_a_fallback_belongs_to_the_span_of_its_own_request() -> None:
    seen: list[str | None] = []

    class Noting(FakeGateway):
        async def _behave(self, request: InferenceRequest) -> None:
            seen.append(traceparent.get())

    service = AgentService(AtOnce(error=ExecutionError("it broke")), Noting())
    token = traceparent.set("00-this-one-01")
    try:
        assert who(await service.infer(request()))[1] == "cloud"
    finally:
        traceparent.reset(token)
    assert seen == ["00-this-one-01"]


async def test_a_line_of_the_log_belongs_to_the_request_that_it_tells_of(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "edge_agent.service")
    marks: list[RequestMark | None] = []
    noting = logging.Handler()
    noting.emit = lambda _: marks.append(request_mark.get())  # type: ignore[method-assign]
    logging.getLogger("edge_agent.service").addHandler(noting)
    token = request_mark.set(RequestMark("7", "m"))
    try:
        await AgentService(AtOnce()).infer(request(route="edge"))
    finally:
        request_mark.reset(token)
        logging.getLogger("edge_agent.service").removeHandler(noting)
    assert marks == [RequestMark("7", "m")]


async def test_an_error_that_nobody_foresaw_is_told_and_ends_the_request() -> None:
    local, gateway = AtOnce(), FakeGateway()
    local.unforeseen = ZeroDivisionError("a fault of ours")
    service = AgentService(local, gateway)
    with pytest.raises(ZeroDivisionError):
        await service.infer(request())
    assert not gateway.asked
    async with asyncio.timeout(10):
        await service.drain()
