"""The spool on disk: kept once acknowledged, bounded, one result a key, and neither a full disk nor a wrong clock empties it."""

import sqlite3
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest
from sqlalchemy import event, text

from edge_agent.spool.policy import SpoolLimits, WhenFull
from edge_agent.spool.store import Entry, SpoolStore, State, Submission
from runtime.errors import ConflictError, EdgewardError, InvalidInputError, OverloadedError, StorageError
from runtime.store import reading, writing


class Clock:
    def __init__(self) -> None:
        self.wall = 1.0e9
        self.steady = 0.0

    def store(self, file: Path, **limits: object) -> SpoolStore:
        return SpoolStore(file, SpoolLimits(**limits), lambda: self.wall, lambda: self.steady)  # type: ignore[arg-type]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "spool.db"


def add(store: SpoolStore, key: str, payload: bytes = b"x" * 10, model: str = "m", digest: str = "") -> Entry:
    (outcome,) = store.add([Submission(key, digest or key, model, payload)])
    if isinstance(outcome, EdgewardError):
        raise outcome
    return outcome


def test_oldest_first_and_one_model_does_not_wait_for_another(clock: Clock, file: Path) -> None:
    store = clock.store(file)
    entries = [add(store, key, model=model) for key, model in (("a", "m"), ("b", "m"), ("c", "n"))]
    assert [head.key for head in store.heads()] == ["a", "c"]
    store.finish(entries[0].number, b"result")
    assert [head.key for head in store.heads()] == ["b", "c"]


def test_the_same_key_is_the_same_request_and_another_payload_is_refused(clock: Clock, file: Path) -> None:
    store = clock.store(file)
    first = add(store, "a", digest="1")
    assert add(store, "a", digest="1").number == first.number
    with pytest.raises(ConflictError, match="key 'a' was used for another request"):
        add(store, "a", digest="2")
    store.finish(first.number, b"result")
    again = add(store, "a", digest="1")
    assert (again.state, again.result) == (State.DONE, b"result")
    with pytest.raises(ConflictError):
        add(store, "a", digest="2")
    assert store.describe()["accepted"] == 1


def test_a_result_is_never_replaced(clock: Clock, file: Path) -> None:
    store = clock.store(file)
    number = add(store, "a").number
    assert store.finish(number, b"first")
    assert not store.finish(number, b"second")
    assert not store.fail(number, InvalidInputError("late"))
    found = store.find("a")
    assert found is not None
    assert found.result == b"first"


def test_what_was_acknowledged_is_there_after_a_restart(clock: Clock, file: Path) -> None:
    store = clock.store(file)
    add(store, "a", b"payload")
    store.close()
    again = clock.store(file)
    assert [(head.key, head.payload) for head in again.heads()] == [("a", b"payload")]


def test_full_refuses_or_drops_the_oldest_and_counts_both(clock: Clock, file: Path) -> None:
    store = clock.store(file, max_bytes=25)
    add(store, "a")
    add(store, "b")
    with pytest.raises(OverloadedError, match="holds 20 of 25 bytes") as refused:
        add(store, "c")
    assert refused.value.retryable
    store.close()
    store = clock.store(file, max_bytes=25, when_full=WhenFull.DROP_OLDEST)
    add(store, "c")
    assert [head.key for head in store.heads()] == ["b"]
    dropped = store.find("a")
    assert dropped is not None
    assert (dropped.state, dropped.error) == (
        State.DROPPED,
        "the request was dropped: made room for newer requests in a full spool",
    )
    told = store.describe()
    assert (told["depth"], told["bytes"], told["refused"], told["dropped"]) == (2, 20, 1, 1)


def test_too_old_is_dropped_and_told_for_a_while(clock: Clock, file: Path) -> None:
    store = clock.store(file, max_age_s=100, result_ttl_s=50)
    add(store, "a")
    clock.steady = 60
    add(store, "b")
    clock.steady = 101
    assert [head.key for head in store.heads()] == ["b"]
    found = store.find("a")
    assert found is not None
    assert found.error == "the request was dropped: not answered for 100 s"
    clock.steady = 152
    store.heads()
    assert store.find("a") is None


@pytest.mark.parametrize("jump", [-1.0e9, 1.0e9])
def test_no_jump_of_the_clock_drops_everything(jump: float, clock: Clock, file: Path) -> None:
    store = clock.store(file, max_age_s=100)
    add(store, "a")
    clock.wall += jump
    assert [head.key for head in store.heads()] == ["a"], "while it runs"
    clock.wall -= jump
    store.heads()
    store.close()
    clock.wall += jump
    clock.steady = 0.0
    store = clock.store(file, max_age_s=100)
    assert [head.key for head in store.heads()] == ["a"], "over a restart"


def test_real_time_off_does_age(clock: Clock, file: Path) -> None:
    store = clock.store(file, max_age_s=100)
    add(store, "a")
    store.close()
    clock.wall += 40
    store = clock.store(file, max_age_s=100)
    assert store.describe()["oldest_age_s"] == 40


def test_results_are_kept_for_their_time_and_within_their_bytes(clock: Clock, file: Path) -> None:
    store = clock.store(file, max_bytes=30, result_ttl_s=50)
    for key in "abc":
        store.finish(add(store, key).number, b"r" * 12)
    states = [found.state for key in "abc" if (found := store.find(key)) is not None]
    assert states == [State.DROPPED, State.DONE, State.DONE]
    clock.steady = 51
    store.heads()
    assert [store.find(key) for key in "abc"] == [None] * 3


