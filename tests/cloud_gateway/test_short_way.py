"""The gateway's layers one before the other: requests that pass by reach the models without a task, all others are no shorter."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from cloud_gateway.idempotency import DEDUPLICATED, Idempotent
from cloud_gateway.release.request_log import Asked
from cloud_gateway.release.service import ReleaseService, Traffic
from runtime.errors import ExecutionError, InvalidInputError
from runtime.serving.asking import Answer, Withdraw, ask_of
from runtime.serving.layered import Layered
from runtime.store import sqlite_url
from runtime.wire.values import InferenceRequest, InferenceResponse
from tests.cloud_gateway.release.test_service import activate
from tests.runtime.serving.fake_service import FakeService

Told = list[tuple[InferenceResponse | None, BaseException | None]]


class Models(FakeService):
    """Has both ways, and keeps which was taken; answers the short one when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.ways: list[str] = []
        self.answers: list[Answer] = []
        self.refuses: Exception | None = None
        self.fails: BaseException | None = None
        self.taken_back = 0

    async def infer(self, request: InferenceRequest) -> InferenceResponse:
        self.ways.append(f"long {request.version}")
        if self.fails is not None:
            raise self.fails
        return InferenceResponse(request.model, request.version, {"y": np.zeros(1)}, request.id)

    def ask(self, request: InferenceRequest, answer: Answer) -> Withdraw:
        self.ways.append(f"short {request.version}")
        if self.refuses is not None:
            raise self.refuses
        self.answers.append(answer)

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
    assert models.ways == ["short 3", "short ", "short 2"]
    response = InferenceResponse("digits", "2", {})
    models.answers[-1](response, None)
    assert told == [(response, None)]
    withdraw()
    assert models.taken_back == 1


async def test_keys_and_releases_take_the_long_way(gateway: Layered, models: Models, traffic: Traffic) -> None:
    told: Told = []
    gateway.ask(request(idempotency_key="k"), answered(told))
    await _until(lambda: len(told) == 1)
    gateway.ask(request(idempotency_key="k"), answered(told))
    await _until(lambda: len(told) == 2)
    activate(traffic, 1.0)
    gateway.ask(request(), answered(told))
    await _until(lambda: len(told) == 3)
    assert [error for _, error in told] == [None] * 3
    first, second, released = (cast(InferenceResponse, response).parameters for response, _ in told)
    assert (DEDUPLICATED in first, second[DEDUPLICATED], released["release"]) == (False, True, "candidate")
    assert [way.partition(" ")[0] for way in models.ways] == ["long", "long"], "the second with the key ran nowhere"


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
    told: Told = []
    Layered(models, models.infer).ask(request(), answered(told))
    assert models.ways == []
    await _until(lambda: bool(told))
    assert models.ways == ["long "]


async def _until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110  (a database answers on a thread)
            await asyncio.sleep(0.01)
