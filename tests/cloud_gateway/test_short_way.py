"""The gateway's layers one before the other: requests that pass by reach the models without a task, all others are no shorter."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from cloud_gateway.guards import Arm
from cloud_gateway.idempotency import DEDUPLICATED, Idempotent
from cloud_gateway.release.answering import Traffic
from cloud_gateway.release.request_log import Asked
from cloud_gateway.release.service import ReleaseService
from runtime.errors import ExecutionError, InvalidInputError, OverloadedError
from runtime.serving.asking import Answer, Withdraw, answer_of, ask_of
from runtime.serving.layered import Layered
from runtime.store import sqlite_url
from runtime.wire.values import InferenceRequest, InferenceResponse
from tests.cloud_gateway.release.test_service import activate
from tests.runtime.serving.fake_service import FakeService

Told = list[tuple[InferenceResponse | None, BaseException | None]]


class Models(FakeService):
    """Has the short way, and keeps who was asked; answers when the test says so, or by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.answers: list[Answer] = []
        self.refuses: Exception | None = None
        self.fails: BaseException | None = None
        self.answers_itself = False
        self.taken_back = 0

    def ask(self, request: InferenceRequest, answer: Answer) -> Withdraw:
        self.asked.append(request.version)
        if self.refuses is not None:
            raise self.refuses
        self.answers.append(answer)
        if self.answers_itself:
            response = InferenceResponse(request.model, request.version, {"y": np.zeros(1)}, request.id)
            asyncio.get_running_loop().call_soon(answer, None if self.fails else response, self.fails)

        def withdraw() -> None:
            self.taken_back += 1

        return withdraw


class Log:
    """Keeps what a `RequestLog` would write."""

    def __init__(self) -> None:
        self.lines: list[Asked] = []

    def write(self, asked: Asked) -> None:
        self.lines.append(asked)


@pytest.fixture
def models() -> Models:
    return Models()


@pytest.fixture
def traffic() -> Traffic:
    return Traffic()


@pytest.fixture
async def gateway(models: Models, traffic: Traffic, tmp_path: Path) -> AsyncIterator[Layered]:
    released = ReleaseService(models, traffic)
    once = Idempotent(released.infer, sqlite_url(tmp_path / "results.db"), ask=ask_of(released))
    yield Layered(released, once.infer, once.ask)
    await once.close()


def request(version: str = "", **parameters: Any) -> InferenceRequest:
    return InferenceRequest("digits", {"x": np.zeros(1)}, version, "me", parameters=parameters)


def answered(told: Told) -> Answer:
    return lambda response, error: told.append((response, error))


async def test_a_request_that_passes_by_is_with_the_models_before_asking_returns(
    gateway: Layered, models: Models, traffic: Traffic
) -> None:
    told: Told = []
    gateway.ask(request("3"), answered(told))
    gateway.ask(request(), answered(told))
    traffic.pins["digits"] = "2"
    withdraw = gateway.ask(request(), answered(told))
    assert models.asked == ["3", "", "2"]
    response = InferenceResponse("digits", "2", {})
    models.answers[-1](response, None)
    assert told == [(response, None)]
    withdraw()
    assert models.taken_back == 1


async def test_keys_take_the_long_way(gateway: Layered, models: Models) -> None:
    models.answers_itself = True
    told: Told = []
    gateway.ask(request(idempotency_key="k"), answered(told))
    assert models.asked == []
    await _until(lambda: len(told) == 1)
    gateway.ask(request(idempotency_key="k"), answered(told))
    await _until(lambda: len(told) == 2)
    assert [error for _, error in told] == [None] * 2
    first, second = (cast(InferenceResponse, response).parameters for response, _ in told)
    assert (DEDUPLICATED in first, second[DEDUPLICATED]) == (False, True)
    assert len(models.asked) == 1, "the second with the key ran nowhere"


