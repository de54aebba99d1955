"""Archives unpacked below EDGEWARD_HOME: held while a process uses one, and removed once nobody has for a month.

So are the archives that a registry fetched to there, which are read only while they are unpacked.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

# Longer than a rollback looks back; whoever asks for an older archive unpacks it once more.
UNUSED_S: Final = 30 * 24 * 3600.0

# As a registry's shelf names what it fetches, and what it has of one that was cut off.
_FETCHED: Final = re.compile(r"[0-9a-f]{64}\.tar|\.[0-9a-f]{64}\.tar\.[0-9a-f]+")

# Folder → its open file, on which the lock is, for the life of the process: an engine that measures again reads variants again.
_held: dict[Path, int] = {}


def use(folder: Path) -> None:
    """Marks `folder` as used now, and keeps it from `prune` of any process while this one lives; nothing where it is not there.

    Where there are no such locks, as on Windows, nothing is held, and `prune` removes nothing.
    """
    if not _is_held(folder):
        _let_go(folder)
        descriptor = _locked(folder, is_alone=False)
        if descriptor is None:
            return
        _held[folder] = descriptor
    with suppress(OSError):  # a disk that takes nothing any more
        os.utime(folder)


def prune(cache: Path, now: float | None = None) -> list[Path]:
    """Removes what below `cache` no process holds and none has used for `UNUSED_S`, fetched archives too; what was removed.

    `now` is of the system's clock, as the times of files are. What cannot be removed stays until the next call.
    """
    before = (time.time() if now is None else now) - UNUSED_S
    old = [path for path in cache.iterdir() if _is_older(path, before)]
    return [path for path in old if (_unlink(path) if _FETCHED.fullmatch(path.name) else _remove(path))]


def remove(folder: Path) -> bool:
    """Removes `folder`, which nothing in this process uses any more, now; False where another process holds it, or none is there.

    Windows, which has no such locks, moves no folder that has a file open.
    """
    _let_go(folder)
    return _move_away(folder) if sys.platform == "win32" else _remove(folder)


def _is_held(folder: Path) -> bool:
    """Whether our lock is on what lies there now: another process may have removed and unpacked it since."""
    descriptor = _held.get(folder)
    try:
        return descriptor is not None and os.path.samestat(os.fstat(descriptor), folder.stat())
    except OSError:
        return False


def _let_go(folder: Path) -> None:
    descriptor = _held.pop(folder, None)
    if descriptor is not None:
        os.close(descriptor)


def _is_older(path: Path, before: float) -> bool:
    try:
        return path.stat().st_mtime < before
    except OSError:
        return False


def _unlink(archive: Path) -> bool:
    try:
        archive.unlink()
    except OSError:
        return False
    return True


def _remove(folder: Path) -> bool:
    descriptor = _locked(folder, is_alone=True)
    if descriptor is None:
        return False
    try:
        return _move_away(folder)
    finally:
        os.close(descriptor)


def _move_away(folder: Path) -> bool:
    try:
        # Away under another name first: a folder that has its own is whole.
        with tempfile.TemporaryDirectory(dir=folder.parent, ignore_cleanup_errors=True) as scratch:
            folder.rename(Path(scratch) / folder.name)
    except OSError:
        return False
    return True


def _locked(folder: Path, *, is_alone: bool) -> int | None:
    """The folder, open and locked; None where it is not there (any more), somebody holds it, or there are no locks."""
    if sys.platform == "win32":
        return None
    import fcntl

    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return None
    try:
        # Whoever removes it is done in a moment; whoever holds it may hold it for months.
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB if is_alone else fcntl.LOCK_SH)
        if os.path.samestat(os.fstat(descriptor), folder.stat()):
            return descriptor
    except OSError:
        pass
    os.close(descriptor)
    return None
