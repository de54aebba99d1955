"""A folder of one process among the system's temporary ones, which a later process sweeps where this one was killed."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Final

from runtime.file_lock import lock_now

_LOCK: Final = "lock"


class OwnFolder:
    """A new folder that only this user can enter; `close` removes it. Where there is `flock`: not on Windows.

    Its process holds a lock on a file inside, which the kernel lets go of however the process ends; a number of a process would
    mean another one in another container, and later on. Making one removes those of the same prefix whose lock nobody holds.
    """

    def __init__(self, prefix: str, parent: Path | None = None) -> None:
        """`parent`: the system's folder for temporary files where it is None."""
        parent = Path(tempfile.gettempdir()) if parent is None else parent
        sweep(prefix, parent)
        self.path = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        new = self.path / f"{_LOCK}.new"
        try:
            self._lock = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError:
            self.path.rmdir()
            raise
        if _is_taken(self._lock):
            new.rename(self.path / _LOCK)  # locked before anybody can find it; without a lock nobody sweeps the folder

    def close(self) -> None:
        """Removes the folder and what is in it. Twice is fine."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def sweep(prefix: str, parent: Path) -> None:
    """Removes what killed processes of this user left in `parent`; whatever keeps it from that is the next one's to try."""
    for folder in parent.glob(f"{prefix}*"):
        with suppress(OSError):
            about = folder.lstat()
            if stat.S_ISDIR(about.st_mode) and about.st_uid == os.getuid():
                _remove_if_left(folder)


def _remove_if_left(folder: Path) -> None:
    lock = os.open(folder / _LOCK, os.O_RDWR | os.O_NOFOLLOW)
    try:
        if _is_taken(lock):
            for inside in folder.iterdir():
                if inside.name != _LOCK:  # last: whatever cannot be removed must still be known as left
                    shutil.rmtree(inside) if inside.is_dir() and not inside.is_symlink() else inside.unlink()
            shutil.rmtree(folder)
    finally:
        os.close(lock)


def _is_taken(lock: int) -> bool:
    """Whether the lock is this process's now: it was another's, or the file system has none, otherwise."""
    try:
        lock_now(lock)
    except OSError:
        return False
    return True
