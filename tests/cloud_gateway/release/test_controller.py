"""Releases carried out over real models and a real database, with guards and a clock that do as told."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cloud_gateway.bundles import served_bundles
from cloud_gateway.guards import Arm, GuardWatch, LabelledObservation, MetricObservation, Verdict
from cloud_gateway.registry import Registry, open_registry
from cloud_gateway.release.controller import ReleaseController
from cloud_gateway.release.events import Webhook
from cloud_gateway.release.lease import LEASE_S
from cloud_gateway.release.placement import Placement
from cloud_gateway.release.plan import ReleasePlan, parse_plan
from cloud_gateway.release.service import ReleaseService, Traffic
from cloud_gateway.release.steps import Command
from cloud_gateway.release.store import ReleaseStore
from cloud_gateway.release.trials import STEADY_S, Trials
from cloud_gateway.release.versions import Versions
from runtime.bundle.bundle import Bundle
from runtime.engine.engine import Engine, EngineSettings
from runtime.errors import (
    ConflictError,
    EdgewardError,
    ExecutionError,
    InvalidInputError,
    ModelNotFoundError,
    StorageError,
)
from runtime.serving.local_service import LocalService
from runtime.store import open_database, sqlite_url
from runtime.wire.values import InferenceRequest, InferenceResponse
from tests.cloud_gateway.bundles import PICK_FAILS_ON_SMALL_TABLES, SELECTION, make_bundle, row
from tests.cloud_gateway.release.fakes import ADVANCE, HOLD, ROLLBACK, Clock, FakeWatch

PATIENCE_S = 20.0
SHADOW = """
strategy = "shadow"
hold_s = 10
[shadow]
noise_floor_every = 5
[[guards]]
metric = "loss"
margin = 0.02
"""


@dataclass(frozen=True)
class Stock:
    """Bundles and a registry that all tests here share: none changes them."""

    bundles: dict[int, Bundle]
    registry: Registry
    home: Path


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Stock:
    return make_stock(tmp_path_factory.mktemp("stock"))


def make_stock(root: Path) -> Stock:
    bundles = {
        1: make_bundle(root / "1", 1),
        2: make_bundle(root / "2", 2, is_other=True),
        3: make_bundle(root / "3", 3, classes=4),  # another signature
        4: make_bundle(root / "4", 4, table_size=0),  # fails its warm-up
        5: make_bundle(root / "5", 5, table_size=2),  # fails for some requests
    }
    registry = open_registry(str(root / "registry"), root / "cache")
    for bundle in bundles.values():
        registry.push(bundle.root)
    return Stock(bundles, registry, root / "home")


@dataclass
class Gateway:
    """The parts of releases in one gateway, ticked by the test."""

    engine: Engine
    local: LocalService
    store: ReleaseStore
    traffic: Traffic
    controller: ReleaseController
    service: ReleaseService
    clock: Clock
    versions: Versions

    async def tick(self, seconds: float = 0.2) -> None:
        self.clock.now += seconds
        await self.controller.leadership.beat()
        self.controller.switchover.trust(time.perf_counter())
        await self.controller.tick()

    async def ask(self, count: int = 1, index: int = 0) -> list[InferenceResponse]:
        requests = [
            InferenceRequest("small", row(index), parameters={"routing_key": f"user-{number}"})
            for number in range(count)
        ]
        return list(await asyncio.gather(*(self.service.infer(request) for request in requests)))

    async def versions_told(self, count: int = 50) -> set[str]:
        return {reply.version for reply in await self.ask(count)}

    def events(self) -> list[str]:
        return [line.event for line in self.store.audit()]


@asynccontextmanager
async def gateway(
    stock: Stock,
    file: Path,
    *,
    me: str = "me",
    is_clean: bool = True,
    clock: Clock | None = None,
    watch_type: type[GuardWatch] = FakeWatch,
    webhook: Webhook | None = None,
) -> AsyncIterator[Gateway]:
    """A gateway that was told to serve version 1. Unless `is_clean`, it ends as a killed one does."""
    engine = Engine(EngineSettings(SELECTION, home=stock.home))
    engine.load(stock.bundles[1].root)
    local = LocalService(engine, name="test")
    store = ReleaseStore(open_database(sqlite_url(file)), me)
    traffic, clock = Traffic(), clock or Clock()
    versions = Versions(local, stock.registry)
    placement = Placement(versions, traffic, Trials(file.with_name("trials.json"), clock), watch_type, clock)
    controller = ReleaseController(store, versions, placement, traffic, webhook or Webhook(), clock)
    await controller.open()
    try:
        yield Gateway(engine, local, store, traffic, controller, ReleaseService(local, traffic), clock, versions)
    finally:
        if is_clean:
            await controller.close()
        else:
            for active in traffic.active.values():
                if active.mirror is not None:
                    active.mirror.close()
        store.close()
        local.close()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "gateway.db"


@pytest.fixture(autouse=True)
def _guards_hold() -> Iterator[None]:
    FakeWatch.says = HOLD
    yield
    FakeWatch.says = HOLD


def plan(candidate: int = 2, more: str = "stages = [50, 100]\nhold_s = 10\nkeep_warm_s = 20") -> ReleasePlan:
    return parse_plan(f'model = "small"\nstable = 1\ncandidate = {candidate}\n{more}')


def told(verdict: Verdict) -> None:
    FakeWatch.says = verdict


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
        seen: Any = one.traffic.active["small"].watch
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


async def test_a_command_right_after_the_lead_was_won_is_not_undone(
    stock: Stock, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with gateway(stock, file) as one:
        await one.controller.start(plan(more="stages = [50, 100]\nhold_s = 0"))
        read = one.store.releases
        has_read = asyncio.Event()
        loop = asyncio.get_running_loop()

        def read_slowly(**given: Any) -> Any:
            found = read(**given)
            loop.call_soon_threadsafe(has_read.set)
            time.sleep(0.2)
            return found

        monkeypatch.setattr(one.store, "releases", read_slowly)
        taking_over = asyncio.create_task(one.controller._take_over())
        await has_read.wait()
        promoted = await one.controller.command("small", Command.PROMOTE, "at once")
        await taking_over
        assert promoted["status"] == one.controller.status("small")["status"] == "settling"


async def test_a_second_gateway_follows_and_takes_over(stock: Stock, file: Path) -> None:
    clock = Clock()
    async with gateway(stock, file, me="a", clock=clock) as a, gateway(stock, file, me="b", clock=clock) as b:
        await a.controller.start(plan(more="stages = [50, 100]\nhold_s = 0"))
        await b.controller._follow()
        assert await b.versions_told() == {"1", "2"}
        keys = [reply.version for reply in await a.ask(60)]
        assert [reply.version for reply in await b.ask(60)] == keys, "both split alike"
        told(ADVANCE)
        await b.tick()
        assert b.controller.status("small")["share"] == 0.5, "only the leader decides"
        await a.tick()
        assert a.controller.status("small")["status"] == "settling"
        await b.controller._follow()
        assert await b.versions_told() == {"2"}
        await a.controller.leadership.give_back()
        assert await b.controller.leadership.beat()
        await b.controller._take_over()
        await b.controller.command("small", Command.ROLLBACK, "seen by b")
        assert await b.versions_told() == {"1"}
        await a.controller._follow()
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
        await b.controller._follow()
        assert told_meanwhile == [{"1"}]
        assert await b.versions_told() == {"2"}


class FullDisk:
    """A store whose disk is full while the test says so."""

    def __init__(self, store: ReleaseStore) -> None:
        self._store = store
        self.is_full = False

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._store, name)

        def call(*arguments: Any, **options: Any) -> Any:
            if self.is_full and name in ("start", "change", "save"):
                raise StorageError("database or disk is full")
            return real(*arguments, **options)

        return call


async def test_a_full_disk_holds_what_goes_forward_and_never_the_way_back(stock: Stock, file: Path) -> None:
    async with gateway(stock, file) as one:
        disk: Any = FullDisk(one.store)
        one.controller._store = disk
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


async def test_a_share_that_is_lowered_by_hand_is_a_step_back_too(stock: Stock, file: Path) -> None:
    async with gateway(stock, file) as one:
        disk: Any = FullDisk(one.store)
        one.controller._store = disk
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


class Posted(Webhook):
    """Keeps what it is to post."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[Mapping[str, Any]] = []

    def post(self, url: str, event: Mapping[str, Any]) -> None:
        self.events.append(event)


HOOKED = 'stages = [50, 100]\nhold_s = 10\nwebhook = "http://127.0.0.1:9/hook"'


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
            await one.controller._follow()
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
