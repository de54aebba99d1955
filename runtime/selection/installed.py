"""Which packages are installed here, as one short digest, in about a millisecond; and whether that may have changed, in a tenth.

Asking `importlib.metadata` for ten versions takes 3 to 12 ms, as long as opening a small model. Names of `.dist-info`
folders carry name and version: where they are all the same, so is every version.
"""

from __future__ import annotations

import hashlib
import os
import sys

_SUFFIXES = (".dist-info", ".egg-info")


def installed_digest() -> str:
    """32 hexadecimal digits that change when a package is installed, removed or changed in version."""
    names: set[str] = set()
    for folder in dict.fromkeys(sys.path):
        try:
            names.update(name for name in os.listdir(folder or ".") if name.endswith(_SUFFIXES))  # noqa: PTH208
        except OSError:
            continue  # an archive, or nothing at all: no packages with metadata of their own
    return hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest()[:32]


def installed_stamp() -> str:
    """A word that stays the same while `installed_digest` does: a package that comes or goes changes the time of its folder."""
    times: list[tuple[str, int, int]] = []
    for folder in dict.fromkeys(sys.path):
        try:
            told = os.stat(folder or ".")  # noqa: PTH116
        except OSError:
            continue
        times.append((folder, told.st_ino, told.st_mtime_ns))
    return hashlib.sha256(repr(times).encode()).hexdigest()[:32]
