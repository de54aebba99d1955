"""The gateway's state on a real PostgreSQL: what is said of SQLite holds there too, with several gateways at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from sqlalchemy import text

from cloud_gateway.admin.client import AdminClient
from cloud_gateway.admin.key import admin_key_file, read_admin_key
from cloud_gateway.automation.answers import Suggestion
from cloud_gateway.automation.arms import ArmAnswers
from cloud_gateway.automation.labels import Labels, Taken
from cloud_gateway.automation.late_labels import LateLabels
from cloud_gateway.automation.levels import Level
from cloud_gateway.automation.queue import NewItem, ReviewQueue, Why
from cloud_gateway.automation.service import AutomationService
from cloud_gateway.automation.settings import AutomationSettings
from cloud_gateway.automation.store import AutomationStore, DecidedBy, Served
from cloud_gateway.automation.tables import ARM_ANSWERS
from cloud_gateway.guards import Arm, LabelledObservation, MetricObservation
from cloud_gateway.idempotency import Idempotent
from cloud_gateway.owned_key import ResultLimits
from cloud_gateway.release.answering import Answered, Traffic
from cloud_gateway.release.late import LateRow
from cloud_gateway.release.plan import parse_plan
from cloud_gateway.release.reported import Report, ReportedMetrics
from cloud_gateway.release.state import ReleaseState, Status
from cloud_gateway.release.steps import begin
from cloud_gateway.release.store import ReleaseStore
from cloud_gateway.rollout.store import Outcome, Promoted
from runtime.errors import ConflictError, InvalidInputError, StorageError
from runtime.serving.service import InferenceService
from runtime.store import insert_new, open_database, reading, writing
from runtime.wire.values import InferenceRequest, InferenceResponse
from tests import postgresql
from tests.cloud_gateway.release.test_plan import LEAST
from tests.programs import PATIENCE_S, started

pytestmark = pytest.mark.slow
PLAN = parse_plan(LEAST)
GATEWAYS, CHANGES = 4, 25
_numbers = count()


@pytest.fixture(scope="module")
def server() -> Iterator[postgresql.Server]:
    if (reason := postgresql.why_not()) is not None:
        pytest.skip(reason)
    with postgresql.server() as running:
        yield running


@pytest.fixture
def url(server: postgresql.Server) -> str:
    return server.new_database(f"test{next(_numbers)}")


def make_store(url: str, me: str = "me") -> ReleaseStore:
    store = ReleaseStore(open_database(url), me)
    store.beat(None, 0.0)
    return store


def test_a_release_is_found_as_it_was_left(url: str) -> None:
    store = make_store(url)
    release = store.start(PLAN, begin(PLAN))
    release = store.change(release, ReleaseState(Status.RUNNING, 0.05, 1, 1.5, "well"), "advance", {}, {"counts": 1})
    store.save(release, replace(release.state, in_stage_s=7.0), {"counts": 5})
    with pytest.raises(ConflictError, match="has a release already"):
        store.start(PLAN, begin(PLAN))
    store.close()
    again = make_store(url)
    [found] = again.releases(only_alive=True)
    assert (found.plan, found.state.in_stage_s, found.evidence) == (PLAN, 7.0, {"counts": 5})
    assert [line.event for line in again.audit()] == ["start", "advance"]
    assert again.current() == {"digits": 1}
    again.close()


def test_metrics_and_whole_labels_are_numbered_and_count_once(url: str) -> None:
    store = make_store(url)
    release = store.start(PLAN, begin(PLAN))
    engine = open_database(url)
    metrics = ReportedMetrics(engine)
    reports = [Report(MetricObservation(arm, "clicks", 1.0), f"order {arm}") for arm in Arm]
    assert (metrics.take(release, reports), metrics.take(release, reports)) == (2, 0)
    assert [row.observation for row in metrics.read(release, 0, metrics.newest(), 10)] == [
        report.observation for report in reports
    ]
    answers = AutomationStore(engine, [], time.time)
    served = Served("digits", "r1", "1", "", 1, Suggestion(7, 0.9), DecidedBy.MODEL)
    answers.record([served])
    with writing(answers.engine) as connection:
        row = {"model": "digits", "request_id": "r1", "release": release.id, "arm": "stable", "segment": "", "at": 0.0}
        connection.execute(insert_new(connection, ARM_ANSWERS), [{**row, "answer": 7}])
    assert Labels(answers).take("digits", "r1", 3).taken is Taken.ACCEPTED
    late = LateLabels(answers)
    assert late.read(release, 0, late.newest(), 10) == [LateRow(1, LabelledObservation(1.0, None))]
    engine.dispose()
    store.close()


async def test_an_answer_that_it_would_refuse_does_not_block_the_others(url: str) -> None:
    store, traffic = AutomationStore(open_database(url), [], time.time), Traffic()
    arms = ArmAnswers(store, traffic)
    assert traffic.on_answer is not None
    for request_id, value in (
        ("r" * 257, 1.0),
        ("r\0", 1.0),
        ("r\ud800", 1.0),
        ("nan", float("nan")),
        ("r" * 256, 3.0),
    ):
        outputs = {"y": np.array([[value]])}
        traffic.on_answer(Answered("digits", "1", 1, Arm.STABLE, request_id, "", outputs, False))
    await arms.flush()
    assert arms.lost == 3
    for kept in ("r" * 256, "nan"):
        assert Labels(store).take("digits", kept, 3).taken is Taken.ACCEPTED
    store.engine.dispose()


def test_waves_advance_once_though_two_gateways_hear_of_the_devices_at_once(url: str) -> None:
    stores = [ReleaseStore(open_database(url), me) for me in ("one", "two")]
    devices = [f"camera-{number}" for number in range(24)]
    for device in devices:
        stores[0].rollouts.offered(device, ["m"])
    with writing(stores[0].engine) as connection:
        stores[0].rollouts.begin_in(connection, Promoted(1, "m", 1, 2, (0.1, 0.5, 1.0), 0.01, 0.05))

    def sync(at: int) -> None:
        for turn in range(12):
            for device in devices[at::2]:
                rollouts = stores[(at + turn) % 2].rollouts
                if rollouts.offered(device, ["m"]).get("m") == 2:
                    rollouts.report(device, "m", 2, Outcome.KEPT, "")

    threads = [threading.Thread(target=sync, args=(at,)) for at in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    told = stores[1].rollouts.describe(1)
    assert told is not None
    assert told["status"] == "done"
    assert [line.event for line in stores[1].audit()] == ["waves_begin", "waves_advance", "waves_advance", "waves_done"]
    assert stores[1].check_audit()[2] is None
    for store in stores:
        store.close()


def test_the_audit_log_is_only_ever_added_to(url: str) -> None:
    store = make_store(url)
    store.start(PLAN, begin(PLAN))
    for statement in ("UPDATE audit SET event = 'x'", "DELETE FROM audit", "TRUNCATE audit"):
        engine = open_database(url)
        with pytest.raises(StorageError, match="append-only"), writing(engine) as connection:
            connection.execute(text(statement))
        engine.dispose()
    assert store.check_audit()[2] is None
    store.close()


def test_gateways_that_start_and_write_at_once_make_one_chain(url: str) -> None:
    failed: list[BaseException] = []
    barrier = threading.Barrier(GATEWAYS)

    def gateway(number: int) -> None:
        try:
            barrier.wait(30)
            engine = open_database(url)
            store = ReleaseStore(engine, f"gateway-{number}")
            for change in range(CHANGES):
                with writing(engine) as connection:
                    store.note_in(connection, "noted", "digits", {"gateway": number, "change": change})
            store.close()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=gateway, args=(number,)) for number in range(GATEWAYS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failed == []
    store = make_store(url)
    lines = store.audit()
    assert len(lines) == GATEWAYS * CHANGES
    assert store.check_audit()[2] is None
    store.close()


def test_one_of_two_leads(url: str) -> None:
    first, second = ReleaseStore(open_database(url), "first"), ReleaseStore(open_database(url), "second")
    assert first.beat(None, 0.0)[0]
    leads, leader, _ = second.beat(None, 0.0)
    assert (leads, leader) == (False, "first")
    with pytest.raises(ConflictError, match="first"):
        second.start(PLAN, begin(PLAN))
    first.give_back()
    assert second.beat(None, 0.0)[0]
    second.start(PLAN, begin(PLAN))
    first.close()
    second.close()


def test_a_server_that_was_away_is_found_again_with_all_that_was_acknowledged(
    server: postgresql.Server, url: str
) -> None:
    store = make_store(url)
    release = store.start(PLAN, begin(PLAN))
    server.stop()
    try:
        with pytest.raises(StorageError, match="refused"):
            store.save(release, release.state, {"counts": 1})
    finally:
        server.start()
    store.save(release, release.state, {"counts": 2})
    [found] = store.releases(only_alive=True)
    assert found.evidence == {"counts": 2}
    store.close()


def test_a_reader_sees_one_state(url: str) -> None:
    engine = open_database(url)
    with writing(engine) as connection:
        connection.execute(text("CREATE TABLE numbers (value integer)"))
    with reading(engine) as connection:
        assert connection.execute(text("SELECT count(*) FROM numbers")).scalar() == 0
        with writing(engine) as other:
            other.execute(text("INSERT INTO numbers VALUES (1)"))
        assert connection.execute(text("SELECT count(*) FROM numbers")).scalar() == 0
    engine.dispose()


def test_reviews_labels_and_levels(url: str) -> None:
    settings = AutomationSettings(model="digits", start_level=Level.SHADOW, margin=0.05, selective_risk=0.1)
    engine = open_database(url)
    store = AutomationStore(engine, [settings], time.time)
    queue, labels = ReviewQueue(store), Labels(store)
    served = Served("digits", "r1", "1", "", 1, Suggestion(7, 0.97), DecidedBy.HUMAN_PENDING)
    item = queue.put(served, NewItem(Level.SHADOW, Why.LEVEL, True, 1, "image", ""))
    assert queue.item(item).is_open
    queue.answer(item, "007", "ann")
    assert not queue.item(item).is_open
    others = [replace(served, request_id=f"r{number}", decided_by=DecidedBy.MODEL) for number in (2, 3)]
    store.record(others)
    store.record(others)
    assert labels.take("digits", "r2", 7).taken is Taken.ACCEPTED
    assert labels.take("digits", "r2", 8).taken is Taken.REFUSED
    store.move("digits", "", Level.ASSIST, "trusted", "ann")
    assert AutomationStore(engine, [settings], time.time).standing("digits", "").level is Level.ASSIST
    assert store.history()[0]["event"] == "moved_by_hand"
    with pytest.raises(StorageError, match="append-only"), writing(engine) as connection:
        connection.execute(text("DELETE FROM automation_log"))
    engine.dispose()


async def test_what_callers_and_models_say_of_texts_is_kept_or_refused_and_blocks_nothing(url: str) -> None:
    class Model:
        said: object = 7.5

        async def infer(self, request: InferenceRequest) -> InferenceResponse:
            return InferenceResponse(request.model, "1", {"y": np.array([[self.said]], object)}, request.id)

    class Always:
        def random(self) -> float:
            return 0.0

    class Never:
        def random(self) -> float:
            return 1.0

    settings = AutomationSettings(
        model="digits", start_level=Level.FULL, highest_level=Level.FULL, margin=0.05, selective_risk=0.1
    )
    engine, model = open_database(url), Model()
    store = AutomationStore(engine, [settings], time.time)
    inputs = {"x\0": np.array([b"a\0"], object)}
    quiet = AutomationService(cast(InferenceService, model), store, lambda *_: None, Never())
    for id_, parameters in (("a\0", {}), ("a\ud800", {}), ("a", {"segment": "\0"}), ("a", {"input_reference": "\0"})):
        with pytest.raises(InvalidInputError, match="which no database keeps"):
            await quiet.infer(InferenceRequest("digits", inputs, id=id_, parameters=parameters))
    for said in (7.5, float("nan"), float("inf"), b"cat\0", "dog\ud800"):
        model.said = said
        await quiet.infer(InferenceRequest("digits", inputs, id=repr(said)))
    await quiet.close()
    assert quiet.lost_records == 0
    audited = AutomationService(cast(InferenceService, model), store, lambda *_: None, Always())
    response = await audited.infer(InferenceRequest("digits", inputs, id="seen"))
    queue, labels = ReviewQueue(store), Labels(store)
    item = str(response.parameters["review_id"])
    for reviewer, answer in (("ann\0", 7), ("ann", "\0"), ("ann", "\ud800")):
        with pytest.raises(InvalidInputError, match="which no database keeps"):
            queue.answer(item, answer, reviewer)
    queue.answer(item, 7, "ann")
    assert labels.take("digits", "r\0", 7).taken is Taken.REFUSED
    for id_, truth in (("7.5", 7.5), ("nan", "nan"), ("inf", 3), (repr(b"cat\0"), "cat\ufffd")):
        assert labels.take("digits", id_, truth).taken is Taken.ACCEPTED
    assert [[row.is_right for row in one.rows] for one in labels.known(4)] == [[True], [True], [False], [True]]
    engine.dispose()


async def test_gateways_that_share_it_run_a_key_once(url: str) -> None:
    runs = 0

    async def infer(request: InferenceRequest) -> InferenceResponse:
        nonlocal runs
        runs += 1
        return InferenceResponse(request.model, "1", {"run": np.array([runs])})

    request = InferenceRequest("m", {"x": np.zeros(1)}, parameters={"idempotency_key": "k"})
    answers = []
    for _ in range(2):
        once = Idempotent(infer, url, ResultLimits(max_results=2))
        answers.append(int((await once.infer(request)).outputs["run"][0]))
        for other in ("a", "b"):
            await once.infer(replace(request, parameters={"idempotency_key": f"{len(answers)}{other}"}))
        await once.close()
    assert answers == [1, 4], "forgotten to make room, as on SQLite"
    once, again = Idempotent(infer, url), Idempotent(infer, url)
    assert (await once.infer(request)).outputs["run"][0] == (await again.infer(request)).outputs["run"][0]
    await once.close()
    await again.close()


def test_a_gateway_keeps_its_levels_there_over_a_kill(url: str, tmp_path: Path) -> None:
    config = tmp_path / "gateway.toml"
    config.write_text(f'database = "{url}"\n[[automation]]\nmodel = "digits"\nstart_level = "shadow"\n')
    run = ("gateway", "run", "digits", "--grpc-port", "0", "--http-port", "0", "--config", str(config))
    with started(tmp_path, *run) as gateway:
        key = read_admin_key(admin_key_file(tmp_path))
        with AdminClient(gateway.admin.removeprefix("http://"), key) as admin:
            told = {"level": "assist", "reason": "trusted", "by": "ann"}
            assert admin.post("/admin/automation/digits/level", told)["level"] == "assist"
        gateway.process.kill()
        gateway.process.wait(PATIENCE_S)
    with started(tmp_path, *run) as gateway, AdminClient(gateway.admin.removeprefix("http://"), key) as admin:
        assert [one["level"] for one in admin.get("/admin/automation")["standings"]] == ["assist"]
        assert [one["event"] for one in admin.get("/admin/audit")["lines"]] == ["automation.moved_by_hand"]
    assert not (tmp_path / "gateway" / "gateway.db").exists()
