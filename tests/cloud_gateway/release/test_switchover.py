"""A switch is decided once it holds for callers of every gateway, and one that cannot hear of it fences itself by then."""

from __future__ import annotations

import asyncio
import json
import math
import threading
import time
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cloud_gateway.guards import Arm
from cloud_gateway.release import controller, roll, switchover
from cloud_gateway.release.active import ActiveRelease
from cloud_gateway.release.answering import Traffic
from cloud_gateway.release.fence import FENCED
from cloud_gateway.release.lease import BEAT_S
from cloud_gateway.release.roll import FENCE_S, GatewayRow
from cloud_gateway.release.steps import Command
from cloud_gateway.release.store import ReleaseStore
from cloud_gateway.release.switchover import Switchover
from runtime.errors import StorageError
from runtime.store import open_database, sqlite_url
from tests.cloud_gateway.release.fakes import Clock, Posted
from tests.cloud_gateway.release.gateways import HOOKED, Gateway, Stock, gateway, plan
from tests.cloud_gateway.release.test_following import BLUE_GREEN, running, until

pytestmark = pytest.mark.slow
NEARLY_NONE = 0.0001


def ticking(stock: Stock, file: Path, me: str) -> AbstractAsyncContextManager[Gateway]:
    """A gateway by this machine's clock, for `running`."""
    clock: Any = time.monotonic
    return gateway(stock, file, me=me, clock=clock)


def switches(one: Gateway) -> list[dict[str, Any]]:
    return [json.loads(line.document) for line in one.store.audit() if line.event == switchover.SWITCHED]


async def test_a_command_returns_once_the_one_that_follows_has_switched(stock: Stock, file: Path) -> None:
    async with gateway(stock, file, me="a") as a, gateway(stock, file, me="b") as b:
        await a.controller.start(plan(more=BLUE_GREEN))
        await b.follow()
        async with running(b):
            for percent, version in ((NEARLY_NONE, "1"), (100.0, "2"), (NEARLY_NONE, "1")):
                told = await a.controller.command("small", Command.PROMOTE, "", percent)
                assert b.traffic.active["small"].split.share == percent / 100, "by now, not soon"
                assert await b.versions_told() == {version}
                assert told["decided_unix_us"] >= b.controller.status("small")["switched_unix_us"]
            await a.controller.command("small", Command.ROLLBACK)
            assert "small" not in b.traffic.active
        found = switches(a)
        assert [(one["of"], one["gateways"], one["fenced"], one["unheard"]) for one in found] == [
            *[("promote", 1, [], [])] * 3,
            ("rollback", 1, [], []),
        ]
        assert a.store.check_audit()[2] is None


