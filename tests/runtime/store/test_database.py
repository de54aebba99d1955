"""Databases keep what they acknowledged, let one writer in at a time, and fail with errors of ours."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest
from sqlalchemy import Column, Integer, MetaData, Table, insert, select, text
from sqlalchemy.pool import QueuePool

from runtime.errors import StorageError, WrongUseError
from runtime.store import open_database, reading, sqlite_url, writing

TABLES = MetaData()
NUMBERS = Table("numbers", TABLES, Column("value", Integer, primary_key=True))

WRITE_UNTIL_KILLED = """
import sys
from pathlib import Path
from sqlalchemy import text
from runtime.store import open_database, sqlite_url, writing
engine = open_database(sqlite_url(Path(sys.argv[1])))
with writing(engine) as connection:
    connection.execute(text("create table numbers (value integer primary key)"))
for value in range(1_000_000):
    with writing(engine) as connection:
        connection.execute(text("insert into numbers values (:value)"), {"value": value})
    print(value, flush=True)
"""


def test_sqlite_is_set_up_to_keep_what_it_acknowledged(tmp_path: Path) -> None:
    engine = open_database(sqlite_url(tmp_path / "new" / "folder" / "a.db"))
    with engine.connect() as connection:
        assert connection.execute(text("pragma journal_mode")).scalar() == "wal"
        assert connection.execute(text("pragma synchronous")).scalar() == 2
        assert connection.execute(text("pragma foreign_keys")).scalar() == 1


def test_an_error_rolls_back_and_nothing_of_it_is_seen(tmp_path: Path) -> None:
    engine = open_database(sqlite_url(tmp_path / "a.db"))
    TABLES.create_all(engine)

    def fail_midway() -> None:
        with writing(engine) as connection:
            connection.execute(insert(NUMBERS).values(value=1))
            raise RuntimeError("midway")

    with pytest.raises(RuntimeError, match="midway"):
        fail_midway()
    with reading(engine) as connection:
        assert connection.execute(select(NUMBERS)).all() == []


def test_writers_wait_for_each_other_and_lose_no_update(tmp_path: Path) -> None:
    engine = open_database(sqlite_url(tmp_path / "a.db"))
    TABLES.create_all(engine)
    with writing(engine) as connection:
        connection.execute(insert(NUMBERS).values(value=0))

    def count_up() -> None:
        for _ in range(20):
            with writing(engine) as connection:
                value = connection.execute(select(NUMBERS.c.value)).scalar_one()
                connection.execute(NUMBERS.update().values(value=value + 1))

    threads = [threading.Thread(target=count_up) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with reading(engine) as connection:
        assert connection.execute(select(NUMBERS.c.value)).scalar_one() == 60


def test_a_reader_and_a_writer_do_not_wait_for_each_other(tmp_path: Path) -> None:
    engine = open_database(sqlite_url(tmp_path / "a.db"))
    TABLES.create_all(engine)
    with reading(engine) as reader:
        assert reader.execute(select(NUMBERS)).all() == []
        with writing(engine) as writer:
            writer.execute(insert(NUMBERS).values(value=1))
        assert reader.execute(select(NUMBERS)).all() == [], "it sees the state of its beginning"
    with reading(engine) as reader:
        assert reader.execute(select(NUMBERS)).all() == [(1,)]


@pytest.mark.slow
def test_what_was_acknowledged_is_there_after_a_kill(tmp_path: Path) -> None:
    file = tmp_path / "a.db"
    process = subprocess.Popen([sys.executable, "-c", WRITE_UNTIL_KILLED, str(file)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    said = [int(process.stdout.readline()) for _ in range(30)]
    process.send_signal(signal.SIGKILL)
    said += [int(line) for line in process.stdout.read().split()]
    process.wait(timeout=10)
    process.stdout.close()
    with open_database(sqlite_url(file)).connect() as connection:
        kept = [row[0] for row in connection.execute(text("select value from numbers order by value"))]
    assert kept[: len(said)] == said
    assert len(kept) <= len(said) + 1


def test_a_url_that_is_none_says_what_one_looks_like() -> None:
    with pytest.raises(WrongUseError, match="expected one such as sqlite:"):
        open_database("gateway.db")
    with pytest.raises(WrongUseError, match="driver that is not installed"):
        open_database("nosuchdatabase://host/name")


def test_a_password_is_not_shown() -> None:
    with pytest.raises(WrongUseError) as caught:
        open_database("nosuchdatabase://user:hunter2@host/name")
    assert "hunter2" not in str(caught.value)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.db"
    file.write_bytes(os.urandom(4096))
    with pytest.raises(StorageError, match="not a database"):
        open_database(sqlite_url(file))


def test_a_full_database_fails_with_a_storage_error_and_keeps_what_it_had(tmp_path: Path) -> None:
    engine = open_database(sqlite_url(tmp_path / "a.db"))
    TABLES.create_all(engine)
    with writing(engine) as connection:
        connection.execute(insert(NUMBERS).values(value=1))
    with engine.connect() as connection:
        pages = connection.execute(text("pragma page_count")).scalar_one()

    def write_too_much() -> None:
        with writing(engine) as connection:
            connection.exec_driver_sql(f"pragma max_page_count={pages}")
            connection.execute(insert(NUMBERS), [{"value": value} for value in range(2, 100_000)])

    with pytest.raises(StorageError, match="full"):
        write_too_much()
    with reading(engine) as connection:
        assert connection.execute(select(NUMBERS)).all() == [(1,)]


def test_without_a_free_connection_the_database_refuses(tmp_path: Path) -> None:
    engine = open_database(sqlite_url(tmp_path / "some.db"))
    pool = engine.pool
    assert isinstance(pool, QueuePool)
    pool._timeout = 0.01
    with ExitStack() as taken:
        for _ in range(pool.size() + pool._max_overflow):
            taken.enter_context(engine.connect())
        with pytest.raises(StorageError, match="no connection came free"), reading(engine):
            pass
    engine.dispose()
