"""A change of another connection is seen, once; the own ones of the watcher's process count as others' too."""

import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from runtime.errors import StorageError
from runtime.store import Changes, announce, open_database, sqlite_url, writing
from tests import postgresql

PATIENCE_S = 30.0


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    if request.param == "sqlite":
        made = open_database(sqlite_url(tmp_path / "one.db"))
        yield made
        made.dispose()
        return
    if (reason := postgresql.why_not()) is not None:
        pytest.skip(reason)
    with postgresql.server() as server:
        made = open_database(server.new_database("changes"))
        yield made
        made.dispose()


def change(engine: Engine, channel: str = "releases") -> None:
    with writing(engine) as connection:
        connection.execute(text("CREATE TABLE IF NOT EXISTS things (number INTEGER)"))
        connection.execute(text("INSERT INTO things VALUES (1)"))
        announce(connection, channel)


@pytest.mark.slow
def test_a_change_ends_the_wait_once(engine: Engine) -> None:
    changes = Changes(engine, "releases")
    assert changes.wait(0.0), "nobody knows what was before"
    assert not changes.wait(0.0)
    change(engine)
    assert changes.wait(PATIENCE_S)
    assert not changes.wait(0.02)
    writer = threading.Timer(0.05, change, [engine])
    writer.start()
    assert changes.wait(PATIENCE_S), "it came while waiting"
    writer.join()
    changes.close()
    assert changes.wait(0.0), "after connecting anew, again"
    changes.close()


def test_what_is_rolled_back_is_no_change(tmp_path: Path) -> None:
    engine = open_database(sqlite_url(tmp_path / "one.db"))
    changes = Changes(engine, "releases")
    changes.wait(0.0)
    with suppress(RuntimeError), writing(engine) as connection:
        connection.execute(text("CREATE TABLE things (number INTEGER)"))
        raise RuntimeError
    assert not changes.wait(0.0)
    changes.close()
    engine.dispose()


def test_a_database_that_is_gone_is_said(tmp_path: Path) -> None:
    engine = open_database(sqlite_url(tmp_path / "folder" / "one.db"))
    engine.dispose()
    (tmp_path / "folder").rename(tmp_path / "elsewhere")
    with pytest.raises(StorageError, match="cannot be watched"):
        Changes(engine, "releases").wait(0.0)
