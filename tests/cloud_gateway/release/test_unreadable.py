"""One release that cannot be read, as of a later version or a damaged disk: stable answers for it, and all others go on."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import select, text, update

from cloud_gateway.release import controller
from cloud_gateway.release.carrying_out import StepBack
from cloud_gateway.release.fence import UNREAD
from cloud_gateway.release.state import Status
from cloud_gateway.release.steps import Command, begin
from cloud_gateway.release.store import Release
from cloud_gateway.release.switchover import Presence
from cloud_gateway.release.tables import RELEASES
from runtime.errors import StorageError
from runtime.store import reading, writing
from tests.cloud_gateway.release.fakes import ADVANCE, Clock, Posted
from tests.cloud_gateway.release.gateways import (
    HOOKED,
    PATIENCE_S,
    Gateway,
    Stock,
    begin_other,
    gateway,
    plan,
    told,
    two,
)
from tests.cloud_gateway.release.test_controller import FullDisk
from tests.cloud_gateway.release.test_following import BLUE_GREEN, running, until
from tests.cloud_gateway.release.test_taking_over import abort_unheard

SAID = "in the database cannot be read"


LATER = """'{"from": "a later version"}'"""
NO_TEXT = "cast(x'ff' as text)"


@contextmanager
def unreadable(one: Gateway, release: Release, column: str = "plan", said: str = LATER) -> Iterator[None]:
    """Its plan, or another column, is none while this lasts."""
    mine = RELEASES.c.id == release.id
    with reading(one.store.engine) as connection:
        before = connection.execute(select(RELEASES.c[column]).where(mine)).scalar_one()
    with writing(one.store.engine) as connection:
        connection.execute(update(RELEASES).where(mine).values({column: text(said)}))
    yield
    with writing(one.store.engine) as connection:
        connection.execute(update(RELEASES).where(mine).values({column: before}))


@pytest.mark.parametrize(("column", "said"), [("plan", LATER), ("model", NO_TEXT), ("status", NO_TEXT)])
async def test_a_follower_carries_out_and_acknowledges_all_others(
    stock: Stock, file: Path, caplog: pytest.LogCaptureFixture, column: str, said: str
) -> None:
    async with two(stock, file, plan()) as (a, b):
        other = begin_other(a, b)
        small = a.controller.running("small")
        with unreadable(a, other, column, said):
            a.store.change(small, begin(plan(more="stages = [25, 100]")), "promote", {}, {})
            for _ in range(2):
                await b.follow()
            assert b.traffic.active["small"].split.share == 0.25
            assert not b.traffic.active["small"].fence.is_up
            assert b.traffic.active["other"].fence.is_up, "what was decided about it cannot be known"
            assert SAID in b.traffic.active["other"].describe()["trouble"]
            [row] = Presence(a.store).others()
            assert row.line == a.store.look().line, "whoever leads waits for nothing here"
            assert caplog.text.count("all other releases go on") == 1, "said once"
        await b.follow()
        assert not b.traffic.active["other"].fence.is_up
        assert b.traffic.active["other"].describe()["trouble"] is None


async def test_a_follower_hears_at_once_of_another_though_its_status_is_no_text(
    stock: Stock, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with two(stock, file, plan(more=BLUE_GREEN)) as (a, b):
        other = begin_other(a, b)
        monkeypatch.setattr(controller, "TICK_S", 3600.0)
        with unreadable(a, other, "status", NO_TEXT):
            async with running(b):
                await a.controller.command("small", Command.PROMOTE, "", 0.0001)
                await until(lambda: b.traffic.active["small"].split.share == 0.000001)


async def test_of_two_that_ended_the_one_that_can_be_read_is_cleared_away(stock: Stock, file: Path) -> None:
    async with two(stock, file, plan()) as (a, b):
        other = begin_other(a, b)
        a.store.change(other, replace(other.state, status=Status.ABORTED, share=0.0), "abort", {}, {})
        abort_unheard(a)
        with unreadable(a, other):
            await b.follow()
            assert list(b.traffic.active) == ["other"]
            assert b.traffic.active["other"].fence.is_up
            assert b.engine.versions("small") == [1]
        await b.follow()
        assert b.traffic.active == {}


async def test_who_takes_over_leads_all_others(stock: Stock, file: Path) -> None:
    async with two(stock, file, plan(more="stages = [50, 100]\nhold_s = 0")) as (a, b):
        other = begin_other(a, b)
        await a.controller.leadership.give_back()
        with unreadable(a, other):
            await b.controller.beat()
            await b.take_over()
            told(ADVANCE)
            await b.tick()
            assert b.controller.status("small")["status"] == "settling"
            assert b.traffic.active["other"].fence.is_up
            assert b.traffic.active["other"].state.share == 0.5, "nothing is decided on what nobody could read"
            with pytest.raises(StorageError, match=SAID):
                await b.controller.command("other", Command.PROMOTE)
        await b.take_over()
        assert not b.traffic.active["other"].fence.is_up
        await b.tick()
        assert b.store.newest("other").state.status == "rolled_back", "led again: its candidate is not loaded here"


async def test_it_can_be_aborted_where_it_was_read_before(stock: Stock, file: Path) -> None:
    async with two(stock, file, plan()) as (a, b):
        with unreadable(a, a.controller.running("small")):
            await a.controller.leadership.give_back()
            await b.controller.beat()
            await b.take_over()
            ended = await b.controller.command("small", Command.ABORT, "nobody can read it")
            assert (ended["status"], ended["reason"]) == ("aborted", "aborted by hand: nobody can read it")
            await b.controller.turns.wait()
            assert b.engine.versions("small") == [1]
            assert b.store.look().unreadable == {}, "it has ended"
            assert (await b.controller.start(plan()))["status"] == "running"


async def test_its_abort_is_stored_as_soon_as_a_disk_takes_it(stock: Stock, file: Path) -> None:
    async with two(stock, file, plan()) as (a, b):
        with unreadable(a, a.controller.running("small")):
            await a.controller.leadership.give_back()
            await b.controller.beat()
            await b.take_over()
            disk = FullDisk(b.store)
            disk.is_full = True
            assert (await b.controller.command("small", Command.ABORT))["status"] == "aborted"
            await b.tick()
            assert list(b.store.look().unreadable) == ["small"], "no disk took it yet"
            disk.is_full = False
            await b.tick()
            assert b.store.look().unreadable == {}
            assert b.traffic.active == {}
        assert b.store.newest("small").state.status == "aborted"


@pytest.mark.parametrize("model", ["small", "other"])
async def test_reading_it_again_waits_for_no_change_under_way(stock: Stock, file: Path, model: str) -> None:
    async with gateway(stock, file) as one:
        await one.controller.start(plan())
        other = begin_other(one, one)
        with unreadable(one, other):
            await one.take_over()
            async with one.controller.turns.of(model):  # as long as a load takes
                await asyncio.wait_for(one.controller._take_over(), PATIENCE_S)
            assert one.traffic.active["other"].fence.unread is not None
        await one.controller._take_over()
        assert one.traffic.active["other"].fence.unread is None


async def test_callers_and_the_webhook_are_told_that_it_is_this_one(stock: Stock, file: Path) -> None:
    posted = Posted()
    async with gateway(stock, file, webhook=posted) as one:
        await one.controller.start(plan(more=HOOKED))
        await one.tick()
        with unreadable(one, one.controller.running("small")):
            await one.take_over()
            one.controller._note_fence()
            assert posted.events[-1]["event"] == "release.fenced"
            assert SAID in posted.events[-1]["reason"]
            [reply] = await one.ask()
            assert reply.parameters["reason"] == UNREAD


async def test_a_step_back_that_waits_is_stored_though_another_cannot_be_read(stock: Stock, file: Path) -> None:
    async with gateway(stock, file) as one:
        await one.controller.start(plan())
        other = begin_other(one, one)
        waiting = one.controller._carrying_out.unstored
        back = begin(plan(more="stages = [25, 100]"))
        for model in ("other", "small"):
            waiting[model] = StepBack(one.traffic.active[model], back, {"event": "promote"})
        with unreadable(one, other):
            one.controller.leading.note_won()
            await one.controller.leading.store_steps_back()
            assert list(waiting) == ["other"]
            assert one.store.newest("small").state.share == 0.25


async def test_a_gateway_starts_beside_it_and_lists_it(stock: Stock, file: Path) -> None:
    clock = Clock()
    async with gateway(stock, file, clock=clock) as one:
        await one.controller.start(plan())
        other = begin_other(one)
        with unreadable(one, other):
            async with gateway(stock, file, me="again", clock=clock) as again:
                assert await again.versions_told() == {"1", "2"}
                releases, hidden = await again.controller.list()
                assert [release["model"] for release in releases] == ["small"]
                assert [(each.model, each.status) for each in hidden] == [("other", "running")]
                with pytest.raises(StorageError, match=SAID):
                    await again.controller.describe("other")


@pytest.mark.parametrize("column", ["model", "status"])
async def test_a_gateway_starts_beside_one_of_which_not_even_that_can_be_read(
    stock: Stock, file: Path, column: str
) -> None:
    clock = Clock()
    async with gateway(stock, file, clock=clock) as one:
        await one.controller.start(plan())
        with unreadable(one, begin_other(one), column, NO_TEXT):
            async with gateway(stock, file, me="again", clock=clock) as again:
                assert await again.versions_told() == {"1", "2"}
                releases, [hidden] = await again.controller.list()
                assert [release["model"] for release in releases] == ["small"]
                assert SAID in hidden.why
