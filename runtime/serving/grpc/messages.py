"""Messages on a stream of bytes, as gRPC frames them: a flag, a length in four bytes, and the message."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from runtime.errors import InvalidInputError, PayloadTooLargeError

PREFIX_BYTES: Final = 5
# Smaller pieces are put together as they come: each one kept costs some hundred bytes beside its own.
_SMALL_BYTES: Final = 4096


@dataclass(frozen=True, slots=True)
class Message:
    """One message as it came."""

    raw: bytes
    is_packed: bool
    """In the encoding that the call's head names."""


class MessageReader:
    """Puts the messages of one call together, a copy of each. `max_bytes` holds before any of a message is kept."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._prefix = bytearray()
        self._parts: list[bytes | bytearray | memoryview] = []
        self._missing = 0

    @property
    def is_between(self) -> bool:
        """Whether no message has begun that is not whole."""
        return not self._prefix

    def feed(self, chunk: bytes | memoryview) -> Iterator[Message]:
        """The messages that are whole with it. `PayloadTooLargeError`, `InvalidInputError`: nothing more can be read."""
        at = 0
        while at < len(chunk) or (self._missing == 0 and len(self._prefix) == PREFIX_BYTES):
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
            if part:
                self._keep(part, len(chunk))
            if not self._missing:
                yield Message(b"".join(self._parts), bool(self._prefix[0]))
                self._prefix.clear()
                self._parts.clear()

    def _keep(self, part: bytes | memoryview, chunk_bytes: int) -> None:
        if len(part) < _SMALL_BYTES:
            if self._parts and isinstance(last := self._parts[-1], bytearray):
                last += part
            else:
                self._parts.append(bytearray(part))
        else:  # a view keeps all that it is a view of
            self._parts.append(part if 2 * len(part) >= chunk_bytes else bytes(part))


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
