"""What a gateway that follows saw reaches the guards of the one that leads: once, whoever is restarted or leads after that."""

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from cloud_gateway.guards import Arm, GuardWatch
from cloud_gateway.release import leading
from cloud_gateway.release.comparison import Comparison
from cloud_gateway.release.late import SLICE
from cloud_gateway.release.lease import LEASE_S
from cloud_gateway.release.seen import Seen, SeenPair, from_text, to_text
from cloud_gateway.release.state import ReleaseState, Status
from cloud_gateway.release.steps import Command
from cloud_gateway.release.store import ReleaseStore
from cloud_gateway.release.tables import TRAFFIC
from cloud_gateway.release.traffic import SeenTraffic, hand_in
from runtime.errors import StorageError
from runtime.store import open_database, reading, sqlite_url
from tests.cloud_gateway.bundles import PICK_FAILS_ON_SMALL_TABLES
from tests.cloud_gateway.release.fakes import Clock
from tests.cloud_gateway.release.gateways import SHADOW, Gateway, Stock, gateway, plan, two
from tests.cloud_gateway.release.test_settling import have_compared

GUARDS = """
stages = [50, 100]
hold_s = 3600
[[guards]]
metric = "error_rate"
margin = 0.2
"""
REQUEST: Seen = (Arm.CANDIDATE, True, 0.25, 1 << 63, "de", 0.5, True)
PAIRS = [
    SeenPair("", None, True, False, None, None),
    SeenPair("de", Comparison(False, 0.5, ((1, 2), (0, 3))), False, False, (0.5, 0.25), Comparison(True, 0.0)),
]


def test_what_was_seen_survives_being_written_down() -> None:
    seen = (REQUEST, *PAIRS)
    assert from_text(to_text(seen)) == seen
    (read,) = from_text(to_text([replace(PAIRS[1], noise=Comparison(False, math.nan))]))
    assert isinstance(read, SeenPair)
    assert read.noise is not None
    assert math.isnan(read.noise.distance)


def waiting_rows(one: Gateway) -> int:
    with reading(one.store.engine) as connection:
        return int(connection.execute(select(func.count()).select_from(TRAFFIC)).scalar() or 0)


def requests(one: Gateway) -> dict[str, int]:
    arms: Mapping[str, Any] = one.controller.status("small")["arms"]
    return {arm: told["requests"] for arm, told in arms.items()}


async def seconds(*gateways: Gateway) -> None:
    """So many that what one has seen is with the other, and is saved there; all of them have one clock."""
    for _ in range(3 + round(leading.SAVE_S)):
        gateways[0].clock.now += 1.0
        for one in gateways:
            await one.controller.leadership.beat()
            await one.controller.tick()


async def test_a_follower_alone_has_the_traffic_and_the_leader_decides_by_it(stock: Stock, file: Path) -> None:
    async with two(stock, file, plan(5, GUARDS), GuardWatch) as (a, b):
        for _ in range(3):
            await b.ask(10 * SLICE)
            await seconds(b, a)
        own = requests(b)
        assert requests(a) == own
        assert sum(own.values()) == 30 * SLICE
        (finding,) = a.controller.status("small")["verdict"]["findings"]
        assert (finding["stable_count"], finding["candidate_count"]) == (own["stable"], own["candidate"])
        assert waiting_rows(a) == 0, "what is saved with the guards is written down no more"

        for _ in range(8):
            await b.ask(20, index=PICK_FAILS_ON_SMALL_TABLES)
            await b.ask(20)
            await seconds(b, a)
        ended = await a.controller.describe("small")
        assert ended["status"] == "rolled_back", ended["reason"]
        assert "error_rate" in ended["reason"]


@pytest.mark.parametrize("is_clean", [True, False], ids=["stopped", "killed"])
async def test_a_follower_that_is_restarted_has_told_what_it_counted_once(
    stock: Stock, file: Path, is_clean: bool
) -> None:
    clock = Clock()
    async with gateway(stock, file, me="a", clock=clock, watch_type=GuardWatch) as a:
        await a.controller.start(plan(more=GUARDS))
        async with gateway(stock, file, me="b", clock=clock, watch_type=GuardWatch, is_clean=is_clean) as b:
            await b.follow()
            await b.ask(60)
            clock.now += 1.0
            await b.controller.tick()  # it counts, and hands in
            await b.ask(40)  # in its last second
        file.with_name("trials.json").unlink()  # of both gateways here, and of one machine elsewhere
        async with gateway(stock, file, me="b again", clock=clock, watch_type=GuardWatch) as b:
            await seconds(b, a)
            assert sum(requests(a).values()) == (100 if is_clean else 60)
            await b.ask(7)
            await seconds(b, a)
            assert sum(requests(a).values()) == (107 if is_clean else 67)


