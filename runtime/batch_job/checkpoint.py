"""Where a batch job stands, in a folder beside its output: parts that only grow, and a state that is replaced in one step.

.OUT.csv.edgeward/
state.json     how far it is, and how long each part was then; what lies behind that length is forgotten
*.part         the rows done so far
errors.part    the rows that cannot be read
whole          the finished file, before it takes its place
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from runtime.errors import ConflictError, StorageError
from runtime.file_lock import lock_now
from runtime.row_files.writer import sync_folder

SCHEMA_VERSION = 2
STATE_FILE = "state.json"
WHOLE_FILE = "whole"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """How far a job is."""

    fingerprint: str
    """What the rows done so far depend on: input, model, backend; another one starts over."""
    batch_rows: int
    """Rows of a call: an answer may differ in its last bits with the company that its row has."""
    rows_done: int = 0
    rows_answered: int = 0
    rows_unreadable: int = 0
    rows_non_finite: int = 0
    rows_out_of_range: int = 0
    first_out_of_range: str = ""
    errors_bytes: int = 0
    writer: dict[str, Any] | None = None
    is_packed: bool = False
    """Whether the whole file was made: all that is left is to put it in its place."""
    schema_version: int = SCHEMA_VERSION


class WorkFolder:
    """The folder of one output's job; one process at a time has it."""

    def __init__(self, output: Path) -> None:
        self.path = output.parent / f".{output.name}.edgeward"

    @property
    def whole(self) -> Path:
        """Where the finished file is made."""
        return self.path / WHOLE_FILE

    @contextmanager
    def taken(self) -> Iterator[None]:
        """The folder, made where it is not there; `ConflictError` while another process works in it."""
        if self.path.is_symlink():
            raise StorageError(f"{self.path} is a link; remove it, or write elsewhere")
        try:
            self.path.mkdir(exist_ok=True)
            handle = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise StorageError(f"{self.path} cannot be made: {error}; make room, or write elsewhere") from error
        try:
            _lock(handle, self.path)
            yield
        finally:
            os.close(handle)

    def read(self) -> Checkpoint | None:
        """The last state that is whole; None where there is none, or one of another version of Edgeward."""
        try:
            said = json.loads((self.path / STATE_FILE).read_text(encoding="utf-8"))
            kept = Checkpoint(**said)
        except (OSError, ValueError, TypeError):
            return None
        return kept if kept.schema_version == SCHEMA_VERSION else None

    def write(self, state: Checkpoint) -> None:
        """Replaces the state; it is on disk when this returns."""
        fresh = self.path / f"{STATE_FILE}.new"
        with fresh.open("w", encoding="utf-8") as stream:
            json.dump(asdict(state), stream)
            stream.flush()
            os.fsync(stream.fileno())
        fresh.replace(self.path / STATE_FILE)
        sync_folder(self.path)

    def clear(self) -> None:
        """Forgets everything but the lock."""
        for path in self.path.iterdir():
            if path.name != "lock":
                path.unlink()

    def remove(self) -> None:
        """Removes the folder; the state goes first, so that nothing half removed is taken for a job."""
        (self.path / STATE_FILE).unlink(missing_ok=True)
        shutil.rmtree(self.path, ignore_errors=True)


def _lock(handle: int, path: Path) -> None:
    """The system drops the lock with the process, also when that is killed."""
    try:
        lock_now(handle)
    except OSError:
        raise ConflictError(
            f"another process works on this output ({path}); wait for it, end it, or choose another output"
        ) from None
