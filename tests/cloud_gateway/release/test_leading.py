"""What the leader looks at and keeps: verdicts no more often than they are needed, evidence in time, also beside a failing disk."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cloud_gateway.release import leading
from cloud_gateway.release.active import ActiveRelease
from cloud_gateway.release.leading import JUDGE_S, SAVE_AGAIN_S, SAVE_S
from cloud_gateway.release.state import ReleaseState, Status
from cloud_gateway.release.steps import Command
from cloud_gateway.release.store import Release
from runtime.errors import StorageError
from tests.cloud_gateway.release.fakes import ADVANCE, HOLD, ROLLBACK, FakeWatch
from tests.cloud_gateway.release.gateways import Gateway, Stock, gateway, plan, told, two
from tests.cloud_gateway.release.test_controller import FullDisk
from tests.cloud_gateway.release.test_traffic import pass_the_lead

TICK_S = 0.25
"""An even part of a second."""


def test_a_verdict_is_made_anew_when_it_is_old_or_something_else_is_wanted() -> None:
    active = ActiveRelease(Release(1, plan(), ReleaseState(Status.RUNNING, 0.5, 0), {}, 0, 0), FakeWatch)
    watch: Any = active.evidence.watch

    def judged(now: float, at_most_s: float) -> int:
        assert active.looked(now, at_most_s) is FakeWatch.says
        return int(watch.judged)

    assert judged(0.0, JUDGE_S) == 1
    assert judged(JUDGE_S / 2, JUDGE_S) == 1
    assert judged(JUDGE_S * 1.5, JUDGE_S) == 2
    told(ADVANCE)
    assert judged(JUDGE_S * 1.5, JUDGE_S) == 3, "at once"
    assert judged(JUDGE_S * 1.5, 0.0) == 3, "it is of now"
    assert judged(JUDGE_S * 1.6, 0.0) == 4


async def test_a_release_that_holds_makes_no_verdict_at_every_tick(stock: Stock, file: Path) -> None:
    async with gateway(stock, file) as one:
        await one.controller.start(plan())
        watch: Any = one.traffic.active["small"].evidence.watch
        await one.tick(TICK_S)
        before = watch.judged
        for _ in range(20):
            await one.tick(TICK_S)
        assert 3 <= watch.judged - before <= 5


@pytest.mark.parametrize("by_hand", [False, True])
async def test_a_step_back_makes_one_verdict(stock: Stock, file: Path, by_hand: bool) -> None:
    async with gateway(stock, file) as one:
        await one.controller.start(plan())
        await one.ask(20)
        await one.tick()
        watch: Any = one.traffic.active["small"].evidence.watch
        before = watch.judged
        if by_hand:
            await one.controller.command("small", Command.ROLLBACK)
        else:
            told(ROLLBACK)
            await one.tick()
        assert one.events()[-1] == "rollback"
        assert watch.judged == before + 1
        document = json.loads(one.store.audit()[-1].document)
        assert document["verdict"]["reason"] == FakeWatch.says.reason
        assert ("by_hand" in document) is by_hand


async def test_what_a_hold_waits_for_is_written_down_with_the_numbers_of_now(stock: Stock, file: Path) -> None:
    async with gateway(stock, file) as one:
        await one.controller.start(plan())
        await one.tick(TICK_S)
        told(replace(HOLD, needed=400))
        await one.controller.command("small", Command.PAUSE)
        await one.tick(TICK_S)  # sooner than a verdict is old
        line = one.store.audit()[-1]
        document = json.loads(line.document)
        assert (line.event, document["waits_for"]) == ("hold", "person")
        assert (document["needed"], document["verdict"]["needed"]) == (400, 400)


class Saves:
    """A store's saves: counted, and refused while the test says so."""

    def __init__(self, one: Gateway) -> None:
        self.tried = self.done = 0
        self.is_full = False
        self._real: Callable[..., Any] = one.store.save
        one.store.save = self  # type: ignore[method-assign,assignment]

    def __call__(self, *arguments: Any) -> None:
        self.tried += 1
        if self.is_full:
            raise StorageError("database or disk is full")
        self._real(*arguments)
        self.done += 1


