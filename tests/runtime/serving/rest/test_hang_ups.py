"""Who hangs up is noticed while the answer is being made, and a server that stops is told apart from that."""

from __future__ import annotations

import asyncio

import pytest
from starlette.types import Message

from runtime.errors import CancelledError, ModelNotReadyError
from runtime.serving.rest.hang_ups import HangUps

LIMIT_S = 10


class Client:
    """Its `receive` says that it is gone once it is."""

    def __init__(self) -> None:
        self.is_gone = asyncio.Event()

    async def receive(self) -> Message:
        await self.is_gone.wait()
        return {"type": "http.disconnect"}


async def test_a_client_that_stays_gets_its_answer() -> None:
    hang_ups, client = HangUps(), Client()

    async def work(seconds: float) -> float:
        await asyncio.sleep(seconds)
        return seconds

    for seconds in (0, 0.03):
        assert await hang_ups.while_connected(work(seconds), client.receive) == seconds


async def test_the_work_for_a_client_that_went_away_is_cancelled_and_no_other() -> None:
    hang_ups = HangUps()
    going, staying = Client(), Client()
    open_ = asyncio.Event()

    async def work() -> str:
        await open_.wait()
        return "answer"

    gone = asyncio.create_task(hang_ups.while_connected(work(), going.receive))
    stays = asyncio.create_task(hang_ups.while_connected(work(), staying.receive))
    await asyncio.sleep(0)
    going.is_gone.set()
    with pytest.raises(CancelledError, match="client went away"):
        await asyncio.wait_for(gone, LIMIT_S)
    assert not stays.done()
    open_.set()
    assert await asyncio.wait_for(stays, LIMIT_S) == "answer"


async def test_a_request_that_comes_after_all_others_have_ended_is_looked_after_too() -> None:
    hang_ups = HangUps()

    async def forever() -> None:
        await asyncio.Event().wait()

    for _ in range(2):
        client = Client()
        client.is_gone.set()
        with pytest.raises(CancelledError):
            await asyncio.wait_for(hang_ups.while_connected(forever(), client.receive), LIMIT_S)
        while hang_ups._is_looking:  # noqa: ASYNC110  (there is no event to wait for)
            await asyncio.sleep(0)


async def test_a_server_that_stops_says_so_instead() -> None:
    client = Client()
    request = asyncio.create_task(HangUps().while_connected(asyncio.Event().wait(), client.receive))
    await asyncio.sleep(0)
    request.cancel()
    with pytest.raises(ModelNotReadyError, match="the server stopped"):
        await asyncio.wait_for(request, LIMIT_S)
