"""Labels and metrics, told to any gateway: the one that leads hands them to its guards, each once, also after a kill."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, insert, text

from cloud_gateway.admin.client import AdminClient
from cloud_gateway.automation.arms import ArmAnswers
from cloud_gateway.automation.labels import Labels, Taken
from cloud_gateway.automation.late_labels import LateLabels
from cloud_gateway.automation.store import AutomationStore
from cloud_gateway.guards import AnyObservation, Arm, GuardWatch, MetricObservation
from cloud_gateway.release.active import ActiveRelease
from cloud_gateway.release.late import SLICE, LateEvidence, LateRow
from cloud_gateway.release.leading import SAVE_S
from cloud_gateway.release.lease import LEASE_S
from cloud_gateway.release.reported import Report, ReportedMetrics
from cloud_gateway.release.state import ReleaseState, Status
from cloud_gateway.release.steps import Command
from cloud_gateway.release.store import Release
from cloud_gateway.release.tables import REPORTED, TRAFFIC
from runtime.bundle.bundle import read_bundle
from runtime.bundle.writing import pack
from runtime.client import connect
from runtime.errors import StorageError
from runtime.store import open_database, sqlite_url, writing
from runtime.wire.values import InferenceRequest
from tests.cloud_gateway.bundles import make_bundle, row
from tests.cloud_gateway.release.fakes import Clock, FakeWatch
from tests.cloud_gateway.release.gateways import Gateway, Stock, gateway, plan
from tests.cloud_gateway.release.test_processes import admin_of, wait_for
from tests.programs import calibrate, started

GUARDS = """
stages = [50, 100]
hold_s = 3600
[[guards]]
metric = "loss"
margin = 0.1
[[guards]]
metric = "business"
name = "revenue"
margin = 0.5
"""

# A class that neither version answers: the candidate is no worse, and its release goes on.
NEITHER = 1


class Beside:
    """What a gateway's wiring puts beside its releases: answers written down, labels and metrics taken in."""

    def __init__(self, one: Gateway, file: Path) -> None:
        self.engine = open_database(sqlite_url(file))
        store = AutomationStore(self.engine, [], lambda: 0.0)
        self.arms, self.labels = ArmAnswers(store, one.traffic), Labels(store)
        self.metrics = ReportedMetrics(self.engine)
        one.controller.late.sources += [LateLabels(store), self.metrics]


@contextmanager
def beside(one: Gateway, file: Path) -> Iterator[Beside]:
    made = Beside(one, file)
    try:
        yield made
    finally:
        made.engine.dispose()


async def answered(one: Gateway, names: list[str]) -> None:
    for name in names:
        await one.service.infer(InferenceRequest("small", row(), id=name))


def losses(one: Gateway) -> dict[str, Any]:
    told: dict[str, Any] = one.controller.status("small")["losses"]
    return told


async def test_what_a_follower_is_told_moves_the_leaders_guards(stock: Stock, file: Path) -> None:
    clock = Clock()
    async with (
        gateway(stock, file, me="a", clock=clock, watch_type=GuardWatch) as a,
        gateway(stock, file, me="b", clock=clock, watch_type=GuardWatch) as b,
    ):
        with beside(a, file) as at_a, beside(b, file) as at_b:
            await a.controller.start(plan(more=GUARDS))
            await b.follow()
            names = [f"r{number}" for number in range(2 * SLICE + 10)]
            await answered(a, names)
            await at_a.arms.flush()
            for name in names:
                assert at_b.labels.take("small", name, NEITHER).taken is Taken.ACCEPTED
                assert at_b.labels.take("small", name, NEITHER).taken is Taken.KNOWN
            reports = [Report(MetricObservation(arm, "revenue", 1.0), f"order {arm}") for arm in Arm]
            release = b.controller.running("small")
            assert (at_b.metrics.take(release, reports), at_b.metrics.take(release, reports)) == (2, 0)
            for _ in range(3):
                clock.now += 1
                await b.controller.tick()
                await a.tick(0)
            assert losses(a)["labelled"] == len(names)
            assert losses(b)["labelled"] == 0, "only the leader's are kept"
            loss, revenue = a.controller.status("small")["verdict"]["findings"]
            assert loss["stable_count"] + loss["candidate_count"] == len(names)
            assert (loss["stable_estimate"], loss["candidate_estimate"]) == (1.0, 1.0)
            assert (revenue["stable_count"], revenue["candidate_count"]) == (1, 1)

            # The other one leads from now on: it knows as much, and goes on behind it.
            await a.controller.leadership.give_back()
            assert await b.controller.leadership.beat()
            await b.take_over()
            await answered(b, ["more"])
            await at_b.arms.flush()
            at_a.labels.take("small", "more", NEITHER)
            for _ in range(3):
                await b.tick(1)
            assert losses(b)["labelled"] == len(names) + 1


