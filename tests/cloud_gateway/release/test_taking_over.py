"""Two gateways on one database: one leads, the other follows and takes over."""

import asyncio
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cloud_gateway.release.carrying_out import StepBack
from cloud_gateway.release.plan import ReleasePlan
from cloud_gateway.release.roll import FENCE_S
from cloud_gateway.release.state import Status
from cloud_gateway.release.steps import Command, begin
from cloud_gateway.release.switchover import Presence
from runtime.errors import StorageError
from tests.cloud_gateway.release.fakes import ADVANCE
from tests.cloud_gateway.release.gateways import Gateway, Stock, gateway, plan, told, two


def abort_unheard(one: Gateway) -> None:
    """Its release ends in the database, and nobody waits until that holds anywhere."""
    release = one.controller.running("small")
    one.store.change(release, replace(release.state, status=Status.ABORTED, share=0.0), "abort", {}, {})


def refuse(*_: object, **__: object) -> Any:
    raise StorageError("database or disk is full")


async def test_a_second_gateway_follows_and_takes_over(stock: Stock, file: Path) -> None:
    async with two(stock, file, plan(more="stages = [50, 100]\nhold_s = 0")) as (a, b):
        assert await b.versions_told() == {"1", "2"}
        keys = [reply.version for reply in await a.ask(60)]
        assert [reply.version for reply in await b.ask(60)] == keys, "both split alike"
        told(ADVANCE)
        await b.tick()
        assert b.controller.status("small")["share"] == 0.5, "only the leader decides"
        await a.tick()
        assert a.controller.status("small")["status"] == "settling"
        await b.follow()
        assert await b.versions_told() == {"2"}
        await a.controller.leadership.give_back()
        assert await b.controller.leadership.beat()
        await b.take_over()
        await b.controller.command("small", Command.ROLLBACK, "seen by b")
        assert await b.versions_told() == {"1"}
        await a.follow()
        assert await a.versions_told() == {"1"}
        assert a.engine.versions("small") == [1]
        assert a.store.check_audit()[2] is None