@pytest.mark.parametrize("is_saved", [True, False], ids=["saved", "not saved"])
async def test_a_follower_that_takes_over_knows_both_and_counts_nothing_twice(
    stock: Stock, file: Path, is_saved: bool
) -> None:
    clock = Clock()
    async with gateway(stock, file, me="b", clock=clock, watch_type=GuardWatch) as b:
        async with gateway(stock, file, me="a", clock=clock, watch_type=GuardWatch, is_clean=False) as a:
            b.controller.leadership._led_at = None
            await b.controller.leadership.give_back()
            await a.controller.leadership.beat()
            await a.controller.start(plan(more=GUARDS))
            await b.follow()
            await a.ask(30)
            await b.ask(50)
            if is_saved:
                await seconds(b, a)
                assert sum(requests(a).values()) == 80
            else:
                clock.now += 1.0
                await b.controller.tick()
                await a.tick(1)  # saves its own, has not read the other's
                assert sum(requests(a).values()) == 30
            await b.ask(9)  # nobody has been told of these when the leader is gone
        await b.controller.leadership.beat()
        clock.now += LEASE_S
        assert await b.controller.leadership.beat()
        await b.take_over()
        await seconds(b)
        assert sum(requests(b).values()) == 89


async def test_a_shadow_beside_a_follower_reports_to_the_leader(stock: Stock, file: Path) -> None:
    async with two(stock, file, plan(more=SHADOW), GuardWatch) as (a, b):
        await b.ask(30)
        await have_compared(b)
        for _ in range(100):
            await seconds(b, a)
            if a.controller.status("small")["shadow"]["compared"] == 30:
                break
        theirs, own = a.controller.status("small")["shadow"], b.controller.status("small")["shadow"]
        assert own["compared"] == 30
        for name in ("compared", "agreement", "mean_distance", "confusion", "noise_floor"):
            assert theirs[name] == own[name], name


