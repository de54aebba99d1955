"""Releases carried out, step by step: what guards say, what people command, and what cannot be done."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cloud_gateway.bundles import served_bundles
from cloud_gateway.guards import Arm, GuardWatch, LabelledObservation, MetricObservation
from cloud_gateway.release.lease import TRUST_S
from cloud_gateway.release.plan import parse_plan
from cloud_gateway.release.steps import Command
from cloud_gateway.release.store import ReleaseStore
from runtime.errors import (
    ConflictError,
    EdgewardError,
    ExecutionError,
    InvalidInputError,
    ModelNotFoundError,
    StorageError,
)
from runtime.wire.values import InferenceResponse
from tests.cloud_gateway.bundles import PICK_FAILS_ON_SMALL_TABLES
from tests.cloud_gateway.release.fakes import ADVANCE, HOLD, ROLLBACK, Posted
from tests.cloud_gateway.release.gateways import HOOKED, PATIENCE_S, SHADOW, Stock, gateway, plan, told


async def test_a_good_candidate_takes_over_and_stable_goes_when_its_time_is_up(stock: Stock, file: Path) -> None:
    async with gateway(stock, file) as one:
        assert await one.versions_told() == {"1"}
        status = await one.controller.start(plan())
        assert (status["status"], status["share"]) == ("running", 0.5)
        assert await one.versions_told() == {"1", "2"}
        await one.tick()
        assert one.controller.status("small")["needed"] == 500
        told(ADVANCE)
        await one.tick(5)
        assert "to go" in one.controller.status("small")["reason"]
        await one.tick(5)
        assert one.controller.status("small")["status"] == "settling"
        assert await one.versions_told() == {"2"}
        assert one.engine.versions("small") == [1, 2], "stable is still warm"
        told(HOLD)
        for _ in range(5):
            await one.tick(5)
        held = one.controller.status("small")
        assert (held["status"], held["needed"]) == ("settling", 500), "no proof, no end"
        told(ADVANCE)
        await one.tick()
        assert (await one.controller.describe("small"))["status"] == "promoted"
        assert one.engine.versions("small") == [2]
        assert await one.versions_told() == {"2"}
        assert "release" not in (await one.ask())[0].parameters
        assert one.events() == ["start", "hold", "hold", "promote", "hold", "hold", "finish"]
        assert one.store.check_audit()[2] is None


async def test_harm_rolls_back_and_says_how_many_bad_predictions_were_served(
    stock: Stock, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with gateway(stock, file) as one:
        await one.controller.start(plan())
        await one.ask(100)
        told(ROLLBACK)
        await one.tick()
        assert await one.versions_told() == {"1"}
        assert one.engine.versions("small") == [1]
        ended = await one.controller.describe("small")
        assert (ended["status"], ended["reason"]) == ("rolled_back", "too many errors")
        document = json.loads(one.store.audit()[-1].document)
        assert (document["bad_predictions"], document["bad_predictions_at_most"]) == (12.0, 31.0)
        assert 20 < document["candidate_answers"] < 80
        assert document["decided_unix_us"] > 1e15
        assert document["verdict"]["findings"][0]["test"] == "fake"
        assert "about 12 bad predictions, at most 31" in caplog.text


async def test_a_candidate_that_crashes_in_the_middle_of_a_stage(stock: Stock, file: Path) -> None:
    async with gateway(stock, file) as one:
        await one.controller.start(plan(5))
        for _ in range(3):
            replies = await one.ask(40, index=PICK_FAILS_ON_SMALL_TABLES)
            assert {reply.parameters["release"] for reply in replies} == {"stable"}, "no caller sees it"
            one.clock.now += 1
        await one.tick()
        ended = await one.controller.describe("small")
        assert ended["status"] == "rolled_back"
        assert "its last" in ended["reason"]
        assert "all failed" in ended["reason"]
        document = json.loads(one.store.audit()[-1].document)
        assert document["replaced_by_stable"] == document["candidate_answers"] > 20
        assert await one.versions_told() == {"1"}


async def test_a_candidate_that_is_unloaded_under_its_release(stock: Stock, file: Path) -> None:
    async with gateway(stock, file) as one:
        await one.controller.start(plan())
        one.engine.remove("small", 2)
        assert {reply.version for reply in await one.ask(50)} == {"1"}, "stable answers for it"
        await one.tick()
        assert "not loaded any more" in (await one.controller.describe("small"))["reason"]


@pytest.mark.parametrize(
    ("candidate", "error", "expected"),
    [
        (9, ModelNotFoundError, "version 9 is not in the registry; versions there: 1, 2, 3, 4, 5"),
        (3, InvalidInputError, "output 'scores' is FP32 \\[-1, 4\\], stable's is FP32 \\[-1, 3\\]"),
        (4, ExecutionError, "stable keeps serving: it fails its warm-up"),
    ],
)
async def test_a_candidate_that_cannot_be_released_is_refused_and_nothing_has_changed(
    stock: Stock, file: Path, candidate: int, error: type[EdgewardError], expected: str
) -> None:
    async with gateway(stock, file) as one:
        with pytest.raises(error, match=expected):
            await one.controller.start(plan(candidate))
        assert one.engine.versions("small") == [1]
        assert await one.versions_told() == {"1"}
        assert one.store.releases() == []
        assert one.events() == []
        await one.controller.start(plan(2))  # and another may begin


async def test_two_releases_for_one_model_and_a_stable_that_is_none(stock: Stock, file: Path) -> None:
    async with gateway(stock, file) as one:
        with pytest.raises(InvalidInputError, match="version 1 answers its requests; write stable = 1"):
            await one.controller.start(parse_plan('model = "small"\nstable = 2\ncandidate = 5'))
        await one.controller.start(plan())
        with pytest.raises(ConflictError, match="has a release already: number 1, running"):
            await one.controller.start(plan(5))
        assert one.engine.versions("small") == [1, 2]
        with pytest.raises(ModelNotFoundError, match="no release here"):
            await one.controller.command("other", Command.ABORT)


async def test_people_step_in(stock: Stock, file: Path) -> None:
    async with gateway(stock, file) as one:
        await one.controller.start(plan())
        assert (await one.controller.command("small", Command.PAUSE, "lunch"))["status"] == "paused"
        told(ADVANCE)
        await one.tick(1000)
        assert one.controller.status("small")["share"] == 0.5
        await one.controller.command("small", Command.RESUME)
        status = await one.controller.command("small", Command.PROMOTE, "", 30.0)
        assert status["share"] == 0.3
        told(HOLD)
        await one.tick()
        assert one.controller.status("small")["needed"] == 500
        promoted = await one.controller.command("small", Command.PROMOTE)
        assert promoted["needed"] is None, "of a stage that is over"
        assert await one.versions_told() == {"2"}
        assert (await one.controller.command("small", Command.ROLLBACK, "complaints"))["status"] == "rolled_back"
        assert await one.versions_told() == {"1"}
        assert one.events() == ["start", "pause", "hold", "resume", "promote", "hold", "promote", "rollback"]
        assert json.loads(one.store.audit()[1].document)["reason"] == "paused by hand: lunch"


async def test_blue_green_switches_in_one_step_and_back_with_nothing_dropped(stock: Stock, file: Path) -> None:
    async with gateway(stock, file) as one:
        stop = asyncio.Event()
        replies: list[InferenceResponse] = []

        async def caller() -> None:
            while not stop.is_set():
                replies.append((await one.ask())[0])

        callers = [asyncio.create_task(caller()) for _ in range(4)]
        await one.controller.start(plan(more='strategy = "blue_green"'))
        for command, percent in ((Command.PROMOTE, 40.0), (Command.PROMOTE, None), (Command.ROLLBACK, None)):
            await asyncio.gather(*(one.ask() for _ in range(50)))
            await one.controller.command("small", command, "", percent)
        await asyncio.sleep(0)
        stop.set()
        await asyncio.gather(*callers)
        assert {reply.version for reply in replies} == {"1", "2"}
        assert await one.versions_told() == {"1"}
        # A reply of the candidate is the candidate's, whatever happened around it.
        assert {(reply.version, int(reply.outputs["scores"][0].argmax())) for reply in replies} == {("1", 0), ("2", 2)}


async def test_a_shadow_compares_every_answer_and_ends_without_moving_traffic(stock: Stock, file: Path) -> None:
    async with gateway(stock, file) as one:
        answers: list[Any] = []
        one.traffic.on_answer = answers.append
        await one.controller.start(plan(more=SHADOW))
        replies = await one.ask(60)
        assert {(reply.version, reply.parameters["release"]) for reply in replies} == {("1", "stable")}
        for _ in range(int(PATIENCE_S / 0.05)):
            await one.tick(0.01)
            report = one.controller.status("small")["shadow"]
            if report["compared"] == 60:
                break
            await asyncio.sleep(0.05)
        assert (report["compared"], report["agreement"], report["dropped"]) == (60, 0.0, 0)
        assert report["confusion"] == {"0>2": 60}
        assert report["noise_floor"] == {"compared": 12, "agreement": 1.0, "mean_distance": 0.0}
        assert sum(answer.is_shadow for answer in answers) == 60
        seen: Any = one.traffic.active["small"].evidence.watch
        assert sum(pair.noise_agrees is True for pair in seen.seen) == 12, "the guards are told of it"
        said = [LabelledObservation(0.0, 1.0), LabelledObservation(0.0, None)]
        one.traffic.active["small"].take_late("labels", 2, [*said, MetricObservation(Arm.STABLE, "revenue", 2.0)])
        told(ADVANCE)
        for _ in range(3):
            await one.tick(4)
        ended = await one.controller.describe("small")
        assert (ended["status"], ended["share"]) == ("completed", 0.0)
        assert one.engine.versions("small") == [1]
        saved = one.store.newest("small").evidence["counts"]
        assert saved["losses"] == [2, 1, 0.0, 1.0, 1.0]


class FullDisk:
    """Makes a store's disk full while the test says so."""

    def __init__(self, store: ReleaseStore) -> None:
        self.is_full = False
        for name in ("start", "change", "save"):
            setattr(store, name, self._refusing(getattr(store, name)))

    def _refusing(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            if self.is_full:
                raise StorageError("database or disk is full")
            return real(*arguments)

        return call


async def test_a_full_disk_holds_what_goes_forward_and_never_the_way_back(stock: Stock, file: Path) -> None:
    async with gateway(stock, file) as one:
        disk = FullDisk(one.store)
        disk.is_full = True
        with pytest.raises(StorageError):
            await one.controller.start(plan())
        assert one.engine.versions("small") == [1]
        disk.is_full = False
        await one.controller.start(plan(more="stages = [50, 100]\nhold_s = 0"))
        await one.tick()
        disk.is_full = True
        told(ADVANCE)
        for _ in range(3):
            await one.tick()
        status = one.controller.status("small")
        assert (status["share"], status["trouble"]) == (0.5, "database or disk is full"), "not stored, so not done"
        told(ROLLBACK)
        await one.tick()
        assert await one.versions_told() == {"1"}, "done, though it cannot be stored yet"
        assert one.store.newest("small").state.status == "running"
        await one.tick()
        disk.is_full = False
        await one.tick()
        assert one.store.newest("small").state.status == "rolled_back"
        assert one.events() == ["start", "hold", "rollback"]
        assert one.engine.versions("small") == [1]


@pytest.mark.parametrize("look", ["follow", "take_over"])
async def test_a_step_back_that_no_disk_took_is_not_undone_by_what_the_database_says(
    stock: Stock, file: Path, look: str
) -> None:
    async with gateway(stock, file) as one:
        disk = FullDisk(one.store)
        await one.controller.start(plan())
        disk.is_full = True
        await one.controller.command("small", Command.ABORT, "now")
        one.clock.now += TRUST_S  # the full disk takes no beat either
        assert not one.controller.leadership.is_held
        await getattr(one, look)()
        assert one.store.newest("small").state.share == 0.5
        assert one.traffic.active["small"].split.share == 0.0
        disk.is_full = False
        await one.tick()
        ended = one.store.newest("small").state
        assert (ended.status, ended.share) == ("aborted", 0.0)
        assert one.events() == ["start", "abort"]
        assert await one.versions_told() == {"1"}
        assert one.engine.versions("small") == [1]


async def test_a_share_that_is_lowered_by_hand_is_a_step_back_too(stock: Stock, file: Path) -> None:
    async with gateway(stock, file) as one:
        disk = FullDisk(one.store)
        await one.controller.start(plan(more='strategy = "blue_green"'))
        disk.is_full = True
        lowered = await one.controller.command("small", Command.PROMOTE, "slow", 0.0001)
        assert lowered["share"] == 0.000001
        assert await one.versions_told() == {"1"}, "done, though it cannot be stored yet"
        assert one.store.newest("small").state.share == 1.0
        with pytest.raises(StorageError, match="goes forward once that is stored"):
            await one.controller.command("small", Command.PROMOTE, "", 50.0)
        told(ADVANCE)
        await one.tick(1000)
        assert one.controller.status("small")["share"] == 0.000001, "nothing is decided before it is stored"
        disk.is_full = False
        told(HOLD)
        await one.tick()
        found = one.store.newest("small")
        assert (found.state.share, found.state.status) == (0.000001, "running")
        assert one.engine.versions("small") == [1, 2], "both stay warm"
        await one.controller.command("small", Command.PROMOTE, "", 50.0)
        disk.is_full = True
        for command, percent in ((Command.PROMOTE, 10.0), (Command.ROLLBACK, None)):
            await one.controller.command("small", command, "", percent)
        assert await one.versions_told() == {"1"}
        disk.is_full = False
        await one.tick()
        document = json.loads(one.store.audit()[-1].document)
        assert (document["status"], document["unstored_before"]["event"]) == ("rolled_back", "promote")
        assert one.store.check_audit()[2] is None
        assert one.engine.versions("small") == [1]


async def test_a_rollback_by_hand_says_how_many_without_any_proof(stock: Stock, file: Path) -> None:
    posted = Posted()
    async with gateway(stock, file, watch_type=GuardWatch, webhook=posted) as one:
        await one.controller.start(plan(2, HOOKED))
        await one.ask(60)
        await one.tick()
        await one.controller.command("small", Command.ROLLBACK)
        document = json.loads(one.store.audit()[-1].document)
        assert document["verdict"]["findings"][0]["e_worse"] <= 1.0
        assert document["bad_predictions"] == 0.0
        assert "about 0 bad predictions, at most " in document["harm"]
        assert posted.events[-1]["harm"] == document["harm"]


async def test_devices_are_offered_a_candidate_only_once_its_release_has_ended(stock: Stock, file: Path) -> None:
    async with gateway(stock, file) as one:

        def offered() -> list[int]:
            return [bundle.version for bundle in served_bundles(one.engine, one.traffic.settled)]

        assert offered() == [1]
        await one.controller.start(plan())
        assert one.engine.versions("small") == [1, 2]
        assert offered() == [1]
        told(ADVANCE)
        await one.tick(5)
        await one.tick(5)
        await one.tick(5)
        assert one.controller.status("small")["status"] == "settling"
        assert offered() == [1]  # it may still be taken back
        for _ in range(6):
            await one.tick(5)
        assert (await one.controller.describe("small"))["status"] == "promoted"
        assert offered() == [2]


async def test_a_clock_that_jumps_moves_nothing(stock: Stock, file: Path) -> None:
    async with gateway(stock, file) as one:
        await one.controller.start(plan())
        told(ADVANCE)
        one.clock.now += 86400  # the machine slept for a day
        await one.controller.leadership.beat()
        await one.controller.tick()
        status = one.controller.status("small")
        assert (status["share"], status["in_stage_s"]) == (0.5, 5.0)
        one.store._unix_s = lambda: 0.0
        await one.controller.command("small", Command.PAUSE)
        assert one.store.check_audit()[2] is None
