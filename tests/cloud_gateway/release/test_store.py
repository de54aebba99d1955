"""The database of releases: one transaction and one line of the log each, whole after any kill, and tampering shows."""

import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from threading import Event

import pytest
from sqlalchemy import text

from cloud_gateway.release.chain import GENESIS, first_break, next_line
from cloud_gateway.release.plan import parse_plan
from cloud_gateway.release.state import ReleaseState, Status
from cloud_gateway.release.steps import begin
from cloud_gateway.release.store import Release, ReleaseStore
from runtime.errors import ConflictError, ModelNotFoundError, StorageError
from runtime.store import open_database, sqlite_url, writing
from tests.cloud_gateway.release.test_plan import LEAST

PLAN = parse_plan(LEAST)
ROOT = Path(__file__).resolve().parents[3]


def make_store(file: Path, me: str = "me") -> ReleaseStore:
    store = ReleaseStore(open_database(sqlite_url(file)), me)
    store.beat(None, 0.0)
    return store


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "gateway.db"


@pytest.fixture
def store(file: Path) -> ReleaseStore:
    return make_store(file)


def advanced(store: ReleaseStore, release: Release, share: float, stage: int) -> Release:
    state = ReleaseState(Status.RUNNING, share, stage, 1.5, "going well")
    return store.change(release, state, "advance", {"verdict": {"n": 3}}, {"counts": stage})


def test_a_release_is_found_as_it_was_left(store: ReleaseStore, file: Path) -> None:
    release = advanced(store, store.start(PLAN, begin(PLAN)), 0.05, 1)
    store.save(release, replace(release.state, in_stage_s=7.0), {"counts": 5})
    [found] = make_store(file).releases(only_alive=True)
    assert found.plan == PLAN
    assert found.state == replace(release.state, in_stage_s=7.0)
    assert found.evidence == {"counts": 5}
    assert store.current() == {"digits": 1}
    assert [line.event for line in store.audit()] == ["start", "advance"]
    assert json.loads(store.audit()[1].document)["verdict"] == {"n": 3}
    assert store.newest("digits").id == release.id
    with pytest.raises(ModelNotFoundError, match="edgeward release start"):
        store.newest("other")


def test_one_release_a_model(store: ReleaseStore) -> None:
    first = store.start(PLAN, begin(PLAN))
    with pytest.raises(ConflictError, match="has a release already: number 1, running"):
        store.start(PLAN, begin(PLAN))
    ended = store.change(first, replace(first.state, status=Status.PROMOTED, share=1.0), "finish", {}, {})
    assert store.current() == {"digits": 2}
    with pytest.raises(ConflictError, match="has ended meanwhile"):
        store.change(ended, first.state, "advance", {}, {})
    assert store.start(parse_plan('model = "digits"\nstable = 2\ncandidate = 3'), begin(PLAN)).id > first.id
    assert [line.event for line in store.audit()] == ["start", "finish", "start"]


@pytest.fixture
def two(store: ReleaseStore) -> list[Release]:
    """One that a test spoils, and one of another model."""
    other = PLAN.model_copy(update={"model": "other"})
    return [store.start(PLAN, begin(PLAN)), store.start(other, begin(other))]


def spoil(store: ReleaseStore, statement: str) -> None:
    with writing(store.engine) as connection:
        connection.execute(text(f"update releases set {statement} where id = 1"))


def test_a_status_that_only_a_later_version_knows_counts_as_one_that_runs(
    store: ReleaseStore, two: list[Release]
) -> None:
    spoil(store, "status = 'observing'")
    look = store.look()
    assert list(look.alive) == ["other"]
    assert look.unreadable["digits"].status == "observing"
    assert (1, "observing", two[0].state.share) in store.standing()
    with pytest.raises(ConflictError, match="has a release already: number 1, observing"):
        store.start(PLAN, begin(PLAN))
    aborted = replace(two[0].state, status=Status.ABORTED, share=0.0)
    assert store.change(two[0], aborted, "abort", {}, {}).state == aborted, "whoever knew it before may end it"
    assert store.look().unreadable == {}


