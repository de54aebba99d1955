"""The spool on disk: one SQLite database, whose every change is a transaction that is on disk when it returns. Blocking."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    delete,
    func,
    insert,
    select,
    text,
    update,
)

from edge_agent.spool.policy import ClockState, SpoolClock, SpoolLimits, admit
from runtime.errors import ConflictError, EdgewardError, OverloadedError
from runtime.store import open_database, reading, setting_up, sqlite_url, writing
from runtime.telemetry.elapsed import elapsed_s

log = logging.getLogger(__name__)

# An age limit that a clock's jump while the agent was off, or a machine's sleep, could use up at once would be none: half is left.
GAP_SHARE: Final = 0.5
MAX_ERROR_CHARACTERS: Final = 1000
# What may be told of one that waits for room: come back when some have been answered.
FULL_RETRY_AFTER_S: Final = 30.0

_TABLES = MetaData()
_ENTRIES = Table(
    "entries",
    _TABLES,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("key", String(128), nullable=False, unique=True),
    Column("digest", String(64), nullable=False),
    Column("model", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("payload", LargeBinary),
    Column("result", LargeBinary),
    Column("size_bytes", Integer, nullable=False),
    Column("accepted_s", Float, nullable=False),
    Column("finished_s", Float),
    Column("attempts", Integer, nullable=False, default=0),
    Column("error_class", String(64)),
    Column("error", Text),
    Index("entries_by_state", "state", "number", "size_bytes"),
    Index("entries_by_model", "state", "model", "number"),
    sqlite_autoincrement=True,
)
_HELD = Table(
    "held",
    _TABLES,
    Column("state", String(16), primary_key=True),
    Column("count", Integer, nullable=False),
    Column("bytes", Integer, nullable=False),
)
# Kept by the database itself, in the transaction of whatever changes an entry: a put that summed up what waits
# took 159 ms of CPU beside 100,000 requests, and 7 ms since (two busy cores, November 2026). A rollback undoes both.
_HELD_LESS = "UPDATE held SET count = count - 1, bytes = bytes - OLD.size_bytes WHERE state = OLD.state;"
_HELD_MORE = "UPDATE held SET count = count + 1, bytes = bytes + NEW.size_bytes WHERE state = NEW.state;"
_UPKEEP = (
    f"CREATE TRIGGER IF NOT EXISTS held_insert AFTER INSERT ON entries BEGIN {_HELD_MORE} END",
    f"CREATE TRIGGER IF NOT EXISTS held_delete AFTER DELETE ON entries BEGIN {_HELD_LESS} END",
    "CREATE TRIGGER IF NOT EXISTS held_update AFTER UPDATE OF state, size_bytes ON entries "
    f"BEGIN {_HELD_LESS} {_HELD_MORE} END",
    "CREATE INDEX IF NOT EXISTS entries_by_age ON entries (state, accepted_s)",
    "CREATE INDEX IF NOT EXISTS entries_by_end ON entries (finished_s)",
)
# A step in the index a model, where grouping would read all that waits.
_HEADS = text("""
WITH RECURSIVE models(model) AS (
    SELECT min(model) FROM entries WHERE state = :state
    UNION ALL
    SELECT (SELECT min(model) FROM entries WHERE state = :state AND model > models.model)
    FROM models WHERE models.model IS NOT NULL
)
SELECT entries.* FROM models
JOIN entries ON entries.number = (SELECT min(number) FROM entries WHERE state = :state AND model = models.model)
ORDER BY entries.number
""")
_TOTALS = Table("totals", _TABLES, Column("name", String(32), primary_key=True), Column("count", Integer))
_CLOCK = Table(
    "clock", _TABLES, Column("id", Integer, primary_key=True), Column("spool_s", Float), Column("wall_s", Float)
)


class State(StrEnum):
    """Where a spooled request is."""

    WAITING = "waiting"
    DONE = "done"
    FAILED = "failed"
    """It was answered, with an error that no later attempt would mend."""
    DROPPED = "dropped"
    """It grew too old, or made room for newer ones."""


@dataclass(frozen=True, slots=True)
class Submission:
    """A request to keep."""

    key: str
    digest: str
    model: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Entry:
    """A request that is kept, or its result."""

    number: int
    key: str
    model: str
    state: State
    payload: bytes | None
    result: bytes | None
    attempts: int
    error_class: str | None
    error: str | None


class SpoolStore:
    """Every method is one transaction; may be called from any thread, one at a time."""

    def __init__(
        self,
        file: Path,
        limits: SpoolLimits,
        wall: Callable[[], float] = time.time,
        elapsed: Callable[[], float] = elapsed_s,
    ) -> None:
        self._limits = limits
        self._database = open_database(sqlite_url(file))
        with setting_up(self._database) as connection:
            _TABLES.create_all(connection)
            _keep_count(connection)
            row = connection.execute(select(_CLOCK.c.spool_s, _CLOCK.c.wall_s)).first()
        kept = None if row is None else ClockState(row.spool_s, row.wall_s)
        self._clock = SpoolClock(kept, limits.max_age_s * GAP_SHARE, wall, elapsed)

    def add(self, submissions: Sequence[Submission]) -> list[Entry | EdgewardError]:
        """Keeps requests, all in one transaction; for each what there is under its key now, or why it was not taken.

        The same key with the same payload is the same request; with another one it is a `ConflictError`. A spool that is full
        refuses with `OverloadedError`, or drops the oldest, as its limits say.
        """
        with writing(self._database) as connection:
            self._expire(connection)
            return [self._add(connection, submission) for submission in submissions]

    def heads(self) -> list[Entry]:
        """The oldest waiting request of each model, oldest first."""
        with writing(self._database) as connection:
            self._expire(connection)
            return [_entry(row) for row in connection.execute(_HEADS, {"state": State.WAITING})]

    def finish(self, number: int, result: bytes) -> bool:
        """Keeps the result in place of the request; False where there was one already, which stays."""
        return self._end(number, State.DONE, len(result), {"result": result}, "answered")

    def fail(self, number: int, error: EdgewardError) -> bool:
        """Keeps the error in place of the request."""
        said = {"error_class": type(error).__name__, "error": str(error)[:MAX_ERROR_CHARACTERS]}
        return self._end(number, State.FAILED, 0, said, "failed")

    def note_attempt(self, number: int, error: EdgewardError) -> None:
        """One more attempt that was not answered."""
        with writing(self._database) as connection:
            connection.execute(
                update(_ENTRIES)
                .where(_ENTRIES.c.number == number, _ENTRIES.c.state == State.WAITING)
                .values(attempts=_ENTRIES.c.attempts + 1, error=str(error)[:MAX_ERROR_CHARACTERS])
            )

    def find(self, key: str) -> Entry | None:
        """What there is under a key; None where nothing is, or is no longer."""
        with reading(self._database) as connection:
            row = connection.execute(select(_ENTRIES).where(_ENTRIES.c.key == key)).first()
            return None if row is None else _entry(row)

    def describe(self) -> dict[str, Any]:
        """Depth, bytes, the age of the oldest, and what has become of the others since the spool was made."""
        now = self._clock.now()
        with reading(self._database) as connection:
            waiting = connection.execute(select(_HELD).where(_HELD.c.state == State.WAITING)).one()
            oldest = connection.execute(
                select(func.min(_ENTRIES.c.accepted_s)).where(_ENTRIES.c.state == State.WAITING)
            ).scalar()
            last = connection.execute(
                select(_ENTRIES.c.error)
                .where(_ENTRIES.c.state == State.WAITING, _ENTRIES.c.attempts > 0)
                .order_by(_ENTRIES.c.number)
                .limit(1)
            ).scalar()
            totals = {row.name: row.count for row in connection.execute(select(_TOTALS))}
        return {
            "depth": waiting.count,
            "bytes": waiting.bytes,
            "max_bytes": self._limits.max_bytes,
            "oldest_age_s": None if oldest is None else round(now - oldest, 1),
            "waits_because": last,
            **{name: totals.get(name, 0) for name in ("accepted", "answered", "failed", "refused", "dropped")},
        }

    def close(self) -> None:
        """Closes the database."""
        self._database.dispose()

    def _add(self, connection: Connection, submission: Submission) -> Entry | EdgewardError:
        known = connection.execute(select(_ENTRIES).where(_ENTRIES.c.key == submission.key)).first()
        if known is not None:
            if known.digest != submission.digest:
                return ConflictError(
                    f"key {submission.key!r} was used for another request; a new request takes a new key"
                )
            return _entry(known)
        size = len(submission.payload)
        used = _held_bytes(connection, State.WAITING)
        oldest = connection.execution_options(stream_results=True).execute(
            select(_ENTRIES.c.number, _ENTRIES.c.size_bytes)
            .where(_ENTRIES.c.state == State.WAITING)
            .order_by(_ENTRIES.c.number)
        )
        admission = admit(self._limits, used, size, ((row.number, row.size_bytes) for row in oldest))
        oldest.close()
        if not admission.is_taken:
            self._count(connection, "refused")
            return OverloadedError(
                f"{admission.reason}; send it again when some have been answered, or allow the spool more bytes",
                FULL_RETRY_AFTER_S,
            )
        if admission.drop:
            log.warning("spool: %d waiting requests make room for a newer one", len(admission.drop))
            made_room = _ENTRIES.c.number <= max(admission.drop)  # they are the oldest that wait
            self._drop(connection, made_room, "made room for newer requests in a full spool")
        number = connection.execute(
            insert(_ENTRIES).values(
                key=submission.key,
                digest=submission.digest,
                model=submission.model,
                state=State.WAITING,
                payload=submission.payload,
                size_bytes=size,
                accepted_s=self._clock.now(),
                attempts=0,
            )
        ).inserted_primary_key
        assert number is not None
        self._count(connection, "accepted")
        return Entry(number[0], submission.key, submission.model, State.WAITING, None, None, 0, None, None)

    def _end(self, number: int, state: State, size_bytes: int, said: dict[str, Any], total: str) -> bool:
        with writing(self._database) as connection:
            changed = connection.execute(
                update(_ENTRIES)
                .where(_ENTRIES.c.number == number, _ENTRIES.c.state == State.WAITING)
                .values(state=state, payload=None, size_bytes=size_bytes, finished_s=self._clock.now(), **said)
            ).rowcount
            if changed:
                self._count(connection, total)
                self._forget_results(connection)
            return bool(changed)

    def _expire(self, connection: Connection) -> None:
        now = self._clock.now()
        too_old = _ENTRIES.c.accepted_s < now - self._limits.max_age_s
        dropped = self._drop(connection, too_old, f"not answered for {self._limits.max_age_s:g} s")
        if dropped:
            log.warning(
                "spool: %d requests could not be answered for %g s and are dropped", dropped, self._limits.max_age_s
            )
        connection.execute(
            delete(_ENTRIES).where(
                _ENTRIES.c.state != State.WAITING, _ENTRIES.c.finished_s < now - self._limits.result_ttl_s
            )
        )
        state = self._clock.state()
        connection.execute(delete(_CLOCK))
        connection.execute(insert(_CLOCK).values(id=1, spool_s=state.spool_s, wall_s=state.wall_s))

    def _drop(self, connection: Connection, which: ColumnElement[bool], why: str) -> int:
        """Drops waiting requests, and says how many. By a condition: a list of a week's numbers is longer than SQLite takes."""
        dropped: int = connection.execute(
            update(_ENTRIES)
            .where(_ENTRIES.c.state == State.WAITING, which)
            .values(
                state=State.DROPPED,
                payload=None,
                size_bytes=0,
                finished_s=self._clock.now(),
                error_class="OverloadedError",
                error=f"the request was dropped: {why}",
            )
        ).rowcount
        if dropped:
            self._count(connection, "dropped", dropped)
        return dropped

    def _forget_results(self, connection: Connection) -> None:
        """Results over the bound, the oldest first; their keys stay known until their time is up."""
        excess = _held_bytes(connection, State.DONE) - self._limits.max_bytes
        while excess > 0:
            oldest = connection.execute(
                select(_ENTRIES.c.number, _ENTRIES.c.size_bytes)
                .where(_ENTRIES.c.state == State.DONE, _ENTRIES.c.size_bytes > 0)
                .order_by(_ENTRIES.c.number)
                .limit(1)
            ).first()
            if oldest is None:
                return
            log.warning("spool: the result of request %d is forgotten: results take too many bytes", oldest.number)
            connection.execute(
                update(_ENTRIES)
                .where(_ENTRIES.c.number == oldest.number)
                .values(
                    state=State.DROPPED,
                    result=None,
                    size_bytes=0,
                    error_class="OverloadedError",
                    error="it was answered, but its result was forgotten to make room for newer ones",
                )
            )
            excess -= oldest.size_bytes

    @staticmethod
    def _count(connection: Connection, name: str, count: int = 1) -> None:
        changed = connection.execute(
            update(_TOTALS).where(_TOTALS.c.name == name).values(count=_TOTALS.c.count + count)
        ).rowcount
        if not changed:
            connection.execute(insert(_TOTALS).values(name=name, count=count))


def _keep_count(connection: Connection) -> None:
    """Has the database keep `held`, which is counted anew here; in the transaction that opens the spool."""
    for statement in _UPKEEP:
        connection.exec_driver_sql(statement)
    counted = connection.execute(
        select(_ENTRIES.c.state, func.count(), func.sum(_ENTRIES.c.size_bytes)).group_by(_ENTRIES.c.state)
    ).all()
    held = {row[0]: (row[1], row[2]) for row in counted}
    connection.execute(delete(_HELD))
    connection.execute(
        insert(_HELD),
        [{"state": state, "count": held.get(state, (0, 0))[0], "bytes": held.get(state, (0, 0))[1]} for state in State],
    )


def _held_bytes(connection: Connection, state: State) -> int:
    held: int = connection.execute(select(_HELD.c.bytes).where(_HELD.c.state == state)).scalar_one()
    return held


def _entry(row: Any) -> Entry:
    return Entry(
        row.number,
        row.key,
        row.model,
        State(row.state),
        row.payload,
        row.result,
        row.attempts,
        row.error_class,
        row.error,
    )
