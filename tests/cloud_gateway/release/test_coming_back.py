"""A gateway that ended in the middle of a release comes back: it goes on where it was, or takes back what ended it."""

import json
from pathlib import Path
from typing import Any

import pytest

from cloud_gateway.guards import GuardWatch
from cloud_gateway.registry import open_registry
from cloud_gateway.release.lease import LEASE_S, TRUST_S
from cloud_gateway.release.plan import ReleasePlan
from cloud_gateway.release.store import ReleaseStore
from cloud_gateway.release.switchover import Presence
from cloud_gateway.release.trials import STEADY_S
from cloud_gateway.release.versions import Versions
from runtime.errors import ExecutionError, StorageError
from tests.cloud_gateway.bundles import PICK_FAILS_ON_SMALL_TABLES
from tests.cloud_gateway.release.fakes import ADVANCE, HOLD, Clock, Posted
from tests.cloud_gateway.release.gateways import HOOKED, Stock, gateway, plan, told


@pytest.mark.parametrize("is_clean", [True, False], ids=["stopped", "killed"])
async def test_a_gateway_that_comes_back_goes_on_where_it_was(stock: Stock, file: Path, is_clean: bool) -> None:
    async with gateway(stock, file, is_clean=is_clean) as one:
        await one.controller.start(plan(more="stages = [10, 50, 100]\nhold_s = 10"))
        told(ADVANCE)
        await one.tick(5)
        await one.tick(5)
        assert one.controller.status("small")["share"] == 0.5
        told(HOLD)
        await one.ask(100)
        await one.tick(3)
        await one.tick(3)
        before = one.controller.status("small")
        assert before["in_stage_s"] == 6.0
    async with gateway(stock, file, me="again") as one:
        after = one.controller.status("small")
        assert after["verdict"] is not None  # before its first tick, which may have to wait for the lead
        for key in ("release", "status", "share", "stage", "in_stage_s", "arms"):
            assert after[key] == before[key], key
        assert await one.versions_told() == {"1", "2"}
        if not is_clean:
            assert not one.controller.leadership.is_held
            one.clock.now += LEASE_S
        await one.tick()
        assert one.controller.leadership.is_held
        told(ADVANCE)
        await one.tick(4.5)
        assert one.controller.status("small")["status"] == "settling"
    async with gateway(stock, file, me="third") as one:
        assert await one.versions_told() == {"2"}, "the candidate has all of the traffic also after a restart"
        for _ in range(130):
            await one.tick(5)
        assert one.engine.versions("small") == [2]
    async with gateway(stock, file, me="fourth") as one:
        assert await one.versions_told() == {"2"}, "whatever the gateway was told to serve"
        assert one.engine.versions("small") == [2]


async def test_a_candidate_that_is_gone_when_the_gateway_comes_back(stock: Stock, file: Path, tmp_path: Path) -> None:
    async with gateway(stock, file, watch_type=GuardWatch) as one:
        await one.controller.start(plan(5, HOOKED))
        for at in range(3):
            await one.ask(20, index=PICK_FAILS_ON_SMALL_TABLES if at == 1 else 0)
        await one.tick()
        served = one.controller.status("small")["arms"]["candidate"]
    poorer = open_registry(str(tmp_path / "registry"), tmp_path / "cache")
    poorer.push(stock.bundles[1].root)
    posted, before = Posted(), Stock(stock.bundles, poorer, stock.home)
    async with gateway(before, file, me="again", watch_type=GuardWatch, webhook=posted) as one:
        assert await one.versions_told() == {"1"}
        ended = await one.controller.describe("small")
        assert ended["status"] == "rolled_back"
        assert "the candidate cannot go on: " in ended["reason"]
        document = json.loads(one.store.audit()[-1].document)
    assert document["candidate_answers"] == served["requests"] > 0
    assert document["replaced_by_stable"] == served["errors"] > 0
    assert document["bad_predictions"] > 0, "though no proof of harm"
    assert "bad predictions, at most" in document["harm"]
    (event,) = posted.events
    assert (event["event"], event["status"], event["harm"]) == ("release.rollback", "rolled_back", document["harm"])