def test_a_full_disk_acknowledges_nothing_and_loses_nothing(clock: Clock, file: Path) -> None:
    store = clock.store(file)
    add(store, "kept")
    database = store._database

    def cap(connection: object, _: object) -> None:
        connection.execute("PRAGMA max_page_count=1")  # type: ignore[attr-defined]  # as many as it has, and no more

    event.listen(database, "connect", cap)
    database.dispose()
    with pytest.raises(StorageError, match="full"):
        add(store, "too much", b"x" * 1_000_000)
    assert store.find("too much") is None
    assert [head.key for head in store.heads()] == ["kept"]
    event.remove(database, "connect", cap)
    database.dispose()
    add(store, "room again", b"x" * 1_000_000)
    with writing(database) as connection:
        assert connection.execute(text("pragma integrity_check")).scalar() == "ok"


def counted(store: SpoolStore) -> dict[str, tuple[int, int]]:
    """Requests and bytes by state, summed up."""
    with reading(store._database) as connection:
        rows = connection.execute(text("SELECT state, count(*), sum(size_bytes) FROM entries GROUP BY state")).all()
        held = connection.execute(text("SELECT state, count, bytes FROM held WHERE count != 0")).all()
    found = {state: (count, size) for state, count, size in rows}
    assert {state: (count, size) for state, count, size in held} == found
    return found


def test_the_running_count_is_the_sum_whatever_happens(clock: Clock, file: Path) -> None:
    random = Random(3)
    store = clock.store(file, max_age_s=200, max_bytes=400, when_full=WhenFull.DROP_OLDEST, result_ttl_s=150)
    seen: set[str] = set()
    for number in range(300):
        match random.randrange(6):
            case 0 | 1 | 2:
                with suppress(OverloadedError):
                    add(store, f"k{number}", b"x" * random.randrange(1, 120), model=random.choice("mno"))
            case 3:
                for head in store.heads()[:1]:
                    store.finish(head.number, b"r" * random.randrange(1, 150))
            case 4:
                for head in store.heads()[-1:]:
                    store.fail(head.number, InvalidInputError("no"))
            case _:
                clock.steady += random.randrange(60)
        seen |= set(counted(store))
        if number % 50 == 49:
            store.close()
            clock.steady = 0.0
            store = clock.store(file, max_age_s=200, max_bytes=400, when_full=WhenFull.DROP_OLDEST, result_ttl_s=150)
            counted(store)
    assert seen == set(State)


def test_a_change_that_is_undone_does_not_count(clock: Clock, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = clock.store(file)
    add(store, "a")

    def fail(*_: object) -> None:
        raise StorageError("full")

    with monkeypatch.context() as broken:
        broken.setattr(SpoolStore, "_count", fail)
        with pytest.raises(StorageError, match="full"):
            add(store, "b")
    assert counted(store) == {"waiting": (1, 10)}


def test_a_spool_of_an_earlier_version_is_counted_when_it_is_opened(clock: Clock, file: Path) -> None:
    store = clock.store(file, max_bytes=25)
    add(store, "a")
    add(store, "b")
    with writing(store._database) as connection:
        for name in ("insert", "update", "delete"):
            connection.execute(text(f"DROP TRIGGER held_{name}"))
        connection.execute(text("DROP TABLE held"))
    store.close()
    store = clock.store(file, max_bytes=25)
    assert counted(store) == {"waiting": (2, 20)}
    with pytest.raises(OverloadedError, match="holds 20 of 25 bytes"):
        add(store, "c")


def test_a_put_costs_no_more_steps_of_the_database_where_much_waits(clock: Clock, file: Path) -> None:
    store = clock.store(file)

    def steps_of(work: Callable[[], object]) -> int:
        steps = 0

        def on_step() -> int:
            nonlocal steps
            steps += 1
            return 0

        watch = partial(_watch, on_step)
        event.listen(store._database, "checkout", watch)
        work()
        event.remove(store._database, "checkout", watch)
        event.listen(store._database, "checkout", _watch_no_more)
        store.describe()
        event.remove(store._database, "checkout", _watch_no_more)
        return steps

    def put(key: str) -> None:
        add(store, key)

    put("first")
    few = steps_of(lambda: put("second")), steps_of(store.heads)
    store.add([Submission(f"k{number}", "d", "m", b"x") for number in range(3000)])
    many = steps_of(lambda: put("last")), steps_of(store.heads)
    assert all(later < 3 * sooner for sooner, later in zip(few, many, strict=True)), (few, many)


def _watch(on_step: Callable[[], int], connection: Any, *_: object) -> None:
    connection.set_progress_handler(on_step, 10)


def _watch_no_more(connection: Any, *_: object) -> None:
    connection.set_progress_handler(None, 0)


@pytest.mark.parametrize("end", ["age", "room"])
def test_more_can_be_dropped_at_once_than_a_statement_takes_variables(clock: Clock, file: Path, end: str) -> None:
    store = clock.store(file, max_age_s=100.0, max_bytes=1000, when_full=WhenFull.DROP_OLDEST)
    # SQLite's own limit is 32,766, which a week of requests passes.
    event.listen(store._database, "checkout", lambda one, *_: one.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, 40))
    for number in range(100):
        add(store, f"k{number}")
    if end == "age":
        clock.steady += 101.0
    add(store, "new", payload=b"x" * 1000 if end == "room" else b"x")
    assert [head.key for head in store.heads()] == ["new"]
    assert store.describe()["dropped"] == 100
