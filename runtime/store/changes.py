"""Whether another connection has written something: for whoever must see it at once, and would else ask again and again.

PostgreSQL tells those who listen. SQLite's file is on this machine, and what it costs to look is a few microseconds
(https://www.sqlite.org/pragma.html#pragma_data_version), so there `wait` looks every `LOOK_S`.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any, Final

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from runtime.errors import StorageError

LOOK_S: Final = 0.01


def announce(connection: Connection, channel: str) -> None:
    """Within a transaction: its commit wakes whoever waits for `channel`. SQLite's commits are seen without."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"NOTIFY {channel}")


class Changes:
    """Has a connection of its own, opened when it is first needed. Blocking; one thread at a time."""

    def __init__(self, engine: Engine, channel: str) -> None:
        """`channel`: a name such as `releases`, as in `announce`."""
        self._engine = engine
        self._channel = channel
        self._connection: Any = None
        self._version: int | None = None

    def wait(self, timeout_s: float) -> bool:
        """Whether there may have been a change since the last call; at once when there is one, else False after `timeout_s`.

        True also after connecting anew, for nobody knows what was missed. On SQLite any commit of another connection is a change.
        `StorageError` where the database cannot be asked.
        """
        try:
            if self._connection is None:
                self._connect()
                return True
            if self._engine.dialect.name == "sqlite":
                return self._look(timeout_s)
            return any(True for _ in self._connection.notifies(timeout=timeout_s, stop_after=1))
        except (SQLAlchemyError, self._engine.dialect.loaded_dbapi.Error) as error:
            self.close()
            raise StorageError(
                f"database {self._engine.url.render_as_string()} cannot be watched: {error}; it is tried again"
            ) from error

    def close(self) -> None:
        """Ends the connection; the next `wait` makes another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(self._engine.dialect.loaded_dbapi.Error):
                connection.close()

    def _connect(self) -> None:
        pooled = self._engine.raw_connection()
        driver: Any = pooled.driver_connection
        pooled.detach()
        self._connection = driver
        if self._engine.dialect.name == "sqlite":
            self._version = self._data_version()
        else:
            driver.rollback()
            driver.autocommit = True
            driver.execute(f"LISTEN {self._channel}")

    def _look(self, timeout_s: float) -> bool:
        until = time.monotonic() + timeout_s
        while (version := self._data_version()) == self._version:
            left_s = until - time.monotonic()
            if left_s <= 0:
                return False
            time.sleep(min(LOOK_S, left_s))
        self._version = version
        return True

    def _data_version(self) -> int:
        return int(self._connection.execute("PRAGMA data_version").fetchone()[0])
