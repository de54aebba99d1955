"""What every writer of rows does: parts that only grow, a state to go on from, and the whole file made of them at the end."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Final, Protocol

from runtime.tensors import Array

NAME_COLUMN = "file"
"""What rows are called, where they have names, stands under this one."""
# Python's own 8 KiB are a call of the system for every few batches; what is not on disk is written again after a kill anyway.
_BUFFER_BYTES: Final = 256 << 10


class RowWriter(Protocol):
    """Takes the outputs of some rows by name, [row, ...]; every call the same names.

    The finished file depends on the rows alone: not on how they were dealt out over calls, nor on how often writing was
    broken off and gone on with.
    """

    def write(self, outputs: Mapping[str, Array], names: Sequence[str] | None) -> None:
        """Appends rows; `WrongUseError` for outputs that the format does not hold."""

    def sync(self) -> dict[str, Any]:
        """Has everything on disk, and says (as JSON) from where a new writer goes on."""

    def finish(self, target: Path) -> None:
        """Makes the whole file at `target`, on disk; what `sync` said last stays true."""

    def close(self) -> None:
        """Closes the parts; twice is fine."""


class Part:
    """One file that grows; opened at a length, so that what was written after the last `sync` is forgotten."""

    def __init__(self, path: Path, length: int = 0) -> None:
        self.path = path
        self.stream: IO[bytes] = path.open("r+b" if path.exists() else "w+b", _BUFFER_BYTES)
        self.stream.truncate(length)
        self.stream.seek(length)

    def sync(self) -> int:
        """Its length, all of it on disk."""
        self.stream.flush()
        os.fsync(self.stream.fileno())
        return self.stream.tell()

    def close(self) -> None:
        """Closes it."""
        self.stream.close()


def sync_file(path: Path) -> None:
    """Has the file's bytes on disk."""
    with path.open("rb+") as stream:
        os.fsync(stream.fileno())


def sync_folder(path: Path) -> None:
    """Has the names in a folder on disk, where the system can."""
    if os.name == "nt":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def twin(part: Path, target: Path) -> None:
    """`target` as another name of `part`'s bytes; a copy where the file system has no hard links."""
    target.unlink(missing_ok=True)
    try:
        target.hardlink_to(part)
    except OSError:
        import shutil

        shutil.copyfile(part, target)
        sync_file(target)