async def test_what_cannot_be_handed_in_waits_and_an_ended_release_takes_nothing(
    stock: Stock, file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise StorageError("database or disk is full")

    async with two(stock, file, plan(more=GUARDS), GuardWatch) as (a, b):
        await b.ask(20)
        with monkeypatch.context() as patched:
            patched.setattr(SeenTraffic, "hand_in", full)
            await seconds(b, a)
            await b.ask(10)
        assert "cannot be handed in yet: database or disk is full" in caplog.text
        await seconds(b, a)
        await seconds(b, a)
        assert sum(requests(a).values()) == 30
        await b.ask(5)
        release = a.controller.running("small")
        await a.controller.command("small", Command.ABORT)
        await b.controller.tick()
        SeenTraffic(b.store.engine, "b").hand_in(release, 1000, [REQUEST])
        assert waiting_rows(a) == 0


async def test_what_a_command_under_way_may_keep_is_not_handed_in_beside_it(stock: Stock, file: Path) -> None:
    async with two(stock, file, plan(more=GUARDS), GuardWatch) as (a, b):
        await b.ask(20)
        async with b.controller.turns.of("small"):
            b.clock.now += 1.0
            await b.controller.tick()
            assert waiting_rows(a) == 0
        b.clock.now += 1.0
        await b.controller.tick()
        assert waiting_rows(a) == 1


def test_the_same_handed_in_again_is_there_once(file: Path) -> None:
    store = ReleaseStore(open_database(sqlite_url(file)), "a")
    store.beat(None, 0.0)
    release = store.start(plan(), ReleaseState(Status.RUNNING, 0.5, 0))
    traffic = SeenTraffic(store.engine, "b")
    many = [REQUEST] * (SLICE + 5)
    for _ in range(2):
        traffic.hand_in(release, 0, many)
    rows = traffic.read(release, 0, traffic.newest(), 100)
    assert [len(row.seen) for row in rows] == [SLICE, 5]
    store.save(release, release.state, {"late_read": {"traffic": rows[0].number}})
    assert [row.number for row in traffic.read(release, 0, traffic.newest(), 100)] == [rows[1].number]
    store.close()


async def pass_the_lead(before: Gateway, after: Gateway) -> None:
    await before.controller.leadership.give_back()
    await after.controller.beat()
    assert after.controller.leadership.is_held
    assert after.controller.leading.is_taking_over, "the loop has not come round yet"


async def test_a_command_before_the_take_over_keeps_what_the_leader_before_knew(stock: Stock, file: Path) -> None:
    async with two(stock, file, plan(more=GUARDS), GuardWatch) as (a, b):
        await a.ask(40)
        await seconds(a)
        await b.ask(20)
        await pass_the_lead(a, b)
        await b.controller.command("small", Command.PAUSE)
        await b.controller._take_over()
        await seconds(b)
        assert sum(requests(b).values()) == 60


async def test_a_gateway_that_ends_before_it_took_over_keeps_what_the_leader_before_knew(
    stock: Stock, file: Path
) -> None:
    clock = Clock()
    async with gateway(stock, file, me="a", clock=clock, watch_type=GuardWatch) as a:
        async with gateway(stock, file, me="b", clock=clock, watch_type=GuardWatch) as b:
            await a.controller.start(plan(more=GUARDS))
            await b.follow()
            await a.ask(40)
            await seconds(a)
            await b.ask(20)
            await pass_the_lead(a, b)
        await a.controller.beat()
        await a.controller._take_over()
        await seconds(a)
        assert sum(requests(a).values()) == 60


async def test_a_gateway_that_ends_after_its_lease_went_hands_in_what_it_knows(stock: Stock, file: Path) -> None:
    clock = Clock()
    async with gateway(stock, file, me="a", clock=clock, watch_type=GuardWatch) as a:
        async with gateway(stock, file, me="b", clock=clock, watch_type=GuardWatch) as b:
            await pass_the_lead(a, b)
            await b.take_over()
            await b.controller.start(plan(more=GUARDS))
            await a.follow()
            await b.ask(30)
            b.store.give_back()
            await a.controller.beat()
            assert a.controller.leadership.is_held
            assert b.controller.leadership.is_held, "it does not know yet"
        await a.take_over()
        await seconds(a)
        assert sum(requests(a).values()) == 30


async def test_what_a_gateway_could_not_keep_as_it_ended_is_said(
    stock: Stock, file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> Any:
        raise StorageError("database or disk is full")

    async with gateway(stock, file) as one:
        await one.controller.start(plan())
        await one.ask(30)
        monkeypatch.setattr(one.store, "save", full)
    assert "release of small: 30 observations" in caplog.text
    assert "are lost with this gateway: database or disk is full" in caplog.text


async def test_a_step_back_that_waited_for_a_disk_keeps_what_another_leader_learnt_meanwhile(
    stock: Stock, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with two(stock, file, plan(more=GUARDS), GuardWatch) as (a, b):
        await a.ask(40)
        await seconds(a)

        def refuse(*_: object) -> Any:
            raise StorageError("database or disk is full")

        monkeypatch.setattr(a.store, "change", refuse)
        await a.controller.command("small", Command.ROLLBACK)
        monkeypatch.undo()
        await pass_the_lead(a, b)
        await b.controller._take_over()
        await b.ask(20)
        await seconds(b)
        await pass_the_lead(b, a)
        await a.controller.tick()
        assert a.store.newest("small").state.status is Status.ROLLED_BACK
        arms = a.store.newest("small").evidence["counts"]["arms"]
        assert sum(arm["requests"] for arm in arms.values()) == 60


async def test_what_is_seen_while_a_release_is_taken_over_counts(
    stock: Stock, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with two(stock, file, plan(more=GUARDS), GuardWatch) as (a, b):
        await b.ask(20)
        await pass_the_lead(a, b)
        active, more = b.traffic.active["small"], [10]

        async def hand_in_under_load(*given: Any) -> None:
            await b.ask(more.pop() if more else 0)
            active.evidence.unkept()  # begun already
            await active.absorb_all()  # as the tick does beside a command
            await hand_in(*given)

        monkeypatch.setattr(leading, "hand_in", hand_in_under_load)
        await b.controller.command("small", Command.PAUSE)
        await b.controller._take_over()
        await seconds(b)
        assert sum(requests(b).values()) == 30
