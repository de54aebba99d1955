"""One way to open a database: durable before it is acknowledged, one writer at a time, errors of ours.

Which tables there are is each part's own business. Blocking: an event loop calls this on a thread.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Engine, Insert, Table, create_engine, event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from runtime.errors import StorageError, WrongUseError

# Two gateways may share a database; a writer waits so long for the other's transaction.
BUSY_TIMEOUT_S: Final = 10.0
# PostgreSQL has no lock of the whole database: whoever writes as one of ours holds this advisory one.
_WRITERS_LOCK: Final = 0x6564676577617264
# The execution option that says which transactions take SQLite's write lock when they begin.
_WRITES: Final = "edgeward_writes"


def sqlite_url(file: Path) -> str:
    """The URL of a database in one file."""
    return f"sqlite:///{file}"


def open_database(url: str) -> Engine:
    """An engine of SQLAlchemy for `url`; its folder is made where it is a file of SQLite.

    SQLite runs with a write-ahead log and `synchronous=FULL`: with NORMAL, rows that were acknowledged may be lost when the power
    fails (https://www.sqlite.org/pragma.html#pragma_synchronous). On PostgreSQL (extra `postgres`) one writer at a time, too, and a
    server that was restarted is found again. `WrongUseError` for a URL that names no database we can
    speak to, `StorageError` where it cannot be opened.
    """
    try:
        target = make_url(url)
    except ArgumentError:
        raise WrongUseError(
            f"database {url!r} is no URL; expected one such as sqlite:////var/lib/edgeward/gateway.db "
            "or postgresql+psycopg://user@host/name"
        ) from None
    is_sqlite = target.get_backend_name() == "sqlite"
    if is_sqlite and target.database and target.database != ":memory:":
        try:
            Path(target.database).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"the folder of database {target.database} cannot be made: {error}") from error
    options: dict[str, Any] = {"connect_args": {"timeout": BUSY_TIMEOUT_S}}
    if not is_sqlite:
        options = {"connect_args": {"connect_timeout": round(BUSY_TIMEOUT_S)}, "pool_pre_ping": True}
    try:
        engine = create_engine(target, **options)
    except (NoSuchModuleError, ModuleNotFoundError) as error:
        raise WrongUseError(
            f"database {target.render_as_string()} needs a driver that is not installed: {error}; "
            "for postgresql+psycopg:// install edgeward[postgres]"
        ) from error
    if is_sqlite:
        event.listen(engine, "connect", _set_up_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    with _translated(engine), engine.connect():
        pass
    return engine


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """One transaction that writes: committed at the end, rolled back on an error. It sees no half of another's.

    `StorageError` when the disk is full, the file cannot be written or read, or another writer does not end. Transactions take
    the write lock when they begin, so what was read inside still holds when it is written.
    """
    with _translated(engine), engine.execution_options(**{_WRITES: True}).begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{BUSY_TIMEOUT_S:g}s'")
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_WRITERS_LOCK})")
        yield connection


@contextmanager
def setting_up(engine: Engine) -> Iterator[Connection]:
    """As `writing`, in the constructor of what owns `engine`: where it fails nobody could close it, so its connections end."""
    try:
        with writing(engine) as connection:
            yield connection
    except BaseException:
        engine.dispose()
        raise


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A connection that sees one state of the database and keeps no writer waiting; `StorageError` as with `writing`."""
    with _translated(engine), engine.connect() as connection:
        if connection.dialect.name == "postgresql":
            connection.execution_options(
                isolation_level="REPEATABLE READ"
            )  # its default sees a new state at every statement
        yield connection


def insert_new(connection: Connection, table: Table) -> Insert:
    """An insert that leaves rows alone whose key is there already; many rows in one statement."""
    if connection.dialect.name == "postgresql":
        return postgresql.insert(table).on_conflict_do_nothing()
    return sqlite.insert(table).on_conflict_do_nothing()


def _set_up_sqlite(connection: sqlite3.Connection, record: object) -> None:
    # The driver would begin transactions by itself, and late: `_begin_sqlite` does.
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    is_writer = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if is_writer else "BEGIN DEFERRED")


@contextmanager
def _translated(engine: Engine) -> Iterator[None]:
    try:
        yield
    except PoolTimeoutError as error:
        raise StorageError(
            f"database {engine.url.render_as_string()}: no connection came free ({error}); fewer requests at once may help"
        ) from error
    except DBAPIError as error:
        raise StorageError(
            f"database {engine.url.render_as_string()} refused: {error.orig}; look at its disk space and rights, then try again"
        ) from error
