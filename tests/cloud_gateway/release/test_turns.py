"""What takes long in one release, a load or a shadow's last run, keeps no beat, look or decision waiting."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cloud_gateway.release import controller
from cloud_gateway.release.active import ActiveRelease
from cloud_gateway.release.carrying_out import StepBack
from cloud_gateway.release.plan import ReleasePlan
from cloud_gateway.release.state import Status
from cloud_gateway.release.steps import Command, begin
from cloud_gateway.release.store import ReleaseStore
from cloud_gateway.release.switchover import Presence
from cloud_gateway.release.turns import Turns
from cloud_gateway.release.versions import Versions
from runtime.errors import ConflictError, ModelNotFoundError, StorageError
from tests.cloud_gateway.release.fakes import ROLLBACK
from tests.cloud_gateway.release.gateways import (
    PATIENCE_S,
    SHADOW,
    Gateway,
    Stock,
    begin_other,
    gateway,
    plan,
    told,
    two,
)
from tests.cloud_gateway.release.test_following import BLUE_GREEN, running, until
from tests.cloud_gateway.release.test_switchover import ticking
from tests.cloud_gateway.release.test_taking_over import abort_unheard


class Counted:
    """How often a method was called."""

    def __init__(self, real: Callable[..., Any]) -> None:
        self.count = 0
        self._real = real

    def __call__(self, *given: Any) -> Any:
        self.count += 1
        return self._real(*given)


@pytest.fixture
def _beats_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(controller, "BEAT_S", 0.05)


@pytest.mark.slow
@pytest.mark.usefixtures("_beats_often")
async def test_a_follower_that_loads_a_candidate_beats_and_looks_meanwhile(
    stock: Stock, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with ticking(stock, file, "a") as a, ticking(stock, file, "b") as b:
        await a.controller.start(plan(more=BLUE_GREEN))
        load, may_load = b.versions.load_pair, asyncio.Event()

        async def load_slowly(plan: ReleasePlan) -> Any:
            await may_load.wait()
            return await load(plan)

        monkeypatch.setattr(b.versions, "load_pair", load_slowly)
        async with running(b):
            await until(lambda: b.controller.turns.is_working("small"))
            beats, looks = Counted(b.store.beat), Counted(b.store.look)
            monkeypatch.setattr(b.store, "beat", beats)
            monkeypatch.setattr(b.store, "look", looks)
            await until(lambda: beats.count > 3 and looks.count > 3)
            assert await b.versions_told() == {"1"}, "until it has the candidate"
            may_load.set()
            await b.controller.turns.wait("small")
            assert await b.versions_told() == {"2"}


@pytest.mark.usefixtures("_beats_often")
async def test_a_gateway_that_starts_keeps_the_lead_however_long_it_loads(
    stock: Stock, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with gateway(stock, file) as one:
        await one.controller.start(plan())
    load, beat, count = Versions.load_pair, ReleaseStore.beat, 0

    def counted(*given: Any) -> Any:
        nonlocal count
        count += 1
        return beat(*given)

    async def load_slowly(self: Versions, plan: ReleasePlan) -> Any:
        await until(lambda: count > 3)
        return await load(self, plan)

    monkeypatch.setattr(ReleaseStore, "beat", counted)
    monkeypatch.setattr(Versions, "load_pair", load_slowly)
    async with gateway(stock, file, me="again") as one:
        assert await one.versions_told() == {"1", "2"}


@pytest.fixture
def let_go() -> Iterator[threading.Event]:
    """Set at the end in any case, or a thread would wait for ever."""
    event = threading.Event()
    yield event
    event.set()


async def test_a_shadow_that_hangs_keeps_no_decision_waiting(
    stock: Stock, file: Path, monkeypatch: pytest.MonkeyPatch, let_go: threading.Event
) -> None:
    async with gateway(stock, file) as one:
        await one.controller.start(plan(more=SHADOW))
        mirror = one.traffic.active["small"].mirror
        assert mirror is not None
        close = mirror.close

        def close_late() -> None:
            assert let_go.wait(PATIENCE_S)
            close()

        monkeypatch.setattr(mirror, "close", close_late)
        told(ROLLBACK)
        one.clock.now += 0.2
        await one.controller.tick()
        assert one.store.newest("small").state.status == "rolled_back"
        assert one.traffic.active == {}
        assert one.engine.versions("small") == [1, 2], "it may be running still"
        following = asyncio.create_task(one.controller.start(plan()))
        await one.controller.beat()
        await one.controller.tick()
        assert not following.done(), "of one model one change at a time"
        let_go.set()
        assert (await following)["status"] == "running"
        assert await one.versions_told() == {"1", "2"}


async def test_an_abort_is_answered_before_what_it_ended_is_put_away(
    stock: Stock, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with gateway(stock, file) as one:
        await one.controller.start(plan())
        unload, may_unload = one.versions.unload, asyncio.Event()

        async def unload_behind_others(*given: Any) -> None:
            await may_unload.wait()
            await unload(*given)

        monkeypatch.setattr(one.versions, "unload", unload_behind_others)
        ended = await asyncio.wait_for(one.controller.command("small", Command.ABORT), PATIENCE_S)
        assert ended["status"] == "aborted"
        assert await one.versions_told() == {"1"}
        loads = Counted(one.versions.load_pair)
        monkeypatch.setattr(one.versions, "load_pair", loads)
        following = asyncio.create_task(one.controller.start(plan()))
        await until(lambda: one.controller.turns._wanting["small"] == 2)
        assert loads.count == 0, "its candidate is being unloaded"
        may_unload.set()
        assert (await following)["status"] == "running"
        assert await one.versions_told() == {"1", "2"}


async def test_an_abort_is_answered_with_what_it_ended_though_another_has_begun(
    stock: Stock, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with gateway(stock, file) as one:
        await one.controller.start(plan())
        wait = one.controller.switches.wait

        async def begin_another_meanwhile(model: str) -> None:
            await wait(model)
            await one.controller.start(plan(5))

        monkeypatch.setattr(one.controller.switches, "wait", begin_another_meanwhile)
        ended = await one.controller.command("small", Command.ABORT, "enough")
        assert (ended["release"], ended["status"], ended["reason"]) == (1, "aborted", "aborted by hand: enough")
        assert one.controller.status("small")["release"] == 2


async def test_a_change_of_one_model_keeps_no_other_from_its_way_back(stock: Stock, file: Path) -> None:
    async with gateway(stock, file) as one:
        await one.controller.start(plan())
        told(ROLLBACK)
        async with one.controller.turns.of("small"):
            await one.tick()
            assert await one.versions_told() == {"1", "2"}, "a command under way goes first"
        async with one.controller.turns.of("another that takes minutes to load"):
            await one.tick()
            assert await one.versions_told() == {"1"}


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (StorageError("disk full"), "cannot be brought in line with the database yet: disk full"),
        (ConflictError("another leads"), "cannot be brought in line with the database yet: another leads"),
        (ZeroDivisionError("division"), "failed in an unforeseen way"),
    ],
)
async def test_work_that_fails_is_said_and_the_model_is_free_for_the_next(
    error: Exception, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    turns = Turns()

    async def fail() -> None:
        async with turns.of("small"):
            raise error

    turns.begin("small", fail)
    assert turns.is_working("small")
    assert not turns.is_working("other")
    await turns.wait("small")
    assert said in caplog.text
    assert not turns.is_working("small")
    assert not turns.is_wanted("small")


async def test_closing_gives_up_what_is_under_way() -> None:
    turns, is_over = Turns(), asyncio.Event()

    async def last_for_ever() -> None:
        async with turns.of("small"):
            await is_over.wait()

    turns.begin("small", last_for_ever)
    await asyncio.sleep(0)
    assert turns.is_wanted("small")
    await turns.close()
    assert not turns.is_working("small")
    assert not turns.is_wanted("small")


async def test_a_turn_that_was_let_go_is_wanted_while_somebody_waits_for_it() -> None:
    turns, seen = Turns(), []

    async def wait_for_it() -> None:
        async with turns.of("small"):
            seen.append("its turn")

    async with turns.of("small"):
        waiting = asyncio.create_task(wait_for_it())
        await asyncio.sleep(0)
    assert turns.is_wanted("small")
    assert seen == []
    await waiting
    assert not turns.is_wanted("small")


async def test_work_that_is_given_up_before_it_began_is_never_made() -> None:
    turns, made = Turns(), []

    async def work() -> None:
        made.append(1)

    turns.begin("small", work)
    await turns.close()
    assert made == []


async def test_many_fetches_leave_the_lease_a_thread(
    stock: Stock, file: Path, monkeypatch: pytest.MonkeyPatch, let_go: threading.Event
) -> None:
    async with gateway(stock, file) as one:

        def fetch_slowly(*_: object) -> Any:
            assert let_go.wait(PATIENCE_S)
            raise ModelNotFoundError("not there")

        monkeypatch.setattr(one.versions._registry, "bundle", fetch_slowly)
        for number in range(40):  # more than the loop has threads
            model = f"model-{number}"
            one.controller.turns.begin(model, partial(one.controller.following._serve, model, 9))
        await asyncio.sleep(0.05)
        await asyncio.wait_for(one.controller.beat(), PATIENCE_S / 2)
        assert one.controller.leadership.is_held
        let_go.set()
        await one.controller.turns.wait()


async def test_closing_ends_the_mirror_of_a_release_whose_turn_to_be_cleared_away_did_not_come(
    stock: Stock, file: Path
) -> None:
    async with gateway(stock, file) as one:
        await one.controller.start(plan(more=SHADOW))
        active = one.traffic.active["small"]
        mirror = active.mirror
        assert mirror is not None
        one.traffic.active.clear()
        one.controller._carrying_out.clear_away(active)
        await one.controller.close()
        assert mirror._closing.is_set()


async def test_a_look_from_before_the_lead_was_won_moves_nothing(stock: Stock, file: Path) -> None:
    async with two(stock, file, plan()) as (a, b):
        abort_unheard(a)
        _, look = await b.controller.following._look()
        await a.controller.leadership.give_back()
        await b.controller.beat()
        ended: list[ActiveRelease] = []
        assert not await b.controller.following._bring_all_up(look, ended)
        assert ended == []
        assert "small" in b.traffic.active


async def test_a_look_that_is_given_up_clears_away_what_it_let_go(
    stock: Stock, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with two(stock, file, plan(more=SHADOW)) as (a, b):
        mirror = b.traffic.active["small"].mirror
        assert mirror is not None
        abort_unheard(a)
        is_told = asyncio.Event()

        async def tell_for_ever(*_: object) -> None:
            is_told.set()
            await asyncio.Event().wait()

        monkeypatch.setattr(b.controller.switchover, "acknowledge", tell_for_ever)
        following = asyncio.create_task(b.controller.following.follow())
        await asyncio.wait_for(is_told.wait(), PATIENCE_S)
        following.cancel()
        with pytest.raises(asyncio.CancelledError):
            await following
        await b.controller.close()
        assert mirror._closing.is_set()


async def test_a_step_back_that_a_command_stored_meanwhile_is_not_stored_again(
    stock: Stock, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with gateway(stock, file) as one:
        await one.controller.start(plan())
        begin_other(one, one)
        waiting, known = one.controller._carrying_out.unstored, one.controller.leading.known
        back = begin(plan(more="stages = [25, 100]"))
        for model, active in one.traffic.active.items():
            waiting[model] = StepBack(active, back, {"event": "promote"})

        async def store_the_second_meanwhile(model: str) -> ActiveRelease | None:
            waiting.pop("small", None)
            return await known(model)

        monkeypatch.setattr(one.controller.leading, "known", store_the_second_meanwhile)
        await one.controller.leading.store_steps_back()
        assert waiting == {}
        assert [line.model for line in one.store.audit() if line.event == "promote"] == ["other"]


async def test_a_release_that_is_let_go_while_another_is_brought_in_line_is_left_alone(
    stock: Stock, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with two(stock, file, plan()) as (a, b):
        other = begin_other(a, b)
        a.store.change(other, replace(other.state, status=Status.ABORTED, share=0.0), "abort", {}, {})
        abort_unheard(a)
        find = b.store.find

        def find_and_let_go(number: int) -> Any:
            b.traffic.active.pop("small", None)
            return find(number)

        monkeypatch.setattr(b.store, "find", find_and_let_go)
        _, look = await b.controller.following._look()
        ended: list[ActiveRelease] = []
        assert not await b.controller.following._bring_all_up(look, ended)
        assert [active.release.id for active in ended] == [other.id]


@asynccontextmanager
async def a_command_has_the_turn(one: Gateway) -> AsyncIterator[None]:
    async with one.controller.turns.of("small"):
        yield


@asynccontextmanager
async def a_step_back_waits_for_a_disk(one: Gateway) -> AsyncIterator[None]:
    active, waiting = one.traffic.active["small"], one.controller._carrying_out.unstored
    waiting["small"] = StepBack(active, replace(active.state, share=0.25), {"event": "promote"})
    yield
    del waiting["small"]


@pytest.mark.parametrize("under_way", [a_command_has_the_turn, a_step_back_waits_for_a_disk])
async def test_a_look_waits_for_nothing_and_is_not_acknowledged_while_something_is_under_way(
    stock: Stock, file: Path, under_way: Callable[[Gateway], AbstractAsyncContextManager[None]]
) -> None:
    async with two(stock, file, plan()) as (a, b):
        line = a.store.note("something", "small", {}).number
        async with under_way(b):
            await asyncio.wait_for(b.controller.following.follow(), PATIENCE_S)
            assert [row.line < line for row in Presence(a.store).others()] == [True]
        await b.follow()
        assert [row.line for row in Presence(a.store).others()] == [line]
