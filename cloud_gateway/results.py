"""The results of requests that had a key, in a database: key, digest of the request and result in one row. Blocking."""

from __future__ import annotations

import logging
from collections.abc import Callable

from sqlalchemy import (
    Column,
    Connection,
    Float,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    delete,
    func,
    insert,
    select,
)

from cloud_gateway.owned_key import OwnedKey, ResultLimits, conflict
from runtime.store import open_database, reading, setting_up, writing

log = logging.getLogger(__name__)

_TABLES = MetaData()
_RESULTS = Table(
    "results",
    _TABLES,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("key", String(128), nullable=False, unique=True),
    Column("digest", String(64), nullable=False),
    Column("result", LargeBinary, nullable=False),
    Column("size_bytes", Integer, nullable=False),
    Column("stored_s", Float, nullable=False),
)


class Results:
    """Every method is one transaction; may be called from any thread."""

    def __init__(self, url: str, limits: ResultLimits, wall: Callable[[], float]) -> None:
        self._limits = limits
        self._wall = wall
        self._database = open_database(url)
        with setting_up(self._database) as connection:
            _TABLES.create_all(connection)
            row = connection.execute(select(func.count(), func.coalesce(func.sum(_RESULTS.c.size_bytes), 0))).one()
        self._count, self._bytes = row

    def find(self, key: OwnedKey, digest: str) -> bytes | None:
        """The result under `key`; None where there is none. `ConflictError` where it is another request's."""
        with reading(self._database) as connection:
            return self._find(connection, key, digest)

    def keep(self, key: OwnedKey, digest: str, result: bytes) -> bytes:
        """The result that is kept under `key` from now on: this one, or the one that came before it."""
        with writing(self._database) as connection:
            before = self._find(connection, key, digest)
            if before is not None:
                return before
            connection.execute(
                insert(_RESULTS).values(
                    key=key.stored, digest=digest, result=result, size_bytes=len(result), stored_s=self._wall()
                )
            )
            self._make_room(connection, len(result))
        self._count += 1
        self._bytes += len(result)
        return result

    def close(self) -> None:
        """Closes the database."""
        self._database.dispose()

    def _find(self, connection: Connection, key: OwnedKey, digest: str) -> bytes | None:
        row = connection.execute(
            select(_RESULTS.c.digest, _RESULTS.c.result).where(_RESULTS.c.key == key.stored)
        ).first()
        if row is None:
            return None
        if row.digest != digest:
            raise conflict(key)
        result: bytes = row.result
        return result

    def _make_room(self, connection: Connection, size_bytes: int) -> None:
        """Forgets the oldest where a limit is passed; counted here, which is right to what another gateway adds meanwhile."""
        forgotten = 0
        while self._count + 1 > self._limits.max_results or self._bytes + size_bytes > self._limits.max_bytes:
            oldest = connection.execute(
                select(_RESULTS.c.number, _RESULTS.c.size_bytes).order_by(_RESULTS.c.number).limit(1)
            ).first()
            if oldest is None or self._count <= 0:
                break
            connection.execute(delete(_RESULTS).where(_RESULTS.c.number == oldest.number))
            self._count -= 1
            self._bytes -= oldest.size_bytes
            forgotten += 1
        if forgotten:
            log.info("results of %d old keys are forgotten to make room", forgotten)
