"""The regions of shared memory that clients have registered: names, limits and bounds, the same wherever the bytes lie.

Nothing here opens anything: `system_memory` and `cuda_memory` do, each for its kind.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar, Protocol, TypeVar

from runtime.errors import InvalidInputError, PayloadTooLargeError

# Each holds a file descriptor open, of which a process has 1024 by default, or a mapping of a device's memory.
MAX_REGIONS = 256

_NAME = re.compile(r"[^\x00-\x1f\x7f/\\]{1,200}")


class Region(Protocol):
    """What was registered."""

    kind: ClassVar[str]
    """"system" or "CUDA"; each has RPCs and routes of its own, and names are shared."""

    @property
    def name(self) -> str:
        """What requests call it."""

    @property
    def size_bytes(self) -> int:
        """How long it is."""


class Opened(Protocol):
    """A region and its bytes. What it holds is given back when the last one who uses it is gone."""

    @property
    def region(self) -> Region:
        """What was registered."""

    def read(self, offset: int, size_bytes: int) -> bytes | memoryview:
        """A copy of a part that lies inside the region; `InvalidInputError` where it cannot be read."""

    def write(self, offset: int, raw: bytes | memoryview) -> None:
        """Puts `raw` there, which ends inside the region; `InvalidInputError` where it cannot be written."""


R = TypeVar("R", bound=Region)


class Regions:
    """Regions by name, of both kinds."""

    def __init__(self, max_tensor_bytes: int) -> None:
        self._max_tensor_bytes = max_tensor_bytes
        self._opened: dict[str, Opened] = {}
        self._claims: set[str] = set()

    @contextmanager
    def claimed(self, name: str, size_bytes: int) -> Iterator[None]:
        """Keeps `name` for a region that is opened meanwhile; `InvalidInputError` when it cannot have that name or size."""
        if not _NAME.fullmatch(name):
            raise InvalidInputError(
                f"{name!r:.80} cannot name a region; expected 1 to 200 characters without '/' and '\\'"
            )
        if name in self._opened or name in self._claims:
            raise InvalidInputError(f"shared memory region {name!r} is registered already; unregister it first")
        if len(self._opened) + len(self._claims) >= MAX_REGIONS:
            raise InvalidInputError(f"{MAX_REGIONS} regions are registered, no more are kept; unregister some")
        if size_bytes <= 0:
            raise InvalidInputError(f"region {name!r} has {size_bytes} bytes; expected 1 or more")
        self._claims.add(name)
        try:
            yield
        finally:
            self._claims.discard(name)

    def add(self, opened: Opened) -> None:
        """Keeps it under its name, which was claimed."""
        self._opened[opened.region.name] = opened

    def remove(self, kind: type[Region], name: str = "") -> None:
        """Forgets the region, or all of its kind without a name; slots taken of it stay good. An unknown name is fine."""
        if not name:
            self._opened = {at: opened for at, opened in self._opened.items() if not isinstance(opened.region, kind)}
        elif name in self._opened:
            self._of_kind(kind, name)
            del self._opened[name]

    def listed(self, kind: type[R], name: str = "") -> list[R]:
        """The region, or all of its kind without a name; `InvalidInputError` for an unknown one."""
        if name:
            return [self._of_kind(kind, name)]
        return [opened.region for opened in self._opened.values() if isinstance(opened.region, kind)]

    def part(self, name: str, offset: int, size_bytes: int) -> Part:
        """A part of a region, for one tensor; `InvalidInputError` when there is no such part."""
        opened = self._find(name)
        if offset + size_bytes > opened.region.size_bytes:
            raise InvalidInputError(
                f"bytes {offset} to {offset + size_bytes} are asked for in region {name!r}, which has "
                f"{opened.region.size_bytes} bytes"
            )
        if size_bytes > self._max_tensor_bytes:
            raise PayloadTooLargeError(
                f"a tensor of {size_bytes} bytes in region {name!r}; this server takes at most {self._max_tensor_bytes}; "
                "send smaller batches or raise max_message_bytes"
            )
        return Part(opened, offset, size_bytes)

    def _of_kind(self, kind: type[R], name: str) -> R:
        region = self._find(name).region
        if not isinstance(region, kind):
            raise InvalidInputError(
                f"region {name!r} is {region.kind} shared memory, and was asked for as {kind.kind} shared memory"
            )
        return region

    def _find(self, name: str) -> Opened:
        opened = self._opened.get(name)
        if opened is None:
            known = ", ".join(map(repr, sorted(self._opened))) or "none"
            raise InvalidInputError(f"shared memory region {name!r:.80} is not registered; registered: {known}")
        return opened


class Part:
    """A part of a region that holds a tensor, or is to hold one: a `runtime.wire.values.Slot`."""

    __slots__ = ("_opened", "offset", "size_bytes")

    def __init__(self, opened: Opened, offset: int, size_bytes: int) -> None:
        self._opened = opened
        self.offset = offset
        self.size_bytes = size_bytes

    @property
    def region(self) -> str:
        """The region's name."""
        return self._opened.region.name

    def read(self) -> bytes | memoryview:
        """All of it."""
        return self._opened.read(self.offset, self.size_bytes)

    def write(self, raw: bytes | memoryview) -> None:
        """Puts `raw` at its beginning."""
        self._opened.write(self.offset, raw)
