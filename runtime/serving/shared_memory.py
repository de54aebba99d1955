"""System shared memory: regions that clients of this machine register, and tensors read from them and written to them.

A key names a POSIX shared memory object, which on Linux is a file in /dev/shm. Tensors are read and written by `pread` and
`pwrite`, not through a mapping: a client that shrinks its region meanwhile gets an error, where a mapping would end the server
by SIGBUS, and one that changes it after the checks changes nothing. The price is one copy each way.
"""

from __future__ import annotations

import os
import re
import stat
import weakref
from dataclasses import dataclass
from pathlib import Path

from runtime.errors import InvalidInputError, PayloadTooLargeError, UnsupportedError
from runtime.tensors import to_raw
from runtime.wire.values import InferenceRequest, InferenceResponse, Placed, Slot

# Where Linux keeps POSIX shared memory.
FOLDER = Path("/dev/shm")  # noqa: S108
# Each holds a file descriptor open; a process has 1024 by default.
MAX_REGIONS = 256

# As shm_open takes it: one name, with or without the slash in front.
_KEY = re.compile(r"/?(?!\.+\Z)[A-Za-z0-9._-]{1,200}")
_NAME = re.compile(r"[^\x00-\x1f\x7f/\\]{1,200}")
# The protocol's numbers are unsigned, the operating system's are not.
_MAX_OFFSET = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Region:
    """What was registered."""

    name: str
    key: str
    offset: int
    size_bytes: int


class SharedMemory:
    """The regions of one server. `off_because` says why there are none; every method then raises `UnsupportedError`."""

    def __init__(self, max_tensor_bytes: int, off_because: str | None = None) -> None:
        self.off_because = off_because
        self._max_tensor_bytes = max_tensor_bytes
        self._regions: dict[str, _Opened] = {}

    def register(self, name: str, key: str, offset: int, size_bytes: int) -> None:
        """Opens the object called `key` and keeps `size_bytes` of it from `offset` on as region `name`."""
        self._require_on()
        if not _NAME.fullmatch(name):
            raise InvalidInputError(
                f"{name!r:.80} cannot name a region; expected 1 to 200 characters without '/' and '\\'"
            )
        if not _KEY.fullmatch(key):
            raise InvalidInputError(
                f"{key!r:.80} is no key of shared memory; expected a name such as '/input_data': letters, digits, '.', '_', '-'"
            )
        if name in self._regions:
            raise InvalidInputError(f"shared memory region {name!r} is registered already; unregister it first")
        if len(self._regions) >= MAX_REGIONS:
            raise InvalidInputError(f"{MAX_REGIONS} regions are registered, no more are kept; unregister some")
        if size_bytes <= 0 or offset < 0:
            raise InvalidInputError(
                f"region {name!r} has offset {offset} and {size_bytes} bytes; expected 0 or more and 1 or more"
            )
        fd = _open(key)
        try:
            told = os.fstat(fd)
            if not stat.S_ISREG(told.st_mode):
                raise InvalidInputError(f"key {key!r} is no shared memory object; create it with shm_open")
            if offset > _MAX_OFFSET or size_bytes > _MAX_OFFSET or offset + size_bytes > told.st_size:
                raise InvalidInputError(
                    f"region {name!r} ends at byte {offset + size_bytes}, but the object {key!r} has {told.st_size} bytes"
                )
        except BaseException:
            os.close(fd)
            raise
        self._regions[name] = _Opened(Region(name, key, offset, size_bytes), fd)

    def unregister(self, name: str = "") -> None:
        """Forgets the region, or all of them without a name; requests under way keep theirs. An unknown name is fine."""
        self._require_on()
        if name:
            self._regions.pop(name, None)
        else:
            self._regions.clear()

    def status(self, name: str = "") -> list[Region]:
        """The region, or all of them without a name; `InvalidInputError` for an unknown one."""
        self._require_on()
        return [opened.region for opened in self._regions.values()] if not name else [self._find(name).region]

    def slot(self, region: str, offset: int, size_bytes: int) -> Slot:
        """A part of a registered region; it stays readable when the region is unregistered meanwhile."""
        self._require_on()
        opened = self._find(region)
        if offset + size_bytes > opened.region.size_bytes:
            raise InvalidInputError(
                f"bytes {offset} to {offset + size_bytes} are asked for in region {region!r}, which has "
                f"{opened.region.size_bytes} bytes"
            )
        if size_bytes > self._max_tensor_bytes:
            raise PayloadTooLargeError(
                f"a tensor of {size_bytes} bytes in region {region!r}; this server takes at most {self._max_tensor_bytes}; "
                "send smaller batches or raise max_message_bytes"
            )
        return _Part(opened, offset, size_bytes)

    def _find(self, name: str) -> _Opened:
        opened = self._regions.get(name)
        if opened is None:
            known = ", ".join(map(repr, sorted(self._regions))) or "none"
            raise InvalidInputError(f"shared memory region {name!r:.80} is not registered; registered: {known}")
        return opened

    def _require_on(self) -> None:
        if self.off_because is not None:
            raise UnsupportedError(f"shared memory is off: {self.off_because}; send the tensors themselves")