async def test_a_label_waits_until_the_answers_that_it_is_about_are_written_down(stock: Stock, file: Path) -> None:
    async with gateway(stock, file, watch_type=GuardWatch) as one:
        with beside(one, file) as at_one:
            await one.controller.start(plan(more=GUARDS))
            await answered(one, ["r1"])
            await at_one.arms.flush()
            at_one.labels.take("small", "r1", NEITHER)
            await one.tick(1)
            assert losses(one)["labelled"] == 0, "seen, and left for the next look"
            await one.tick(1)
            assert losses(one)["labelled"] == 1


@pytest.mark.parametrize("is_saved", [True, False], ids=["saved", "not saved"])
async def test_a_kill_counts_nothing_twice_and_forgets_nothing(stock: Stock, file: Path, is_saved: bool) -> None:
    names = [f"r{number}" for number in range(40)]
    async with gateway(stock, file, is_clean=False, watch_type=GuardWatch) as one:
        with beside(one, file) as at_one:
            await one.controller.start(plan(more=GUARDS))
            await one.tick(1)
            await answered(one, names)
            await at_one.arms.flush()
            for name in names:
                at_one.labels.take("small", name, NEITHER)
            if is_saved:
                for _ in range(4):
                    await one.tick(SAVE_S)
                assert losses(one)["labelled"] == 40
    async with gateway(stock, file, me="again", watch_type=GuardWatch) as one:
        assert losses(one)["labelled"] == (40 if is_saved else 0)
        with beside(one, file):
            one.clock.now += LEASE_S
            for _ in range(4):
                await one.tick(1)
            assert losses(one)["labelled"] == 40


async def test_what_was_told_before_a_release_is_nothing_to_it(stock: Stock, file: Path) -> None:
    async with gateway(stock, file, watch_type=GuardWatch) as one:
        with beside(one, file) as at_one:
            await one.controller.start(plan(more=GUARDS))
            earlier = one.controller.running("small")
            await answered(one, ["old"])
            await at_one.arms.flush()
            at_one.labels.take("small", "old", NEITHER)
            at_one.metrics.take(earlier, [Report(MetricObservation(Arm.STABLE, "revenue", 1.0), "order")])
            await one.controller.command("small", Command.ABORT)
            await one.controller.start(plan(more=GUARDS))
            newest = {source.name: source.newest() for source in one.controller.late.sources}
            assert one.traffic.active["small"].evidence.late_read == newest == {"traffic": 0, "labels": 1, "metrics": 1}
            again = [Report(MetricObservation(Arm.STABLE, "revenue", 1.0), "order")]
            assert at_one.metrics.take(one.controller.running("small"), again) == 1, "an id is one of its release"
            for _ in range(3):
                await one.tick(1)
            _, revenue = one.controller.status("small")["verdict"]["findings"]
            assert (losses(one)["labelled"], revenue["stable_count"]) == (0, 1)
            assert at_one.metrics.newest() == 2, "numbers are never given twice"


async def test_a_table_that_cannot_be_read_keeps_no_release_from_its_decisions(
    stock: Stock, file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_: object) -> int:
        raise StorageError("the disk is gone")

    async with gateway(stock, file, watch_type=GuardWatch) as one:
        with beside(one, file):
            await one.controller.start(plan(more=GUARDS))
            monkeypatch.setattr(LateLabels, "newest", broken)
            before = one.controller.status("small")["in_stage_s"]
            await one.tick(2)
            assert one.controller.status("small")["in_stage_s"] > before
            assert "what came late for the release of small cannot be read: the disk is gone" in caplog.text


