"""A lock on an open file: the operating system lets go of it with the process that has it, however that ends."""

from __future__ import annotations

import os
from typing import Final

# On Windows nobody else may read what is locked, so a byte beyond any content is.
_BEYOND: Final = 1 << 30


def lock_now(descriptor: int) -> None:
    """Takes the lock of a file that is open for writing; closing `descriptor` gives it back.

    `BlockingIOError` where another process has it; another `OSError` where the file system has no locks.
    """
    if os.name != "nt":
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return
    import msvcrt

    os.lseek(descriptor, _BEYOND, os.SEEK_SET)
    try:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
    except PermissionError as error:
        raise BlockingIOError(error.errno, error.strerror) from error
    finally:
        os.lseek(descriptor, 0, os.SEEK_SET)