async def saving(one: Gateway) -> Saves:
    """A release that holds, and has just been saved."""
    saves = Saves(one)
    await one.controller.start(plan())
    for _ in range(2):
        await one.tick(TICK_S)
    assert saves.done == 1
    return saves


async def ticks(one: Gateway, seconds: float) -> None:
    for _ in range(round(seconds / TICK_S)):
        await one.tick(TICK_S)


async def test_evidence_is_kept_every_few_seconds_or_once_much_was_seen(
    stock: Stock, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leading, "SAVE_AT", 50)
    async with gateway(stock, file) as one:
        saves = await saving(one)
        await one.ask(49)
        await ticks(one, SAVE_S - TICK_S)
        assert saves.done == 1
        await ticks(one, TICK_S)
        assert saves.done == 2
        await one.ask(50)
        await ticks(one, SAVE_AGAIN_S)
        assert saves.done == 3


@pytest.mark.parametrize("asked", [0, 50], ids=["in time", "once much was seen"])
async def test_evidence_that_a_disk_refused_is_tried_again_in_a_second_and_no_sooner(
    stock: Stock, file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, asked: int
) -> None:
    monkeypatch.setattr(leading, "SAVE_AT", 50)
    async with gateway(stock, file) as one:
        saves = await saving(one)
        saves.is_full = True
        if asked:
            await one.ask(asked)
            await ticks(one, SAVE_AGAIN_S)
        else:
            await ticks(one, SAVE_S)
        assert (saves.tried, saves.done) == (2, 1)
        await ticks(one, SAVE_AGAIN_S - TICK_S)
        assert saves.tried == 2
        assert one.controller.status("small")["trouble"] == "database or disk is full", "also in between"
        await ticks(one, TICK_S)
        assert saves.tried == 3
        assert caplog.text.count("database or disk is full") == 1, "said once"
        saves.is_full = False
        await ticks(one, SAVE_AGAIN_S)
        assert (saves.tried, saves.done) == (4, 2)
        assert one.controller.status("small")["trouble"] is None


async def test_a_hold_that_a_disk_refused_is_written_down_a_second_later_and_no_sooner(
    stock: Stock, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with gateway(stock, file) as one:
        await one.controller.start(plan())
        active, disk, made = one.traffic.active["small"], FullDisk(one.store), 0
        real = active.evidence.to_state

        def to_state() -> dict[str, Any]:
            nonlocal made
            made += 1
            return real()

        monkeypatch.setattr(active.evidence, "to_state", to_state)
        disk.is_full = True
        await ticks(one, SAVE_AGAIN_S)
        assert (made, one.events()) == (1, ["start"])
        status = one.controller.status("small")
        assert (status["trouble"], status["reason"]) == (
            "database or disk is full",
            f"{HOLD.reason}; about 500 requests more",
        )
        await ticks(one, SAVE_AGAIN_S)
        assert made == 2
        assert one.controller.status("small")["trouble"] == "database or disk is full", "also in between"
        told(ROLLBACK)
        await one.tick(TICK_S)
        assert await one.versions_told() == {"1"}, "nobody waits for the way back"
        disk.is_full = False
        await one.tick(TICK_S)
        assert one.events() == ["start", "rollback"]


async def test_a_step_back_that_a_disk_refuses_is_said_once(
    stock: Stock, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with gateway(stock, file) as one:
        await one.controller.start(plan())
        disk = FullDisk(one.store)
        disk.is_full = True
        told(ROLLBACK)
        await ticks(one, SAVE_AGAIN_S)
        assert caplog.text.count("is done, but not stored yet: database or disk is full") == 1


async def test_who_lost_the_lead_says_no_more_what_it_could_not_keep(stock: Stock, file: Path) -> None:
    async with two(stock, file, plan()) as (a, b):
        saves, active = Saves(a), a.traffic.active["small"]
        saves.is_full = True
        await ticks(a, SAVE_S)
        before = (active.evidence.unkept_count, active.trouble, active.verdict, active.is_unsaved)
        assert before == (0, "database or disk is full", HOLD, True)
        await a.ask(10)
        await pass_the_lead(a, b)
        await ticks(b, 1.0)
        await a.controller.tick()
        assert (active.evidence.unkept_count, active.trouble, active.verdict, active.is_unsaved) == (
            0,
            None,
            None,
            False,
        )
