"""A part that opens a database of its own and cannot set it up leaves no file open: it may be tried again for ever."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import psutil
import pytest

from cloud_gateway.owned_key import ResultLimits
from cloud_gateway.results import Results
from cloud_gateway.windows import Windows
from edge_agent.jobs.board import JobBoard
from edge_agent.spool.policy import SpoolLimits
from edge_agent.spool.store import SpoolStore
from runtime.errors import StorageError
from runtime.store import database, open_database, sqlite_url, writing


class Owner(Protocol):
    def close(self) -> None: ...


@pytest.mark.parametrize(
    "opened",
    [
        JobBoard,
        lambda file: SpoolStore(file, SpoolLimits()),
        lambda file: Results(sqlite_url(file), ResultLimits(), lambda: 0.0),
        lambda file: Windows(open_database(sqlite_url(file))),
    ],
    ids=["jobs", "spool", "results", "windows"],
)
def test_what_cannot_be_set_up_is_closed(
    opened: Callable[[Path], Owner], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BUSY_TIMEOUT_S", 0.01)
    file = tmp_path / "a.db"
    opened(file).close()
    holder = open_database(sqlite_url(file))
    with writing(holder), pytest.raises(StorageError, match="locked"):
        opened(file)
    holder.dispose()
    assert [
        one.path for one in psutil.Process().open_files() if Path(one.path).is_relative_to(tmp_path.resolve())
    ] == []