async def test_a_candidate_whose_loading_fails_after_the_lead_has_lapsed_is_rolled_back_too(
    stock: Stock, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    async with gateway(stock, file, clock=clock) as one:
        await one.controller.start(plan())

    async def fail_slowly(_: Versions, plan: ReleasePlan) -> Any:
        clock.now += TRUST_S
        raise ExecutionError(f"version {plan.candidate} fails its warm-up")

    monkeypatch.setattr(Versions, "load_pair", fail_slowly)
    async with gateway(stock, file, me="again", clock=clock) as one:
        ended = await one.controller.describe("small")
        assert (ended["status"], ended["share"]) == ("rolled_back", 0.0)
        assert await one.versions_told() == {"1"}


async def test_a_release_is_not_rolled_back_to_a_stable_that_is_not_there(
    stock: Stock, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with gateway(stock, file) as one:
        await one.controller.start(plan())

    async def fail(_: Versions, plan: ReleasePlan) -> Any:
        raise ExecutionError(f"version {plan.stable} cannot be fetched")

    def find_none(*_: object) -> None:
        return None

    monkeypatch.setattr(Versions, "load_pair", fail)
    monkeypatch.setattr(Versions, "find", find_none)
    async with gateway(stock, file, me="again") as one:
        told = await one.controller.describe("small")
        assert (told["status"], "small" in one.traffic.active) == ("running", False)
        assert "version 1 cannot be fetched" in told["trouble"]
        monkeypatch.undo()
        await one.follow()
        assert await one.versions_told() == {"1", "2"}, "what was wrong has passed"


async def test_a_gateway_that_comes_back_to_a_database_that_takes_no_writes_serves_stable(
    stock: Stock, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with gateway(stock, file) as one:
        await one.controller.start(plan())

    def refuse(*_: object) -> Any:
        raise StorageError("database or disk is full")

    for table in (Presence, ReleaseStore):
        monkeypatch.setattr(table, "beat", refuse)
    async with gateway(stock, file, me="again") as one:
        assert await one.versions_told() == {"1"}
        monkeypatch.undo()
        await one.controller.beat()
        await one.take_over()
        assert await one.versions_told() == {"1", "2"}, "it goes on as soon as it can be said who leads"


async def test_a_candidate_that_takes_the_gateway_down_twice_is_taken_back(stock: Stock, file: Path) -> None:
    clock = Clock()
    async with gateway(stock, file, is_clean=False, clock=clock) as one:
        await one.controller.start(plan())
    async with gateway(stock, file, me="again", is_clean=False, clock=clock) as one:
        assert await one.versions_told() == {"1", "2"}  # one crash may be anything
    clock.now += LEASE_S
    async with gateway(stock, file, me="a third time", clock=clock) as one:
        assert one.engine.versions("small") == [1]
        assert await one.versions_told() == {"1"}
        for _ in range(10):  # the lease of the one that crashed runs out
            clock.now += 1.0
            await one.controller.leadership.beat()
            await one.follow()
        ended = await one.controller.describe("small")
        assert ended["status"] == "rolled_back"
        assert "ended 2 times in a row" in ended["reason"]


@pytest.mark.parametrize("passed_s", [0.0, STEADY_S])
async def test_a_gateway_that_ends_as_told_or_runs_for_long_counts_no_crash(
    stock: Stock, file: Path, passed_s: float
) -> None:
    clock = Clock()
    async with gateway(stock, file, is_clean=False, clock=clock) as one:
        await one.controller.start(plan())
    async with gateway(stock, file, me="again", is_clean=not passed_s, clock=clock) as one:
        clock.now += passed_s
        one.controller._placement.note_steady()
    async with gateway(stock, file, me="a third time", clock=clock) as one:
        assert await one.versions_told() == {"1", "2"}
