"""Messages on a stream of bytes, as gRPC frames them: a flag, a length in four bytes, and the message."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from runtime.errors import InvalidInputError, PayloadTooLargeError
from runtime.serving.reading import Reading

PREFIX_BYTES: Final = 5
# Smaller pieces are put together as they come: each one kept costs some hundred bytes beside its own.
_SMALL_BYTES: Final = 4096
# Views of smaller parts than this of what came at once are copied, too: the rest of it is other calls'.
_MOST_PARTS: Final = 16


@dataclass(frozen=True, slots=True)
class Message:
    """One message as it came."""

    raw: bytes
    is_packed: bool
    """In the encoding that the call's head names."""


class MessageReader:
    """Puts the messages of one call together, a copy of each. `max_bytes` holds before any of a message is kept.

    What is kept of a message that is not whole is counted in `reading`, until the message is whole or `drop` was called.
    """

    def __init__(self, max_bytes: int, reading: Reading) -> None:
        self._max_bytes = max_bytes
        self._reading = reading
        self._kept_bytes = 0
        self._prefix = bytearray()
        self._parts: list[bytes | bytearray | memoryview] = []
        self._missing = 0
        self._read: object = None
        """What the last parts are views of, all of which they keep; counted as a whole until something else comes."""
        self._read_from = self._read_used = 0
        """Which part is the first of them, and how many bytes they are."""

    @property
    def is_between(self) -> bool:
        """Whether no message has begun that is not whole."""
        return not self._prefix

    def feed(self, chunk: bytes | memoryview) -> Iterator[Message]:
        """The messages that are whole with it.

        `PayloadTooLargeError`, `InvalidInputError`, `OverloadedError` (too many are under way): nothing more can be read.
        """
        at = 0
        while at < len(chunk):
            if len(self._prefix) < PREFIX_BYTES:
                part = chunk[at : at + PREFIX_BYTES - len(self._prefix)]
                at += len(part)
                self._prefix += part
                if len(self._prefix) < PREFIX_BYTES:
                    return
                self._missing = read_prefix(self._prefix, self._max_bytes)
            part = chunk[at : at + self._missing]
            at += len(part)
            self._missing -= len(part)
            if self._missing:
                self._keep(part)
                return
            self._parts.append(part)
            message = Message(b"".join(self._parts), bool(self._prefix[0]))
            self._prefix.clear()
            self.drop()
            yield message

    def drop(self) -> None:
        """Forgets what is here of a message that is not whole."""
        self._parts.clear()
        self._read = None
        self._count(-self._kept_bytes)

    def _keep(self, part: bytes | memoryview) -> None:
        if isinstance(part, memoryview) and len(part) >= max(_SMALL_BYTES, _whole_bytes(part) // _MOST_PARTS):
            if part.obj is not self._read:
                self._settle()
                self._count(_whole_bytes(part))
                self._read, self._read_from, self._read_used = part.obj, len(self._parts), 0
            self._read_used += len(part)
            self._parts.append(part)
            return
        self._settle()
        self._count(len(part))
        if self._parts and isinstance(last := self._parts[-1], bytearray):
            last += part
        else:
            self._parts.append(bytearray(part))

    def _settle(self) -> None:
        """Counts of the last read what is ours, and copies that where it is the smaller part: views keep all of it."""
        if self._read is None:
            return
        whole, self._read = _whole_bytes(self._parts[-1]), None
        if 2 * self._read_used < whole:
            self._parts[self._read_from :] = [bytearray().join(self._parts[self._read_from :])]
        self._count(self._read_used - whole)

    def _count(self, size_bytes: int) -> None:
        if size_bytes > 0:
            self._reading.take(size_bytes)
        else:
            self._reading.give_back(-size_bytes)
        self._kept_bytes += size_bytes


def _whole_bytes(view: object) -> int:
    """Of what the connection was given at once, and a view is a view of."""
    assert isinstance(view, memoryview)
    assert isinstance(view.obj, bytes), "connections hand on views of what they were given"
    return len(view.obj)


def read_prefix(prefix: bytes | bytearray | memoryview, max_bytes: int) -> int:
    """The length that a prefix tells; see `MessageReader.feed`."""
    if prefix[0] > 1:
        raise InvalidInputError(f"a gRPC message begins with the flag {prefix[0]}; expected 0 or 1")
    length = int.from_bytes(prefix[1:PREFIX_BYTES], "big")
    if length > max_bytes:
        raise too_large(length, max_bytes)
    return length


def prefix_of(size_bytes: int) -> bytes:
    """What goes before a message of so many bytes that is not packed."""
    return b"\x00" + size_bytes.to_bytes(4, "big")


def too_large(size_bytes: int, max_bytes: int) -> PayloadTooLargeError:
    """The error for a message that nobody reads."""
    return PayloadTooLargeError(
        f"received message larger than max ({size_bytes} vs. {max_bytes}); "
        "send smaller batches or raise max_message_bytes"
    )
