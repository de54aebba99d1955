"""Whether a file is the one that this process read before: by inode, size and times, once those have settled.

Who may write a file may change it and set its time of change back, but not the time that the system itself keeps (`st_ctime_ns`)
short of setting the clock. What was read is remembered in this process alone: the next one reads every file again, so that a
file that rots, or is changed by whatever leaves no trace in its times, is found at the next start.
"""

from __future__ import annotations

import os
import time
from operator import attrgetter
from pathlib import Path
from typing import Final

SETTLED_AFTER_NS: Final = 2_000_000_000
"""FAT's clock ticks every two seconds, the slowest there is."""

Signature = tuple[int, ...]
"""The same as before: the same bytes as before."""

_parts_of: Final = attrgetter("st_dev", "st_ino", "st_size", "st_mtime_ns", "st_ctime_ns")
"""Of `os.stat`, a `Signature`."""


def signature_of(told: os.stat_result) -> Signature | None:
    """What to remember a file's content by; None while it changed so lately that it may change again and not show it."""
    if time.time_ns() - max(told.st_mtime_ns, told.st_ctime_ns) <= SETTLED_AFTER_NS:
        return None
    found: Signature = _parts_of(told)
    return found


def is_still(path: str | Path, signature: Signature) -> bool:
    """Whether the file at `path` still has the signature that it had: settled then, it is so now if nothing else changed."""
    try:
        told = os.stat(path)  # noqa: PTH116  (`Path.stat` takes twice as long)
    except (OSError, ValueError):
        return False
    return bool(_parts_of(told) == signature)


def signature_at(path: str | Path) -> Signature | None:
    """`signature_of` the file at `path`; None also where it cannot be looked at, or no file can have that name."""
    try:
        return signature_of(os.stat(path))  # noqa: PTH116  (`Path.stat` takes twice as long)
    except (OSError, ValueError):
        return None
