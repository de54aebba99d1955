"""Archives unpacked below EDGEWARD_HOME: held while a process uses one, and removed once nobody has for a month."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

# Longer than a rollback looks back; whoever asks for an older archive unpacks it once more.
UNUSED_S: Final = 30 * 24 * 3600.0

# Folder → its open file, on which the lock is, for the life of the process: an engine that measures again reads variants again.
_held: dict[Path, int] = {}


def use(folder: Path) -> None:
    """Marks `folder` as used now, and keeps it from `prune` of any process while this one lives; nothing where it is not there.

    Where there are no such locks, as on Windows, nothing is held, and `prune` removes nothing.
    """
    if folder not in _held:
        descriptor = _locked(folder, is_alone=False)
        if descriptor is None:
            return
        _held[folder] = descriptor
    with suppress(OSError):  # a disk that takes nothing any more
        os.utime(folder)


def prune(cache: Path, now: float | None = None) -> list[Path]:
    """Removes what below `cache` no process holds and none has used for `UNUSED_S`; what was removed.

    `now` is of the system's clock, as the times of files are. What cannot be removed stays until the next call.
    """
    before = (time.time() if now is None else now) - UNUSED_S
    return [folder for folder in cache.iterdir() if _is_older(folder, before) and _remove(folder)]


def _is_older(folder: Path, before: float) -> bool:
    try:
        return folder.stat().st_mtime < before
    except OSError:
        return False


def _remove(folder: Path) -> bool:
    descriptor = _locked(folder, is_alone=True)
    if descriptor is None:
        return False
    try:
        # Away under another name first: a folder that has its own is whole.
        with tempfile.TemporaryDirectory(dir=folder.parent, ignore_cleanup_errors=True) as scratch:
            shutil.move(folder, scratch)
    except OSError:
        return False
    finally:
        os.close(descriptor)
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