@pytest.mark.parametrize(
    ("statement", "why"),
    [
        ("evidence = '[]'", "its evidence is a list; expected an object"),
        ("evidence = 'null'", "its evidence is a NoneType; expected an object"),
        ("evidence = cast(x'ff' as text)", "Could not decode"),
        ("plan = cast(x'ff' as text)", "Could not decode"),
    ],
)
def test_one_that_is_damaged_hides_no_other(store: ReleaseStore, two: list[Release], statement: str, why: str) -> None:
    spoil(store, statement)
    look = store.look()
    assert list(look.alive) == ["other"]
    assert "release 1 in the database cannot be read" in look.unreadable["digits"].why
    assert why in look.unreadable["digits"].why
    assert [one.id for one in store.found(limit=1)] == [two[1].id]
    with pytest.raises(StorageError, match=why):
        store.newest("digits")


@pytest.mark.parametrize(
    ("statement", "model", "status", "why"),
    [
        ("model = cast(x'64ff' as text)", "d\ufffd", "running", "Could not decode"),
        ("model = x'64ff'", "d\ufffd", "running", "its model is a bytes; expected a text"),
        ("status = cast(x'ff' as text)", "digits", "\ufffd", "Could not decode"),
        ("status = x'ff'", "digits", "\ufffd", "is not a valid Status"),
    ],
)
def test_one_whose_name_or_status_is_no_text_hides_no_other(
    store: ReleaseStore, two: list[Release], statement: str, model: str, status: str, why: str
) -> None:
    spoil(store, statement)
    look = store.look()
    assert list(look.alive) == ["other"]
    found = look.unreadable[model]
    assert (found.id, found.status) == (1, status)
    assert why in found.why
    assert [one.id for one in store.found()] == [2, 1]
    with pytest.raises(StorageError):
        store.find(1)


def tampered(file: Path, tmp_path: Path, *statements: str) -> str | None:
    """What the check says of a copy on which somebody with the file's rights ran `statements`."""
    copy = tmp_path / f"{os.urandom(4).hex()}.db"
    with sqlite3.connect(file) as source, sqlite3.connect(copy) as target:
        source.backup(target)
    source.close()
    target.execute("drop trigger audit_refuses_update")
    target.execute("drop trigger audit_refuses_delete")
    for statement in statements:
        target.execute(statement)
    target.commit()
    target.close()
    return make_store(copy).check_audit()[2]


def test_tampering_shows(store: ReleaseStore, file: Path, tmp_path: Path) -> None:
    release = store.start(PLAN, begin(PLAN))
    for stage in range(1, 5):
        release = advanced(store, release, stage / 10, stage)
    assert store.check_audit()[2] is None
    assert tampered(file, tmp_path) is None
    changed = "update audit set document = replace(document, 'going well', 'going Well') where number = 3"
    assert tampered(file, tmp_path, changed) == "line 3 (advance) was changed: its hash is not that of its content"
    for column, value in (("unix_ms", "1"), ("event", "'promote'"), ("model", "'x'"), ("hash", f"'{GENESIS}'")):
        problem = tampered(file, tmp_path, f"update audit set {column} = {value} where number = 2")
        assert problem is not None
        assert "line 2" in problem
    assert tampered(file, tmp_path, "delete from audit where number = 3") == "line 3 is missing: line 4 follows line 2"
    gone = tampered(file, tmp_path, "delete from audit where number = 5")
    assert gone is not None
    assert "lines at its end are missing" in gone
    moved = "update audit set number = number + 100 where number = 3"
    assert tampered(file, tmp_path, moved) is not None
    cut = ("delete from audit where number = 3", "update audit set number = number - 1 where number > 3")
    assert tampered(file, tmp_path, *cut) is not None


def test_the_log_is_append_only_for_honest_programs(store: ReleaseStore, file: Path) -> None:
    store.start(PLAN, begin(PLAN))
    connection = sqlite3.connect(file)
    for statement in ("update audit set event = 'x'", "delete from audit"):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            connection.execute(statement)
    connection.close()