@pytest.mark.parametrize(
    "seen",
    [
        "no JSON",
        "7",
        '[["stable", false, 0.1, 1, "", 0.5, false, "of a later version"]]',
        '[["third", false, 0.1, 1, "", 0.5, false]]',
        '[{"of a later version": 1}]',
        '[["stable", false, "0.1", 1, "", 0.5, false]]',
        '[["stable", false, NaN, 1, "", 0.5, false]]',
        '[["stable", false, 0.1, "1", "", 0.5, false]]',
        '[["stable", false, 0.1, 1, "", 0.5, false], ["stable", 0, 0.1, 1, null, 0.5, false]]',
    ],
)
async def test_a_row_of_traffic_that_nobody_understands_keeps_no_other_source_and_no_decision(
    stock: Stock, file: Path, caplog: pytest.LogCaptureFixture, seen: str
) -> None:
    async with gateway(stock, file, watch_type=GuardWatch) as one:
        with beside(one, file) as at_one:
            await one.controller.start(plan(more=GUARDS))
            release = one.controller.running("small")
            at_one.metrics.take(release, [Report(MetricObservation(Arm.STABLE, "revenue", 1.0))])
            with writing(one.store.engine) as connection:
                connection.execute(insert(TRAFFIC).values(release=release.id, gateway="later", first=0, seen=seen))
            for _ in range(4):
                await one.tick(1)
            told = one.controller.status("small")
            assert told["in_stage_s"] > 3
            assert told["verdict"]["findings"][1]["stable_count"] == 1
            assert "a row of traffic behind number 0 cannot be read" in told["trouble"]
            assert caplog.text.count("what came late for the release of small cannot be read") == 1, "said once"
            with writing(one.store.engine) as connection:
                connection.execute(delete(TRAFFIC))
            await one.tick(1)
            assert one.controller.status("small")["trouble"] is None


@pytest.mark.parametrize("damage", [{"arm": "third"}, {"value": "much"}, {"value": float("inf")}], ids=str)
async def test_a_metric_that_nobody_understands_keeps_no_label_from_the_guards(
    stock: Stock, file: Path, damage: dict[str, object]
) -> None:
    async with gateway(stock, file, watch_type=GuardWatch) as one:
        with beside(one, file) as at_one:
            one.controller.late.sources.reverse()  # metrics first
            await one.controller.start(plan(more=GUARDS))
            at_one.metrics.take(
                one.controller.running("small"), [Report(MetricObservation(Arm.STABLE, "revenue", 1.0))]
            )
            with writing(one.store.engine) as connection:
                for column, value in damage.items():  # past the types of SQLAlchemy, as a damaged file would be
                    connection.execute(text(f"UPDATE {REPORTED.name} SET {column} = :value"), {"value": value})
            await answered(one, ["r1"])
            await at_one.arms.flush()
            at_one.labels.take("small", "r1", NEITHER)
            for _ in range(3):
                await one.tick(1)
            assert losses(one)["labelled"] == 1
            assert "a row of metrics behind number 0" in one.controller.status("small")["trouble"]


class Said:
    """A source with three rows, which cannot be asked for one thing or the other."""

    def __init__(self, name: str, broken: str = "") -> None:
        self.name = name
        self.broken = broken

    def newest(self) -> int:
        if self.broken == "newest":
            raise StorageError(f"{self.name} is damaged")
        return 3

    def read(self, _: Release, after: int, until: int, at_most: int) -> list[LateRow]:
        if self.broken == "read":
            raise StorageError(f"{self.name} is damaged")
        said = MetricObservation(Arm.CANDIDATE, self.name, 1.0)
        return [LateRow(number, said) for number in range(after + 1, until + 1)]


@pytest.mark.parametrize("broken", ["newest", "read"])
async def test_a_table_that_cannot_be_read_keeps_no_other_from_the_guards(broken: str) -> None:
    release = Release(1, plan(more=GUARDS), ReleaseState(Status.RUNNING, 0.5, 0), {}, 0, 0)
    active, late = ActiveRelease(release, FakeWatch), LateEvidence()
    sources = {name: Said(name) for name in ("labels", "traffic", "metrics")}
    late.sources += sources.values()
    await late.hand_over(active)  # a first look
    sources["labels"].broken = sources["metrics"].broken = broken
    with pytest.raises(StorageError, match="^labels is damaged; metrics is damaged$"):
        await late.hand_over(active)
    watch: Any = active.evidence.watch
    assert [one.name for one in watch.seen] == ["traffic"] * 3
    assert active.evidence.late_read["traffic"] == 3
    sources["labels"].broken = sources["metrics"].broken = ""
    await late.hand_over(active)
    assert [one.name for one in watch.seen] == ["traffic"] * 3 + ["labels"] * 3 + ["metrics"] * 3