def why_off(is_wanted: bool, is_loopback: bool, host: str) -> str | None:
    """Why a server has no shared memory; None when it has."""
    if not is_wanted:
        return "this server was started with --no-shared-memory"
    if not is_loopback:
        return f"only clients of this machine share memory with it, and this server listens on {host}"
    if not FOLDER.is_dir() or not hasattr(os, "pread"):
        return f"this machine has no {FOLDER}, where POSIX shared memory is kept on Linux"
    return None


def write_outputs(request: InferenceRequest, response: InferenceResponse) -> dict[str, Placed]:
    """Writes the outputs that were asked for in shared memory there, and says how much of each slot they fill."""
    placed: dict[str, Placed] = {}
    for output in request.outputs:
        slot = output.slot
        if slot is None or output.name not in response.outputs:
            continue
        raw = to_raw(response.outputs[output.name])
        if len(raw) > slot.size_bytes:
            raise InvalidInputError(
                f"output {output.name!r} takes {len(raw)} bytes; {slot.size_bytes} were given for it in region {slot.region!r}"
            )
        slot.write(raw)
        placed[output.name] = Placed(slot.region, slot.offset, len(raw))
    return placed


class _Opened:
    """A region and its open file, which is closed when the last one who uses it is gone."""

    __slots__ = ("__weakref__", "fd", "region")

    def __init__(self, region: Region, fd: int) -> None:
        self.region = region
        self.fd = fd
        weakref.finalize(self, os.close, fd)


class _Part:
    __slots__ = ("_opened", "offset", "size_bytes")

    def __init__(self, opened: _Opened, offset: int, size_bytes: int) -> None:
        self._opened = opened
        self.offset = offset
        self.size_bytes = size_bytes

    @property
    def region(self) -> str:
        return self._opened.region.name

    def read(self) -> bytes:
        data = os.pread(self._opened.fd, self.size_bytes, self._opened.region.offset + self.offset)
        if len(data) != self.size_bytes:
            raise InvalidInputError(
                f"region {self.region!r} gave {len(data)} of {self.size_bytes} bytes: its object {self._opened.region.key!r} "
                "has shrunk since it was registered"
            )
        return data

    def write(self, raw: bytes | memoryview) -> None:
        try:
            written = os.pwrite(self._opened.fd, raw, self._opened.region.offset + self.offset)
        except OSError as error:
            raise InvalidInputError(f"region {self.region!r} cannot be written: {error.strerror}") from error
        if written != len(raw):
            raise InvalidInputError(f"region {self.region!r} took {written} of {len(raw)} bytes; is /dev/shm full?")


def _open(key: str) -> int:
    path = FOLDER / key.lstrip("/")
    try:
        return os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise InvalidInputError(f"there is no shared memory object {key!r} on this machine; create it first") from None
    except OSError as error:
        raise InvalidInputError(f"the shared memory object {key!r} cannot be opened: {error.strerror}") from error