async def test_a_request_within_a_release_takes_the_short_way_too(
    gateway: Layered, models: Models, traffic: Traffic
) -> None:
    active = activate(traffic, 1.0)
    told: Told = []
    withdraw = gateway.ask(request(), answered(told))
    assert models.asked == ["2"]
    models.answers[-1](InferenceResponse("digits", "2", {}), None)
    [(response, error)] = told
    assert (cast(InferenceResponse, response).parameters["release"], error) == ("candidate", None)
    withdraw()
    assert models.taken_back == 0, "there is nothing to take back any more"

    withdraw = gateway.ask(request(), answered(told))
    models.answers[-1](None, ExecutionError("crashed"))
    assert models.asked == ["2", "2", "1"], "stable is asked instead"
    withdraw()
    assert models.taken_back == 1, "of stable, by now"

    gateway.ask(request(), answered(told))
    models.answers[-1](None, ExecutionError("crashed"))
    models.answers[-1](InferenceResponse("digits", "1", {}), None)
    assert cast(InferenceResponse, told[-1][0]).parameters["release"] == "stable"
    active.absorb(10)
    assert active.evidence.counts.replaced == 2


async def test_a_release_says_at_once_what_its_models_say_at_once(
    gateway: Layered, models: Models, traffic: Traffic
) -> None:
    active = activate(traffic, 1.0)
    models.refuses = InvalidInputError("a caller's fault")
    with pytest.raises(InvalidInputError):
        gateway.ask(request(), answered([]))
    assert models.asked == ["2"]
    models.refuses = OverloadedError("the queue is full")
    with pytest.raises(OverloadedError):
        gateway.ask(request(), answered([]))
    assert models.asked == ["2", "2", "1"]
    told: Told = []
    models.refuses = None
    gateway.ask(request(), answered(told))
    models.refuses = OverloadedError("the queue is full")
    models.answers[-1](None, ExecutionError("crashed"))
    assert told == [(None, models.refuses)], "stable's, which is the last one asked"
    active.absorb(10)
    assert active.evidence.counts.arms[Arm.CANDIDATE].errors == 2


@pytest.mark.parametrize("is_short", [True, False], ids=["short", "long"])
async def test_both_ways_tell_the_log_the_same(
    gateway: Layered, models: Models, traffic: Traffic, is_short: bool
) -> None:
    traffic.log = cast(Any, log := Log())
    models.refuses = InvalidInputError("a caller's fault")
    faults: list[BaseException | None] = [None, ExecutionError("the model's fault"), InvalidInputError("a caller's")]
    if is_short:
        with pytest.raises(InvalidInputError):
            gateway.ask(request(segment="fr"), answered([]))
        models.refuses = ExecutionError("at once")
        with pytest.raises(ExecutionError):
            gateway.ask(request(segment="fr"), answered([]))
        models.refuses = None
        told: Told = []
        for fault in faults:
            gateway.ask(request(segment="fr"), answered(told))
            models.answers[-1](None if fault else InferenceResponse("digits", "1", {}), fault)
        assert [error for _, error in told] == faults
        expected = [True, False, True]
    else:
        models.answers_itself, models.refuses = True, None
        for fault in faults:
            models.fails = fault
            if fault is None:
                await gateway.infer(request(segment="fr"))
            else:
                with pytest.raises(type(fault)):
                    await gateway.infer(request(segment="fr"))
        expected = [False, True]
    assert [line.is_error for line in log.lines] == expected
    assert {(line.key, line.segment) for line in log.lines} == {("me", "fr")}


async def test_what_has_no_short_way_is_asked_in_a_task(models: Models) -> None:
    models.answers_itself = True
    told: Told = []
    Layered(models, partial(answer_of, models.ask)).ask(request(), answered(told))
    assert models.asked == []
    await _until(lambda: bool(told))
    assert models.asked == [""]


async def _until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110  (a database answers on a thread)
            await asyncio.sleep(0.01)
