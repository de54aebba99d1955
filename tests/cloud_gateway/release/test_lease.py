"""One leader: by counters that move and each gateway's own clock, whatever wall clocks say."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from cloud_gateway.release import leadership
from cloud_gateway.release.leadership import Leadership
from cloud_gateway.release.lease import LEASE_S, TRUST_S, Claim, LeaseRow, claim
from cloud_gateway.release.plan import parse_plan
from cloud_gateway.release.steps import begin
from cloud_gateway.release.store import ReleaseStore
from runtime.errors import ConflictError, StorageError
from runtime.store import open_database, sqlite_url
from tests.cloud_gateway.release.fakes import Clock
from tests.cloud_gateway.release.gateways import PATIENCE_S
from tests.cloud_gateway.release.test_plan import LEAST


def test_a_free_lease_is_taken_and_ones_own_renewed() -> None:
    assert claim("a", None, None, 0.0)[0] is Claim.TAKE
    assert claim("a", LeaseRow("", 7), None, 0.0)[0] is Claim.TAKE
    assert claim("a", LeaseRow("a", 7), None, 0.0)[0] is Claim.RENEW


def test_anothers_is_taken_once_it_stood_still_for_long_enough() -> None:
    row = LeaseRow("b", 7)
    decided, seen = claim("a", row, None, 100.0)
    assert decided is Claim.WAIT
    decided, seen = claim("a", row, seen, 100.0 + LEASE_S - 0.1)
    assert decided is Claim.WAIT
    moved, seen_moved = claim("a", LeaseRow("b", 8), seen, 100.0 + LEASE_S)
    assert moved is Claim.WAIT
    assert claim("a", LeaseRow("b", 8), seen_moved, 100.0 + 2 * LEASE_S - 0.1)[0] is Claim.WAIT
    assert claim("a", row, seen, 100.0 + LEASE_S)[0] is Claim.TAKE


def test_a_leader_that_cannot_beat_stops_before_another_begins() -> None:
    assert TRUST_S < LEASE_S


class Gateway:
    """One of several on a database; its wall clock says what the test wants."""

    def __init__(self, file: Path, name: str, unix_s: float) -> None:
        self.clock = Clock()
        self.unix_s = unix_s
        self.store = ReleaseStore(open_database(sqlite_url(file)), name, lambda: self.unix_s)
        self.lead = Leadership(self.store, self.clock)


async def test_two_gateways_whose_wall_clocks_jump(tmp_path: Path) -> None:
    a = Gateway(tmp_path / "gateway.db", "a", 1e9)
    b = Gateway(tmp_path / "gateway.db", "b", 2e9)  # thirty years ahead
    assert await a.lead.beat()
    assert not await b.lead.beat()
    assert (a.lead.is_held, b.lead.is_held, b.lead.leader) == (True, False, "a")
    for _ in range(20):
        for gateway in (a, b):
            gateway.clock.now += 1
            gateway.unix_s += -1e8 if gateway is a else 1e8
            await gateway.lead.beat()
        assert (a.lead.is_held, b.lead.is_held) == (True, False)

    plan = parse_plan(LEAST)
    with pytest.raises(ConflictError, match="does not lead; the one that leads releases on this database: a"):
        b.store.start(plan, begin(plan))
    release = a.store.start(plan, begin(plan))

    # `a` is cut off: it stops to decide by its own clock, before `b` begins to.
    a.clock.now += TRUST_S
    assert not a.lead.is_held
    b.clock.now += LEASE_S
    assert await b.lead.beat()
    assert b.lead.is_held
    # What `a` still believes it decides is refused by the database.
    with pytest.raises(ConflictError, match="does not lead"):
        a.store.change(release, release.state, "advance", {}, {})
    b.store.change(release, release.state, "hold", {}, {})
    assert b.store.check_audit()[2] is None
    await a.lead.beat()
    assert not a.lead.is_held

    await b.lead.give_back()
    await a.lead.beat()
    assert a.lead.is_held


async def test_commands_wait_for_the_lead_and_then_name_who_has_it(tmp_path: Path) -> None:
    a = Gateway(tmp_path / "gateway.db", "a", 0)
    b = Gateway(tmp_path / "gateway.db", "b", 0)
    await a.lead.beat()
    await b.lead.beat()

    def pass_time() -> float:
        b.clock.now += 3
        return b.clock.now

    lead = Leadership(b.store, pass_time)
    await lead.beat()
    with pytest.raises(ConflictError, match="ask the one that does: a"):
        await lead.require()


async def test_a_command_is_told_of_trouble_only_by_a_beat_that_began_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leadership, "_LOOK_S", 0.001)
    one = Gateway(tmp_path / "gateway.db", "a", 0)
    beat = one.store.beat

    def refuse(*_: object) -> Any:
        raise StorageError("database or disk is full")

    def beat_fails() -> None:
        monkeypatch.setattr(one.store, "beat", refuse)

    beat_fails()
    await one.lead.beat()
    one.clock.now += 1
    asked = asyncio.create_task(one.lead.require())
    await asyncio.sleep(0)
    may_end = threading.Event()

    def beat_slowly(*given: Any) -> Any:
        assert may_end.wait(PATIENCE_S)
        return beat(*given)

    monkeypatch.setattr(one.store, "beat", beat_slowly)
    beating = asyncio.create_task(one.lead.beat())
    for _ in range(20):
        await asyncio.sleep(0.001)  # the command looks again and again while that beat is under way
    assert not asked.done()
    may_end.set()
    await beating
    await asked
    beat_fails()
    one.clock.now += TRUST_S
    asked = asyncio.create_task(one.lead.require())
    await asyncio.sleep(0)
    await one.lead.beat()
    with pytest.raises(StorageError, match="stable answers until the database takes writes: database or disk is full"):
        await asked
