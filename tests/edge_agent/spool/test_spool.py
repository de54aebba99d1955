"""The spool before a service: replies that any client takes, order, retries, one answer a key, and nothing lost over a restart."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_agent.spool import spool as module
from edge_agent.spool.policy import SpoolLimits
from edge_agent.spool.retrying import MAX_ATTEMPTS
from edge_agent.spool.spool import Spool
from runtime.errors import ConflictError, ExecutionError, InvalidInputError, PeerUnreachableError
from runtime.wire.values import InferenceRequest, InferenceResponse

PATIENCE_S = 20.0


class Model:
    """y = 2 x, when it is there; remembers what it was asked."""

    def __init__(self) -> None:
        self.errors: list[Exception | None] = []
        self.is_away = False
        self.asked: list[InferenceRequest] = []

    async def infer(self, request: InferenceRequest) -> InferenceResponse:
        self.asked.append(request)
        if self.is_away:
            raise PeerUnreachableError("away")
        if self.errors and (error := self.errors.pop(0)) is not None:
            raise error
        return InferenceResponse(request.model, "1", {"y": request.inputs["x"] * 2}, request.id, {"served_by": "cloud"})

    def values(self) -> list[float]:
        return [float(request.inputs["x"][0]) for request in self.asked]


@pytest.fixture(autouse=True)
def _no_long_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "pause_s", lambda failures: 0.01)


@asynccontextmanager
async def opened(file: Path, model: Model, **limits: Any) -> AsyncIterator[Spool]:
    spool = Spool(file, SpoolLimits(**limits), model.infer)
    spool.start()
    try:
        yield spool
    finally:
        await spool.close()


def request(value: float, **parameters: Any) -> InferenceRequest:
    return InferenceRequest("m", {"x": np.array([value], np.float32)}, id="mine", parameters=parameters)


def asynchronous(value: float, key: str = "", **parameters: Any) -> InferenceRequest:
    keyed = {"idempotency_key": key} if key else {}
    return request(value, **{"async": True}, **keyed, **parameters)


async def answered(spool: Spool, key: str) -> InferenceResponse:
    async with asyncio.timeout(PATIENCE_S):
        while (reply := await spool.infer(request(0, spooled_result=key))).parameters["spooled"]:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    return reply


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_a_request_without_async_passes_by_and_opens_nothing(tmp_path: Path) -> None:
    model = Model()
    async with opened(tmp_path / "spool.db", model) as spool:
        reply = await spool.infer(request(3, idempotency_key="k"))
        assert float(reply.outputs["y"][0]) == 6
        assert (await spool.describe())["depth"] == 0
    assert list(tmp_path.iterdir()) == []  # noqa: ASYNC240


async def test_kept_answered_and_fetched(tmp_path: Path) -> None:
    model = Model()
    async with opened(tmp_path / "spool.db", model) as spool:
        kept = await spool.infer(asynchronous(3, privacy="local_only"))
        assert (kept.outputs, kept.id, kept.parameters["spooled"]) == ({}, "mine", True)
        key = str(kept.parameters["idempotency_key"])
        reply = await answered(spool, key)
        assert float(reply.outputs["y"][0]) == 6
        assert reply.parameters == {"served_by": "cloud", "spooled": False, "idempotency_key": key}
    # What was asked of it, its privacy too, goes to whoever answers; that it was spooled does not.
    assert model.asked[0].parameters == {"privacy": "local_only", "idempotency_key": key}
    assert model.asked[0].deadline is not None


async def test_in_order_after_an_outage_and_once_each(tmp_path: Path) -> None:
    model = Model()
    model.is_away = True
    async with opened(tmp_path / "spool.db", model) as spool:
        for value in range(5):
            await spool.infer(asynchronous(value, f"k{value}"))
        await until(lambda: len(model.asked) >= 3)
        assert set(model.values()) == {0.0}, "those behind the first wait"
        assert "away" in (await spool.describe())["waits_because"]
        model.asked.clear()
        model.is_away = False
        await answered(spool, "k4")
        assert model.values() == [0, 1, 2, 3, 4]


async def test_what_was_kept_before_a_restart_is_answered_after_it(tmp_path: Path) -> None:
    model = Model()
    model.is_away = True
    async with opened(tmp_path / "spool.db", model) as spool:
        await spool.infer(asynchronous(7, "k"))
    model.is_away = False
    async with opened(tmp_path / "spool.db", model) as spool:
        assert float((await answered(spool, "k")).outputs["y"][0]) == 14


async def test_many_at_once_are_all_kept(tmp_path: Path) -> None:
    model = Model()
    async with opened(tmp_path / "spool.db", model) as spool:
        kept = await asyncio.gather(*(spool.infer(asynchronous(value)) for value in range(50)))
        keys = [str(reply.parameters["idempotency_key"]) for reply in kept]
        values = [float((await answered(spool, key)).outputs["y"][0]) for key in keys]
    assert values == [2.0 * value for value in range(50)]


async def test_the_same_key_once_and_another_payload_refused(tmp_path: Path) -> None:
    model = Model()
    async with opened(tmp_path / "spool.db", model) as spool:
        await spool.infer(asynchronous(1, "k"))
        await answered(spool, "k")
        again = await spool.infer(asynchronous(1, "k"))
        assert (float(again.outputs["y"][0]), again.parameters["spooled"]) == (2.0, False)
        with pytest.raises(ConflictError, match="'k' was used for another request"):
            await spool.infer(asynchronous(2, "k"))
    assert len(model.asked) == 1


async def test_an_error_of_the_request_itself_is_its_result_and_the_next_goes_on(tmp_path: Path) -> None:
    model = Model()
    model.errors = [InvalidInputError("no such shape"), ExecutionError("once"), None]
    async with opened(tmp_path / "spool.db", model) as spool:
        await spool.infer(asynchronous(1, "bad"))
        await spool.infer(asynchronous(2, "good"))
        assert float((await answered(spool, "good")).outputs["y"][0]) == 4
        with pytest.raises(InvalidInputError, match="spooled request bad: no such shape"):
            await answered(spool, "bad")


async def test_a_request_that_fails_in_an_unforeseen_way_is_given_up_and_the_next_goes_on(tmp_path: Path) -> None:
    model = Model()
    model.errors = [ZeroDivisionError()] * MAX_ATTEMPTS
    async with opened(tmp_path / "spool.db", model) as spool:
        for value, key in ((1, "a"), (2, "b")):
            await spool.infer(asynchronous(value, key))
        assert (await answered(spool, "b")).outputs["y"].tolist() == [4]
        with pytest.raises(ExecutionError, match="spooled request a: the agent failed in a way it did not expect"):
            await spool.infer(request(0, spooled_result="a"))


@pytest.mark.parametrize(
    ("parameters", "told"),
    [
        ({"async": "yes"}, "'async' is 'yes'; expected true or false"),
        ({"async": True, "idempotency_key": "../x"}, "expected up to 128 letters"),
        ({"async": True, "idempotency_key": 7}, "'idempotency_key' is 7"),
        ({"spooled_result": "nobody"}, "nothing is spooled under key 'nobody'"),
        ({"spooled_result": "\ud800"}, "nothing is spooled under key"),
        ({"spooled_result": True}, "expected the key"),
    ],
)
async def test_parameters_that_cannot_be_are_said(parameters: dict[str, Any], told: str, tmp_path: Path) -> None:
    async with opened(tmp_path / "spool.db", Model()) as spool:
        with pytest.raises(InvalidInputError, match=told):
            await spool.infer(request(1, **parameters))
