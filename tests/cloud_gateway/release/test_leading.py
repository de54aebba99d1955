"""What the leader looks at and keeps: verdicts no more often than they are needed."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cloud_gateway.release.active import ActiveRelease
from cloud_gateway.release.leading import JUDGE_S
from cloud_gateway.release.state import ReleaseState, Status
from cloud_gateway.release.steps import Command
from cloud_gateway.release.store import Release
from tests.cloud_gateway.release.fakes import ADVANCE, HOLD, ROLLBACK, FakeWatch
from tests.cloud_gateway.release.gateways import Stock, gateway, plan, told

TICK_S = 0.25
"""An even part of a second."""


def test_a_verdict_is_made_anew_when_it_is_old_or_something_else_is_wanted() -> None:
    active = ActiveRelease(Release(1, plan(), ReleaseState(Status.RUNNING, 0.5, 0), {}, 0, 0), FakeWatch)
    watch: Any = active.watch

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
        watch: Any = one.traffic.active["small"].watch
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
        watch: Any = one.traffic.active["small"].watch
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