def test_two_lines_never_share_a_hash_by_shifting_text() -> None:
    a = next_line(1, GENESIS, 1, "ab", "c", {})
    b = next_line(1, GENESIS, 1, "a", "bc", {})
    assert a.hash != b.hash
    assert first_break([a], (1, a.hash)) is None
    assert first_break([replace(a, event="b")], (1, a.hash)) is not None
    assert first_break([], (0, GENESIS)) is None


WORK_UNTIL_KILLED = """
import json, os, sys
from pathlib import Path
from cloud_gateway.release.plan import parse_plan
from cloud_gateway.release.state import ReleaseState, Status
from cloud_gateway.release.steps import begin
from cloud_gateway.release.store import ReleaseStore
from runtime.store import open_database, sqlite_url

def say(*words):
    os.write(1, (json.dumps(words) + "\\n").encode())

def work():
    store = ReleaseStore(open_database(sqlite_url(Path(sys.argv[1]))), "worker")
    store.beat(None, 0.0)
    plan = parse_plan('model = "digits"\\nstable = 1\\ncandidate = 2')
    while True:
        alive = store.releases(only_alive=True)
        release = alive[0] if alive else store.start(plan, begin(plan))
        say(release.id, release.state.stage)
        for stage in range(release.state.stage + 1, 6):
            release = store.change(release, ReleaseState(Status.RUNNING, stage / 10, stage), "advance", {}, {"stage": stage})
            say(release.id, stage)
            store.save(release, release.state, {"stage": stage})
        release = store.change(release, ReleaseState(Status.ROLLED_BACK, 0.0, 9), "rollback", {}, {"stage": 9})
        say(release.id, 9)

while True:  # one that works and is killed after the other; what takes long, importing, is done once
    worker = os.fork()
    if not worker:
        work()
    say("worker", worker)
    os.waitpid(worker, 0)
    say("killed")
    sys.stdin.readline()
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_at_any_point_nothing_acknowledged_is_lost_and_the_log_is_whole(file: Path) -> None:
    waits = random.Random(7)
    with subprocess.Popen(
        [sys.executable, "-c", WORK_UNTIL_KILLED, str(file)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        try:
            for _ in range(25):
                lines = iter(parent.stdout.readline, "")
                told: list[list[object]] = []
                worker = 0
                # At another point each time: after some lines, and a moment more.
                for _ in range(2 + waits.randrange(25)):
                    words = json.loads(next(lines))
                    if words[0] == "worker":
                        worker = int(words[1])
                    else:
                        told.append(words)
                Event().wait(waits.random() * 0.01)
                os.kill(worker, signal.SIGKILL)
                while (words := json.loads(next(lines))) != ["killed"]:
                    told.append(words)
                check_after_kill(file, told)
                parent.stdin.write("\n")
                parent.stdin.flush()
        finally:
            parent.kill()


def check_after_kill(file: Path, told: list[list[object]]) -> None:
    number, stage = told[-1]
    assert isinstance(stage, int)
    store = make_store(file, "worker")
    found = next(release for release in store.releases() if release.id == number)
    assert found.state.stage >= stage, "what was acknowledged is there"
    assert found.evidence.get("stage", 0) == found.state.stage, "state and evidence are of one transaction"
    lines, _, problem = store.check_audit()
    assert problem is None
    assert lines == len(store.audit(limit=100_000))
    store.close()


@pytest.mark.skipif(
    shutil.which("mount") is None or os.name != "posix" or os.geteuid() != 0, reason="needs a small disk: root"
)
def test_a_full_disk_acknowledges_nothing(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.decode().strip()}")
    try:
        store = make_store(disk / "gateway.db")
        release = store.start(PLAN, begin(PLAN))
        acknowledged: list[int] = []

        def fill() -> None:
            for stage in range(1, 100_000):
                state = ReleaseState(Status.RUNNING, 0.5, stage)
                store.change(release, state, "advance", {"text": "x" * 2000}, {})
                acknowledged.append(stage)

        with pytest.raises(StorageError, match="look at its disk space"):
            fill()
        (found,) = store.releases()
        assert found.state.stage == acknowledged[-1]
        assert store.check_audit()[2] is None
        store.close()
    finally:
        subprocess.run(["umount", str(disk)], check=True)
