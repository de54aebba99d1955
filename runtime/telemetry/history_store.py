"""The history in a database: a row for each point of each level, all series packed in it. Blocking; never on a request's path."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import numpy as np
from sqlalchemy import Column, Connection, Engine, Integer, LargeBinary, MetaData, String, Table, delete, insert, select

from runtime.errors import StorageError
from runtime.store import reading, writing
from runtime.telemetry.history import LEVELS, MAX_NAME_CHARACTERS, MAX_SERIES, PACKED, History, Level, Point, Values

MAX_RESTORED: Final = MAX_SERIES * 3 // 4
"""The rest of the places is for series that come up after the start."""
_NONE: Final = 0xFFFF_FFFF

metadata = MetaData()
_SERIES = Table(
    "history_series",
    metadata,
    Column("source", String(64), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("name", String(MAX_NAME_CHARACTERS), nullable=False),
)
_POINTS = Table(
    "history_points",
    metadata,
    Column("source", String(64), primary_key=True),
    Column("step_s", Integer, primary_key=True, autoincrement=False),
    Column("at", Integer, primary_key=True, autoincrement=False),
    Column("packed", LargeBinary, nullable=False),
)


class HistoryStore:
    """Keeps the history of one program, `source`, in `database`. Its numbers of the series are the database's own."""

    def __init__(self, database: Engine, source: str) -> None:
        self._database = database
        self._source = source
        self._has_tables = False

    def load(self, history: History, now: int) -> None:
        """Fills `history`, new yet, with what is young enough; `StorageError` where nothing can be read or nothing written.

        A database that can be read and not written is read.
        """
        refused: StorageError | None = None
        try:
            self._make_tables()
        except StorageError as error:
            refused = error
        with reading(self._database) as connection:
            names = {number: name for name, number in self._numbers(connection).items()}
            stored = [list(self._points(connection, level.step_s, now - level.span_s, now)) for level in history.levels]
        ours = _places(history, names, stored)
        for at, points in enumerate(stored):
            history.restore(at, (Point(point.at, _placed(point.values, ours)) for point in points))
        history.resume()
        if refused is not None:
            raise refused

    def save(
        self, names: Sequence[str], complete: Sequence[tuple[int, Point]], levels: Sequence[Level] = LEVELS
    ) -> None:
        """Adds points of the series `names` that are complete, and drops what is too old, in one transaction.

        `StorageError` where that cannot be; nothing is written then.
        """
        if not self._has_tables:
            self._make_tables()
        newest = max(point.at for _, point in complete)
        with writing(self._database) as connection:
            theirs = self._name(connection, names)
            rows = [
                {
                    "source": self._source,
                    "step_s": levels[at].step_s,
                    "at": point.at,
                    "packed": _renumbered(point.values, theirs).tobytes(),
                }
                for at, point in complete
            ]
            for level in levels:
                is_level = _POINTS.c.step_s == level.step_s
                connection.execute(delete(_POINTS).where(is_level & (_POINTS.c.at <= newest - level.span_s)))
                oldest = min((point.at for at, point in complete if levels[at] == level), default=newest + 1)
                # What lies in the future was written before the clock was set back.
                is_ahead = (_POINTS.c.source == self._source) & (_POINTS.c.at >= oldest)
                connection.execute(delete(_POINTS).where(is_level & is_ahead))
            connection.execute(insert(_POINTS), rows)

    def close(self) -> None:
        """Closes the database's connections."""
        self._database.dispose()

    def _make_tables(self) -> None:
        with writing(self._database) as connection:
            metadata.create_all(connection)
        self._has_tables = True

    def _numbers(self, connection: Connection) -> dict[str, int]:
        query = select(_SERIES.c.name, _SERIES.c.number).where(_SERIES.c.source == self._source)
        return {row.name: row.number for row in connection.execute(query)}

    def _name(self, connection: Connection, names: Sequence[str]) -> Values:
        """Our numbers → the database's; new names are written first."""
        known: Mapping[str, int] = self._numbers(connection)
        first = max(known.values(), default=-1) + 1
        new = {name: first + at for at, name in enumerate(name for name in names if name not in known)}
        if new:
            connection.execute(
                insert(_SERIES),
                [{"source": self._source, "number": number, "name": name} for name, number in new.items()],
            )
        return np.array([known.get(name, new.get(name)) for name in names], dtype=np.uint32)

    def _points(self, connection: Connection, step_s: int, since: int, until: int) -> Iterator[Point]:
        query = (
            select(_POINTS.c.at, _POINTS.c.packed)
            .where(_POINTS.c.source == self._source, _POINTS.c.step_s == step_s)
            .where(_POINTS.c.at > since, _POINTS.c.at <= until)
            .order_by(_POINTS.c.at)
        )
        for at, packed in connection.execute(query):
            yield Point(at, np.frombuffer(packed[: len(packed) - len(packed) % PACKED.itemsize], dtype=PACKED))


def _places(history: History, names: Mapping[int, str], stored: Sequence[Sequence[Point]]) -> Values:
    """The database's numbers → `history`'s, `_NONE` for a series that gets no place: those seen last go first.

    Each version of a model brings series of its own; without this, the ones that nobody serves any more would in time fill every
    place, and new ones had none.
    """
    seen = np.zeros(max(names, default=0) + 1, dtype=np.int64)
    for points in stored:
        for point in points:
            numbers = point.values["series"][point.values["series"] < len(seen)]
            seen[numbers] = np.maximum(seen[numbers], point.at)
    ours = np.full(len(seen), _NONE, dtype=np.uint32)
    for number in sorted((number for number in names if seen[number]), key=lambda number: (-seen[number], number)):
        if len(history.names) >= MAX_RESTORED:
            break
        place = history.number(names[number])
        if place is not None:
            ours[number] = place
    return ours


def _placed(values: Values, ours: Values) -> Values:
    told = _renumbered(values[values["series"] < len(ours)], ours)
    placed: Values = told[told["series"] != _NONE]
    return placed


def _renumbered(values: Values, numbers: Values) -> Values:
    told = values.copy()
    told["series"] = numbers[values["series"]]
    return told
