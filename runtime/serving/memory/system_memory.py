"""System shared memory: POSIX objects of this machine, which on Linux are files in /dev/shm.

Tensors are read and written by `pread` and `pwrite`, not through a mapping: a client that shrinks its region meanwhile gets an
error, where a mapping would end the server by SIGBUS, and one that changes it after the checks changes nothing. The price is one
copy each way.
"""

from __future__ import annotations

import os
import re
import stat
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from runtime.errors import InvalidInputError

# Where Linux keeps POSIX shared memory.
FOLDER = Path("/dev/shm")  # noqa: S108

# As shm_open takes it: one name, with or without the slash in front.
_KEY = re.compile(r"/?(?!\.+\Z)[A-Za-z0-9._-]{1,200}")
# The protocol's numbers are unsigned, the operating system's are not.
_MAX_OFFSET = 2**63 - 1


@dataclass(frozen=True, slots=True)
class SystemRegion:
    """`size_bytes` of the object called `key`, from `offset` on."""

    kind: ClassVar[str] = "system"

    name: str
    key: str
    offset: int
    size_bytes: int


class SystemMemory:
    """A region and its open file, which is closed when the last one who uses it is gone."""

    __slots__ = ("__weakref__", "_fd", "region")

    def __init__(self, region: SystemRegion, fd: int) -> None:
        self.region = region
        self._fd = fd
        weakref.finalize(self, os.close, fd)

    def read(self, offset: int, size_bytes: int) -> bytes:
        """See `regions.Opened`."""
        data = os.pread(self._fd, size_bytes, self.region.offset + offset)
        if len(data) != size_bytes:
            raise InvalidInputError(
                f"region {self.region.name!r} gave {len(data)} of {size_bytes} bytes: its object {self.region.key!r} "
                "has shrunk since it was registered"
            )
        return data

    def write(self, offset: int, raw: bytes | memoryview) -> None:
        """See `regions.Opened`."""
        try:
            written = os.pwrite(self._fd, raw, self.region.offset + offset)
        except OSError as error:
            raise InvalidInputError(f"region {self.region.name!r} cannot be written: {error.strerror}") from error
        if written != len(raw):
            raise InvalidInputError(
                f"region {self.region.name!r} took {written} of {len(raw)} bytes; is {FOLDER} full?"
            )


def open_system(region: SystemRegion) -> SystemMemory:
    """Opens the region's object; `InvalidInputError` where there is none, or it ends before the region does."""
    key, offset, size_bytes = region.key, region.offset, region.size_bytes
    if not _KEY.fullmatch(key):
        raise InvalidInputError(
            f"{key!r:.80} is no key of shared memory; expected a name such as '/input_data': letters, digits, '.', '_', '-'"
        )
    if offset < 0:
        raise InvalidInputError(f"region {region.name!r} has offset {offset}; expected 0 or more")
    fd = _open(key)
    try:
        told = os.fstat(fd)
        if not stat.S_ISREG(told.st_mode):
            raise InvalidInputError(f"key {key!r} is no shared memory object; create it with shm_open")
        if offset > _MAX_OFFSET or size_bytes > _MAX_OFFSET or offset + size_bytes > told.st_size:
            raise InvalidInputError(
                f"region {region.name!r} ends at byte {offset + size_bytes}, but the object {key!r} has {told.st_size} bytes"
            )
    except BaseException:
        os.close(fd)
        raise
    return SystemMemory(region, fd)


def _open(key: str) -> int:
    path = FOLDER / key.lstrip("/")
    try:
        return os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise InvalidInputError(f"there is no shared memory object {key!r} on this machine; create it first") from None
    except OSError as error:
        raise InvalidInputError(f"the shared memory object {key!r} cannot be opened: {error.strerror}") from error