async def test_a_deaf_gateway_answers_with_stable_once_the_switch_is_decided_without_it(
    stock: Stock, file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for module in (roll, switchover):
        monkeypatch.setattr(module, "FENCE_S", 1.5)
    async with gateway(stock, file, me="a") as a, gateway(stock, file, me="b") as b:
        await a.controller.start(plan(more=BLUE_GREEN))
        await b.follow()
        assert await b.versions_told() == {"2"}
        told = await a.controller.command("small", Command.PROMOTE, "", NEARLY_NONE)  # b looks at nothing
        assert b.traffic.active["small"].split.share == 1.0, "it has heard of nothing"
        assert await b.versions_told() == {"1"}, "and answers with stable all the same"
        assert told["decided_unix_us"] is not None
        assert [one["fenced"] for one in switches(a)] == [["b"]]
        assert "did not say that they carried out promote: b" in caplog.text
        assert b.controller.status("small")["trouble"] is not None
        await b.follow()
        assert b.controller.status("small")["trouble"] is None
        assert b.traffic.active["small"].split.share == NEARLY_NONE / 100


async def test_what_was_looked_up_before_a_switch_and_acknowledged_after_it_is_not_answered_by(
    stock: Stock, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (roll, switchover):
        monkeypatch.setattr(module, "FENCE_S", 1.5)
    async with gateway(stock, file, me="a") as a, gateway(stock, file, me="b") as b:
        await a.controller.start(plan(more=BLUE_GREEN))
        await b.follow()
        await a.controller.switchover.look()  # from here on the leader counts
        presence, may_write = b.controller.switchover._presence, threading.Event()
        beat = presence.beat

        def stopped(line: int) -> None:
            assert may_write.wait(20)
            beat(line)

        monkeypatch.setattr(presence, "beat", stopped)
        await asyncio.sleep(1.0)
        following = asyncio.create_task(b.follow())  # it has looked, and is stopped before it says so
        await asyncio.sleep(0.1)
        await a.controller.command("small", Command.PROMOTE, "", NEARLY_NONE)
        assert [one["fenced"] for one in switches(a)] == [["b"]]
        may_write.set()
        await following
        assert b.traffic.active["small"].split.share == 1.0, "as it looked it up"
        assert await b.versions_told() == {"1"}, "and too late to answer by it"
        await b.follow()
        assert b.traffic.active["small"].split.share == NEARLY_NONE / 100
        assert b.controller.status("small")["trouble"] is None


async def test_a_gateway_that_joins_answers_by_no_split_before_it_is_waited_for(
    stock: Stock, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with gateway(stock, file, me="a") as a, gateway(stock, file, me="b") as b:
        await a.controller.start(plan(more=BLUE_GREEN))
        activate, seen = b.controller._placement.activate, []

        async def move_meanwhile(*given: Any) -> Any:
            await a.controller.command("small", Command.PROMOTE, "", NEARLY_NONE)
            active = await activate(*given)
            seen.append(active.split.share)
            return active

        monkeypatch.setattr(b.controller._placement, "activate", move_meanwhile)
        await b.follow()
        assert seen == [1.0], "loaded as of a split that is over"
        assert b.traffic.active["small"].split.share == NEARLY_NONE / 100
        assert await b.versions_told() == {"1"}


async def test_a_gateway_whose_database_is_gone_fences_itself_and_goes_on_when_it_is_back(
    stock: Stock, file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for module in (roll, switchover):
        monkeypatch.setattr(module, "FENCE_S", 0.5)
    monkeypatch.setattr(controller, "BEAT_S", 0.1)
    posted, clock = Posted(), time.monotonic
    async with gateway(stock, file, me="a", clock=clock, webhook=posted) as a:  # type: ignore[arg-type]
        await a.controller.start(plan(more=f'{BLUE_GREEN}\nwebhook = "http://127.0.0.1:9/hook"'))
        async with running(a):
            active = a.traffic.active["small"]
            await until(lambda: not active.fence.is_up and not active.fence.is_told)
            assert await a.versions_told() == {"2"}
            posted.events.clear()
            gone = pytest.MonkeyPatch()

            def refuse(*_: object) -> Any:
                raise StorageError("no such database")

            for name in ("beat", "look"):
                gone.setattr(a.store, name, refuse)
            await until(lambda: active.fence.is_up)
            assert await a.versions_told() == {"1"}, "stable keeps serving"
            await until(lambda: active.fence.is_told)
            assert FENCED in caplog.text
            told = [event for event in posted.events if event["event"] == "release.fenced"]
            assert told[-1]["reason"] == FENCED
            gone.undo()
            await until(lambda: not active.fence.is_up)
            assert await a.versions_told() == {"2"}
            await until(lambda: posted.events[-1]["event"] == "release.unfenced")
            assert posted.events[-1]["fenced_answers"] >= 50


async def test_a_follower_that_cannot_wait_for_changes_does_everything_else(
    stock: Stock, file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(controller, "BEAT_S", BEAT_S / 10)
    async with ticking(stock, file, "a") as a, ticking(stock, file, "b") as b, running(a):
        await a.controller.start(plan(more=BLUE_GREEN))
        await b.follow()
        asked: list[float] = []

        async def deaf(*_: object) -> bool:
            asked.append(time.monotonic())
            raise StorageError("no notifications from here")

        monkeypatch.setattr(b.controller.following._attention, "has_moved", deaf)
        beats: list[object] = []
        beat = b.store.beat

        def counted(*given: Any) -> Any:
            beats.append(given)
            return beat(*given)

        monkeypatch.setattr(b.store, "beat", counted)
        async with running(b):
            await until(lambda: len(beats) > 3 and len(asked) > 3)
            await a.controller.command("small", Command.PROMOTE, "", NEARLY_NONE)
            assert b.traffic.active["small"].split.share == NEARLY_NONE / 100, "seen at a look of its own"
            await b.ask(5)
            arms = a.traffic.active["small"].evidence.counts.arms
            await until(lambda: arms[Arm.STABLE].requests == 5)  # what it saw is with the leader
            assert caplog.text.count("cannot be waited for") == 1, "said once"


async def test_of_a_release_that_is_brought_in_nobody_is_told_that_it_is_fenced(
    stock: Stock, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    posted = Posted()
    async with gateway(stock, file, me="a") as a, gateway(stock, file, me="b", webhook=posted) as b:
        await a.controller.start(plan(more=HOOKED))
        acknowledge = b.controller.switchover.acknowledge
        seen: list[bool] = []

        async def note_before(*given: Any) -> None:
            seen.extend(active.fence.is_up for active in b.traffic.active.values())
            b.controller._note_fence()
            await acknowledge(*given)

        monkeypatch.setattr(b.controller.switchover, "acknowledge", note_before)
        await b.follow()
        assert seen == [True]
        assert posted.events == []


async def test_each_release_that_is_fenced_says_so_for_itself(stock: Stock, file: Path) -> None:
    posted = Posted()
    async with gateway(stock, file, webhook=posted) as one:
        await one.controller.start(plan(more=HOOKED))
        running = one.controller.running("small")
        other = ActiveRelease(replace(running, plan=running.plan.model_copy(update={"model": "other"})))
        one.traffic.active["other"] = other
        one.traffic.active["small"].fence.trusted_until = math.inf
        before = len(posted.events)
        one.controller._note_fence()
        other.fence.trusted_until = time.perf_counter()  # from now on
        for _ in range(2):
            one.controller._note_fence()
        other.fence.trusted_until = math.inf
        one.controller._note_fence()
        told = [(event["event"], event["model"]) for event in posted.events[before:]]
        assert told == [("release.fenced", "other"), ("release.unfenced", "other")]
        del one.traffic.active["other"]


async def test_a_row_that_was_written_while_the_answer_was_on_its_way_does_not_stand_still(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    store = ReleaseStore(open_database(sqlite_url(file)), "a")
    leader = Switchover(store, Traffic(), clock)
    looks = [GatewayRow("b", 1, 0), GatewayRow("b", 1, 0), GatewayRow("b", 2, 5)]

    def others() -> list[GatewayRow]:
        found = looks.pop(0)
        clock.now += 0.0 if len(looks) == 2 else FENCE_S  # and so long is the answer on its way
        return [found]

    monkeypatch.setattr(leader._presence, "others", others)
    await leader.look()
    switched = await leader.everywhere(5)
    assert looks == [], "what it said meanwhile was waited for"
    assert (switched.fenced, switched.unheard) == ([], [])
    store.close()
