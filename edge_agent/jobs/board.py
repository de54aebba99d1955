"""The jobs in a database: what was asked for, and how far it is. Blocking; survives the process."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Column, Float, Integer, MetaData, String, Table, Text, delete, func, insert, select, update

from runtime.errors import InvalidInputError, OverloadedError
from runtime.store import open_database, reading, setting_up, sqlite_url, writing

# Waiting and running; whoever submits in a loop shall notice.
MAX_OPEN_JOBS: Final = 1000
# Ended ones that are still listed.
MAX_ENDED_JOBS: Final = 1000

_TABLES = MetaData()
_JOBS = Table(
    "jobs",
    _TABLES,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("model", Text, nullable=False),
    Column("input", Text, nullable=False),
    Column("output", Text, nullable=False),
    Column("route", String(16), nullable=False),
    Column("state", String(16), nullable=False),
    Column("rows_done", Integer, nullable=False),
    Column("rows_total", Integer),
    Column("rows_unreadable", Integer, nullable=False),
    Column("error", Text),
    Column("submitted", Float, nullable=False),
    Column("ended", Float),
    sqlite_autoincrement=True,
)


class JobState(StrEnum):
    """Where a job is."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    """What is done of it is kept; the same job submitted again goes on."""
    CANCELLED = "cancelled"


OPEN_STATES: Final = (JobState.QUEUED, JobState.RUNNING)


@dataclass(frozen=True, slots=True)
class Job:
    """One job; times are of the wall clock."""

    id: int
    model: str
    input: str
    output: str
    route: str
    state: JobState
    rows_done: int
    rows_total: int | None
    rows_unreadable: int
    error: str | None
    submitted: float
    ended: float | None

    def to_dict(self) -> dict[str, Any]:
        """As JSON; `why` it failed, for a document with an `error` is itself one."""
        said = asdict(self)
        why = said.pop("error")
        return {**said, "why": why}


class JobBoard:
    """Every method is one transaction; may be called from any thread."""

    def __init__(self, file: Path, wall: Callable[[], float] = time.time) -> None:
        self._database = open_database(sqlite_url(file))
        self._wall = wall
        with setting_up(self._database) as connection:
            _TABLES.create_all(connection)
            # What ran when the process ended goes on.
            connection.execute(update(_JOBS).where(_JOBS.c.state == JobState.RUNNING).values(state=JobState.QUEUED))

    def add(self, model: str, source: Path, output: Path, route: str) -> Job:
        """A new job, queued; `OverloadedError` with too many open, `InvalidInputError` where one writes that output already."""
        with writing(self._database) as connection:
            is_open = _JOBS.c.state.in_(OPEN_STATES)
            if connection.execute(select(func.count()).where(is_open)).scalar_one() >= MAX_OPEN_JOBS:
                raise OverloadedError(f"{MAX_OPEN_JOBS} jobs are open; wait for some to end, or cancel some", 60.0)
            same = connection.execute(select(_JOBS.c.id).where(is_open, _JOBS.c.output == str(output))).scalar()
            if same is not None:
                raise InvalidInputError(
                    f"job {same} writes {output} already; wait for it, cancel it, or choose another output"
                )
            key = connection.execute(
                insert(_JOBS).values(
                    model=model,
                    input=str(source),
                    output=str(output),
                    route=route,
                    state=JobState.QUEUED,
                    rows_done=0,
                    rows_unreadable=0,
                    submitted=self._wall(),
                )
            ).inserted_primary_key
            assert key is not None
            keep = (
                select(_JOBS.c.id)
                .where(_JOBS.c.state.not_in(OPEN_STATES))
                .order_by(_JOBS.c.id.desc())
                .limit(MAX_ENDED_JOBS)
            )
            connection.execute(delete(_JOBS).where(_JOBS.c.state.not_in(OPEN_STATES), _JOBS.c.id.not_in(keep)))
            return _job(connection.execute(select(_JOBS).where(_JOBS.c.id == key[0])).one())

    def jobs(self) -> list[Job]:
        """All of them, oldest first."""
        with reading(self._database) as connection:
            return [_job(row) for row in connection.execute(select(_JOBS).order_by(_JOBS.c.id))]

    def find(self, number: int) -> Job | None:
        """One of them."""
        with reading(self._database) as connection:
            row = connection.execute(select(_JOBS).where(_JOBS.c.id == number)).first()
            return None if row is None else _job(row)

    def take(self) -> Job | None:
        """The oldest queued job, running from now on; None where none waits."""
        with writing(self._database) as connection:
            row = connection.execute(
                select(_JOBS).where(_JOBS.c.state == JobState.QUEUED).order_by(_JOBS.c.id).limit(1)
            ).first()
            if row is None:
                return None
            connection.execute(update(_JOBS).where(_JOBS.c.id == row.id).values(state=JobState.RUNNING))
            return _job(row)

    def note(self, number: int, rows_done: int, rows_total: int | None, rows_unreadable: int) -> None:
        """How far a running job is."""
        with writing(self._database) as connection:
            connection.execute(
                update(_JOBS)
                .where(_JOBS.c.id == number)
                .values(rows_done=rows_done, rows_total=rows_total, rows_unreadable=rows_unreadable)
            )

    def end(self, number: int, state: JobState, error: str | None = None) -> bool:
        """Ends an open job; False where it had ended."""
        with writing(self._database) as connection:
            changed = connection.execute(
                update(_JOBS)
                .where(_JOBS.c.id == number, _JOBS.c.state.in_(OPEN_STATES))
                .values(state=state, error=error, ended=self._wall())
            ).rowcount
            return bool(changed)

    def requeue(self, number: int) -> None:
        """A running job waits again: the agent ends, and goes on with it when it is back."""
        with writing(self._database) as connection:
            connection.execute(
                update(_JOBS)
                .where(_JOBS.c.id == number, _JOBS.c.state == JobState.RUNNING)
                .values(state=JobState.QUEUED)
            )

    def close(self) -> None:
        """Closes the database."""
        self._database.dispose()


def _job(row: Any) -> Job:
    return Job(**{**row._mapping, "state": JobState(row.state)})