async def test_a_second_gateway_answers_with_stable_until_it_has_the_candidate(
    stock: Stock, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with gateway(stock, file, me="a") as a, gateway(stock, file, me="b") as b:
        await a.controller.start(plan(more='strategy = "blue_green"'))
        load, told_meanwhile = b.versions.load_pair, []

        async def load_slowly(plan: ReleasePlan) -> Any:
            told_meanwhile.append(await b.versions_told(5))
            return await load(plan)

        monkeypatch.setattr(b.versions, "load_pair", load_slowly)
        await b.follow()
        assert told_meanwhile == [{"1"}]
        assert await b.versions_told() == {"2"}


async def test_a_command_right_after_the_lead_was_won_is_not_undone(
    stock: Stock, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with gateway(stock, file) as one:
        await one.controller.start(plan(more="stages = [50, 100]\nhold_s = 0"))
        read = one.store.find
        has_read = asyncio.Event()
        loop = asyncio.get_running_loop()

        def read_slowly(number: int) -> Any:
            found = read(number)
            loop.call_soon_threadsafe(has_read.set)
            time.sleep(0.2)
            return found

        monkeypatch.setattr(one.store, "find", read_slowly)
        taking_over = asyncio.create_task(one.take_over())
        await has_read.wait()
        promoted = await one.controller.command("small", Command.PROMOTE, "at once")
        await taking_over
        assert promoted["status"] == one.controller.status("small")["status"] == "settling"


async def test_a_lead_that_is_won_again_while_one_takes_over_or_beats_is_taken_over_as_well(
    stock: Stock, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with gateway(stock, file) as one:
        await one.controller.start(plan())
        read, beat, note_won = one.store.find, one.controller.leadership.beat, one.controller.leading.note_won
        loop = asyncio.get_running_loop()

        def win_meanwhile(number: int) -> Any:
            loop.call_soon_threadsafe(note_won)
            return read(number)

        monkeypatch.setattr(one.store, "find", win_meanwhile)
        await one.take_over()
        assert one.controller.leading.is_taking_over
        monkeypatch.undo()
        await one.controller._take_over()
        assert not one.controller.leading.is_taking_over

        async def beat_and_win_meanwhile() -> bool:
            note_won()
            return await beat()

        monkeypatch.setattr(one.controller.leadership, "beat", beat_and_win_meanwhile)
        await one.controller.beat()
        assert one.controller.leading.is_taking_over


async def test_a_release_that_ended_elsewhere_is_cleared_away_though_nobody_can_be_told(
    stock: Stock, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with two(stock, file, plan()) as (a, b):
        abort_unheard(a)
        monkeypatch.setattr(Presence, "leave", refuse)
        await b.follow()
        assert await b.versions_told() == {"1"}
        assert b.engine.versions("small") == [1]


async def test_who_takes_over_lets_go_of_a_release_whose_end_it_never_saw(stock: Stock, file: Path) -> None:
    async with two(stock, file, plan()) as (a, b):
        abort_unheard(a)
        await a.controller.leadership.give_back()
        await b.controller.beat()
        assert b.controller.leadership.is_held
        await b.take_over()
        assert b.traffic.active == {}
        assert await b.versions_told() == {"1"}
        assert b.engine.versions("small") == [1]


async def test_a_release_begins_right_after_the_lead_was_won_though_nobody_here_saw_the_end_of_the_last(
    stock: Stock, file: Path
) -> None:
    async with two(stock, file, plan()) as (a, b):
        abort_unheard(a)
        await a.controller.leadership.give_back()
        await b.controller.beat()
        assert b.controller.leading.is_taking_over, "the loop has not come round yet"
        assert (await b.controller.start(plan()))["release"] == 2


async def test_a_release_that_ended_well_and_was_followed_by_another_is_let_go_as_it_ended(
    stock: Stock, file: Path
) -> None:
    async with two(stock, file, plan()) as (a, b):
        release = a.controller.running("small")
        a.store.change(release, replace(release.state, status=Status.PROMOTED, share=1.0), "finish", {}, {})
        following = plan(5).model_copy(update={"stable": 2})
        a.store.start(following, begin(following))
        await b.take_over()
        assert await b.versions_told() == {"2"}, "stable of the one that runs now"
        assert b.engine.versions("small") == [2]


async def test_who_takes_over_trusts_no_split_before_it_has_read_what_holds(
    stock: Stock, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with two(stock, file, plan()) as (a, b):
        active = b.traffic.active["small"]
        trusted_until = active.fence.trusted_until
        await a.controller.leadership.give_back()
        await b.controller.beat()
        assert b.controller.leadership.is_held
        assert active.fence.trusted_until == trusted_until, "won, and not taken over yet"
        monkeypatch.setattr(b.store, "find", refuse)
        await b.take_over()
        await b.controller.beat()
        assert active.fence.is_up
        assert await b.versions_told() == {"1"}
        monkeypatch.undo()
        await b.take_over()
        assert active.fence.trusted_until > trusted_until
        assert await b.versions_told() == {"1", "2"}


def rows_at_each_look(
    leader: Gateway, follower: Gateway, monkeypatch: pytest.MonkeyPatch
) -> list[list[tuple[str, int]]]:
    """What `leader` knew of others, and how far each was, whenever `follower` looked from now on."""
    presence, look = Presence(leader.store), follower.store.look
    rows: list[list[tuple[str, int]]] = []

    def look_and_note() -> Any:
        rows.append([(row.name, row.line) for row in presence.others()])
        return look()

    monkeypatch.setattr(follower.store, "look", look_and_note)
    return rows


async def test_a_leader_trusts_its_splits_for_beats_that_reached_the_database_alone(
    stock: Stock, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with gateway(stock, file) as one:
        await one.controller.start(plan())
        await one.controller.beat()
        trusted_until = one.controller.switchover.trusted_until
        monkeypatch.setattr(one.store, "beat", refuse)
        await one.controller.beat()
        assert one.controller.leadership.is_held, "for a while yet"
        assert one.controller.switchover.trusted_until == trusted_until
        monkeypatch.undo()
        await one.controller.beat()
        assert one.controller.switchover.trusted_until > trusted_until


async def test_a_gateway_that_joins_is_waited_for_before_it_looks(
    stock: Stock, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with gateway(stock, file, me="a") as a, gateway(stock, file, me="b") as b:
        await a.controller.start(plan())
        rows = rows_at_each_look(a, b, monkeypatch)
        await b.follow()
        assert rows == [[], [("b", 0)]], (
            "it ran nothing at its first look, and the second is the one that it answers by"
        )
        assert [row.line for row in Presence(a.store).others()] == [1]


async def test_who_could_not_say_that_it_left_says_so_at_its_next_look_and_joins_anew(
    stock: Stock, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with gateway(stock, file, me="a") as a, gateway(stock, file, me="b") as b:
        presence, beat = Presence(a.store), Presence.beat
        await a.controller.start(plan())
        await b.follow()
        for is_looked_again in (True, False):
            abort_unheard(a)
            monkeypatch.setattr(Presence, "leave", refuse)
            await b.follow()
            monkeypatch.undo()
            assert [row.name for row in presence.others()] == ["b"]
            if is_looked_again:
                await b.follow()
                assert presence.others() == [], "tried again"
            await a.take_over()  # it leads, and has yet to hear of what was ended behind its back
            await a.controller.start(plan())
            said: list[int] = []

            def note(self: Presence, line: int, said: list[int] = said) -> None:
                said.append(line)
                beat(self, line)

            monkeypatch.setattr(Presence, "beat", note)
            await b.follow()
            monkeypatch.undo()
            assert said[0] == 0 < said[1], "waited for before the look by which it answers, whatever became of its row"
            assert await b.versions_told() == {"1", "2"}


async def test_a_gateway_that_stood_still_for_longer_than_a_fence_joins_anew(
    stock: Stock, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with two(stock, file, plan()) as (a, b):
        Presence(a.store).forget(["b"])  # as whoever leads does with a row that stood still
        b.controller.switchover._said_at -= FENCE_S
        rows = rows_at_each_look(a, b, monkeypatch)
        await b.follow()
        assert rows == [[("b", 0)]], "waited for before it looks"


async def test_a_lead_that_is_won_while_a_release_is_put_in_place_is_taken_over_for_that_one_too(
    stock: Stock, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with gateway(stock, file, me="a") as a, gateway(stock, file, me="b") as b:
        await a.controller.start(plan())
        activate = b.controller._placement.activate

        async def win_meanwhile(*given: Any) -> Any:
            await a.controller.leadership.give_back()
            await b.controller.beat()
            await b.controller._take_over()
            assert not b.controller.leading.is_taking_over, "of the releases that it had"
            return await activate(*given)

        monkeypatch.setattr(b.controller._placement, "activate", win_meanwhile)
        await b.follow()
        assert "small" in b.traffic.active
        assert b.controller.leading.is_taking_over
        await b.controller._take_over()
        assert await b.versions_told() == {"1", "2"}


async def test_a_release_that_ends_while_it_is_loaded_is_never_put_in_place(
    stock: Stock, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with gateway(stock, file, me="a") as a, gateway(stock, file, me="b") as b:
        await a.controller.start(plan())
        load, activate, activated = b.versions.load_pair, b.controller._placement.activate, []

        async def end_meanwhile(plan: ReleasePlan) -> Any:
            pair = await load(plan)
            abort_unheard(a)
            return pair

        async def note(*given: Any) -> Any:
            activated.append(given)
            return await activate(*given)

        monkeypatch.setattr(b.versions, "load_pair", end_meanwhile)
        monkeypatch.setattr(b.controller._placement, "activate", note)
        await b.follow()
        assert activated == []
        assert b.engine.versions("small") == [1]
        assert await b.versions_told() == {"1"}


async def test_a_gateway_that_cannot_join_answers_by_no_look_that_it_acknowledges(
    stock: Stock, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with two(stock, file, plan()) as (_, b):
        active, beat = b.traffic.active["small"], Presence.beat
        b.controller.switchover._said_at -= FENCE_S  # nobody waits for it any more

        def refuse_to_join(self: Presence, line: int) -> None:
            if line == 0:
                refuse()
            beat(self, line)

        monkeypatch.setattr(Presence, "beat", refuse_to_join)
        trusted_until = active.fence.trusted_until
        await b.follow()
        assert active.fence.trusted_until == trusted_until
        monkeypatch.undo()
        await b.follow()
        assert active.fence.trusted_until > trusted_until


async def test_who_takes_over_lets_go_of_what_it_took_back_itself_only_once_that_is_told(
    stock: Stock, file: Path
) -> None:
    async with two(stock, file, plan()) as (a, b):
        active = b.traffic.active["small"]
        back = replace(active.state, status=Status.ROLLED_BACK, share=0.0)
        b.controller._placement.move(active, back)
        b.controller._carrying_out.unstored["small"] = StepBack(active, back, {"event": "rollback"})
        abort_unheard(a)
        await a.controller.leadership.give_back()
        await b.controller.beat()
        await b.take_over()
        assert b.traffic.active == {"small": active}
        await b.controller.leading.store_steps_back()
        await b.controller.turns.wait()
        assert b.traffic.active == {}
        assert b.engine.versions("small") == [1]
