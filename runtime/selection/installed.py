"""Which packages are installed here, as one short digest, in about a millisecond; and whether that may have changed, in a tenth.

Asking `importlib.metadata` for ten versions takes 3 to 12 ms, as long as opening a small model. Names of `.dist-info`
folders carry name and version: where they are all the same, so is every version.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
from functools import lru_cache

_SUFFIXES = (".dist-info", ".egg-info")
_OF_PACKAGES = ("site-packages", "dist-packages")


def installed_digest() -> str:
    """32 hexadecimal digits that change when a package is installed, removed or changed in version."""
    names: set[str] = set()
    for folder in dict.fromkeys(sys.path):
        with contextlib.suppress(OSError):  # an archive, or nothing at all: no packages with metadata of their own
            names.update(_packages_in(folder))
    return hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest()[:32]


def installed_stamp() -> str:
    """A word that stays the same while `installed_digest` does, and mostly changes with it alone.

    A package that comes or goes changes the time of its folder, which is all that is looked at of a folder of packages: to list
    a thousand takes half a millisecond. A program's own folder is listed: what it writes there beside itself is no package.
    """
    seen: list[tuple[str, int, int] | tuple[str, ...]] = []
    for folder in dict.fromkeys(sys.path):
        try:
            told = os.stat(folder or ".")  # noqa: PTH116
            identity = folder, told.st_ino, told.st_mtime_ns
            seen.append(identity if folder.endswith(_OF_PACKAGES) else (folder, *_listed(*identity)))
        except OSError:
            continue
    return hashlib.sha256(repr(seen).encode()).hexdigest()[:32]


@lru_cache(maxsize=64)
def _listed(folder: str, inode: int, changed_ns: int) -> tuple[str, ...]:
    """Again only when the folder changed. What changes it twice in one tick of its clock is seen by the next process."""
    return tuple(sorted(_packages_in(folder)))


def _packages_in(folder: str) -> list[str]:
    return [name for name in os.listdir(folder or ".") if name.endswith(_SUFFIXES)]  # noqa: PTH208
