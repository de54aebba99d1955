"""A gateway that follows is on the new split because the leader moved, not because its clock came round."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from cloud_gateway.release import controller
from cloud_gateway.release.attention import Attention
from cloud_gateway.release.state import ReleaseState, Status
from cloud_gateway.release.steps import Command, begin
from cloud_gateway.release.store import ReleaseStore
from runtime.errors import StorageError
from runtime.store import open_database, sqlite_url
from tests.cloud_gateway.release.gateways import PATIENCE_S, Gateway, Stock, gateway, plan

BLUE_GREEN = 'strategy = "blue_green"\nkeep_warm_s = 3600'


@asynccontextmanager
async def running(one: Gateway) -> AsyncIterator[None]:
    task = asyncio.create_task(one.controller.run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def until(is_so: Callable[[], bool]) -> None:
    end = asyncio.get_running_loop().time() + PATIENCE_S
    while not is_so():
        assert asyncio.get_running_loop().time() < end
        await asyncio.sleep(0.01)


async def test_a_follower_moves_and_goes_back_though_no_look_of_its_own_is_due(
    stock: Stock, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with gateway(stock, file, me="a") as a, gateway(stock, file, me="b") as b:
        await a.controller.start(plan(more=BLUE_GREEN))
        await b.follow()
        monkeypatch.setattr(controller, "TICK_S", 3600.0)
        async with running(b):
            for percent, versions in ((0.0001, {"1"}), (100.0, {"2"})):
                told = await a.controller.command("small", Command.PROMOTE, "", percent)
                await until(lambda: b.traffic.active["small"].split.share == percent / 100)  # noqa: B023
                assert await b.versions_told() == versions
                theirs = b.controller.status("small")["switched_unix_us"]
                assert theirs >= told["switched_unix_us"], "the leader first, and each when it was done"
            await a.controller.command("small", Command.ROLLBACK)
            await until(lambda: "small" not in b.traffic.active)
            assert await b.versions_told() == {"1"}


async def test_what_cannot_be_carried_out_here_is_said_once(file: Path) -> None:
    leader, follower = (ReleaseStore(open_database(sqlite_url(file)), me) for me in ("a", "b"))
    leader.beat(None, 0.0)
    attention = Attention(follower)
    try:
        release = leader.start(plan(), begin(plan()))
        assert await attention.has_moved(0.0, set())
        assert not await attention.has_moved(0.0, set()), "nothing was committed since"
        leader.save(release, release.state, {"counts": 1})
        assert not await attention.has_moved(0.0, set()), "committed, and it stands as it was found"
        leader.change(release, ReleaseState(Status.PAUSED, 0.5, 0), "pause", {}, {})
        assert await attention.has_moved(PATIENCE_S, set())
        leader.save(release, release.state, {})
        known = {(release.id, "paused", 0.5)}
        assert not await attention.has_moved(0.0, known), "known here by now"
    finally:
        await attention.close()
        leader.close()
        follower.close()


async def test_a_change_that_cannot_be_read_now_is_asked_for_until_it_can(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone() -> Any:
        raise StorageError("no connection came free")

    leader, follower = (ReleaseStore(open_database(sqlite_url(file)), me) for me in ("a", "b"))
    leader.beat(None, 0.0)
    attention = Attention(follower)
    try:
        assert not await attention.has_moved(0.0, set())
        leader.start(plan(), begin(plan()))
        with monkeypatch.context() as patched:
            patched.setattr(follower, "standing", gone)
            for _ in range(2):
                with pytest.raises(StorageError, match="no connection came free"):
                    await attention.has_moved(0.0, set())
        assert await attention.has_moved(0.0, set())
    finally:
        await attention.close()
        leader.close()
        follower.close()