async def test_no_release_begins_where_what_is_nothing_to_it_cannot_be_told() -> None:
    late = LateEvidence()
    late.sources += [Said("labels", "newest"), Said("traffic")]
    with pytest.raises(StorageError, match="labels is damaged"):
        await late.marks()


@pytest.mark.parametrize("is_taken", [False, True], ids=["while it is read", "while the guards take it"])
async def test_what_is_restored_while_rows_are_handed_over_is_read_on_from_where_it_was_saved(is_taken: bool) -> None:
    """As who takes over does beside the tick; what was saved knows no row yet."""
    loop, is_restored = asyncio.get_running_loop(), False

    def restore() -> None:
        nonlocal is_restored
        if not is_restored:
            is_restored = True
            active.restore(release, release.state)

    class Watch(FakeWatch):
        def observe(self, observation: AnyObservation) -> None:
            super().observe(observation)
            if is_taken and source.newest_row == 2:
                loop.call_soon(restore)

    class Source:
        name = "said"
        newest_row = 1

        def newest(self) -> int:
            return self.newest_row

        def read(self, _: Release, after: int, until: int, at_most: int) -> list[LateRow]:
            if not is_taken and self.newest_row == 2:
                restore()
            said = MetricObservation(Arm.CANDIDATE, "revenue", 1.0)
            return [LateRow(number, said) for number in range(after + 1, min(until, after + at_most) + 1)]

    release = Release(1, plan(more=GUARDS), ReleaseState(Status.RUNNING, 0.5, 0), {}, 0, 0)
    active, late, source = ActiveRelease(release, Watch), LateEvidence(), Source()
    late.sources.append(source)
    for _ in range(2):
        await late.hand_over(active)
    assert active.evidence.late_read == {"said": 1}
    source.newest_row = 2
    for _ in range(2):
        await late.hand_over(active)
    assert is_restored
    await late.hand_over(active)
    assert len(active.evidence.watch.seen) == 2  # type: ignore[attr-defined]
    assert active.evidence.late_read == {"said": 2}


LABELS = 30


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_gateway_that_is_killed_right_after_its_reply_has_lost_nothing(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    bundles = {1: make_bundle(tmp_path / "1", 1), 2: make_bundle(tmp_path / "2", 2, is_other=True)}
    for bundle in bundles.values():
        calibrate(bundle.root)
    words = ("gateway", "run", str(bundles[1].root), "--grpc-port", "0", "--http-port", "0")
    metrics = [
        {"name": "revenue", "value": 1.0, "release": str(arm), "id": f"{arm} {number}"}
        for arm in Arm
        for number in range(LABELS)
    ]
    path = "/admin/releases/small/metrics"
    with started(home, *words) as gateway, admin_of(home, gateway) as admin:
        push(admin, bundles[2].root, tmp_path)
        admin.post("/admin/releases", {"plan": f'model = "small"\nstable = 1\ncandidate = 2\n{GUARDS}'})
        with connect(gateway.grpc) as client:
            for number in range(LABELS):
                client.infer(InferenceRequest("small", row(), id=f"r{number}"))
        labels = [{"model": "small", "request_id": f"r{number}", "label": NEITHER} for number in range(LABELS)]
        assert admin.post(path, {"metrics": metrics}) == {"taken": 2 * LABELS, "known": 0}
        told = admin.post("/admin/feedback", {"labels": labels})["labels"]
        gateway.process.kill()
        gateway.process.wait()
        assert {one["taken"] for one in told} == {"accepted"}, "also of requests that were answered just before"
    with started(home, *words) as gateway, admin_of(home, gateway) as admin:
        assert {one["taken"] for one in admin.post("/admin/feedback", {"labels": labels})["labels"]} == {"known"}
        assert admin.post(path, {"metrics": metrics}) == {"taken": 0, "known": 2 * LABELS}
        ended = wait_for(admin, lambda told: revenue_of(told)["candidate_count"] == LABELS)
        assert ended["losses"]["labelled"] == LABELS
        assert revenue_of(ended)["stable_count"] == LABELS


def push(admin: AdminClient, bundle: Path, scratch: Path) -> None:
    admin.upload("/admin/registry", pack(read_bundle(bundle), scratch / "packed.tar"))


def revenue_of(told: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any]
    (found,) = (one for one in told["verdict"]["findings"] if one["metric"] == "revenue")
    return found
