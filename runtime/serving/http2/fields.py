"""Header fields (HPACK, RFC 7541): of clients, decoded by `hpack`; ours, which need no table.

A client sends the same fields with every request, and names them by their places in a table that both sides keep. As long as
nothing enters the table, the same bytes mean the same again.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from hpack import Decoder
from hpack.exceptions import HPACKError, OversizedHeaderListError

from runtime.serving.http2.frames import ConnectionFault, ErrorCode

Fields = tuple[tuple[bytes, bytes], ...]
"""Names and values, in order; HTTP/2 has names in lower case."""

MAX_LIST_BYTES: Final = 65_536
"""Of all fields of one request, 32 bytes counted with each (RFC 9113, 6.5.2)."""
_MAX_KNOWN: Final = 16
# Longer blocks are no repetition worth keeping.
_MAX_KNOWN_BYTES: Final = 512


class FieldDecoder:
    """Decodes the header blocks of one connection, in order."""

    def __init__(self) -> None:
        self._decoder = Decoder(MAX_LIST_BYTES)
        self._known: dict[bytes, Fields] = {}
        """Blocks that left the table as it was, since it last changed."""

    def __call__(self, block: bytes) -> Fields:
        """The fields of one block; `ConnectionFault` where there is none in it, as both tables are then no longer the same."""
        known = self._known.get(block)
        if known is not None:
            return known
        before = self._table()
        try:
            fields = tuple((bytes(name), bytes(value)) for name, value, *_ in self._decoder.decode(block, raw=True))
        except OversizedHeaderListError as error:
            raise ConnectionFault(
                ErrorCode.ENHANCE_YOUR_CALM, f"more than {MAX_LIST_BYTES} bytes of headers"
            ) from error
        except (HPACKError, UnicodeDecodeError, ValueError, IndexError) as error:
            raise ConnectionFault(ErrorCode.COMPRESSION_ERROR, f"a header block does not decode: {error}") from error
        is_as_before = _is_same(self._table(), before)
        if not is_as_before or len(self._known) >= _MAX_KNOWN:
            self._known.clear()
        if is_as_before and len(block) <= _MAX_KNOWN_BYTES:
            self._known[block] = fields
        return fields

    def _table(self) -> _Table:
        table = self._decoder.header_table
        return table.maxsize, len(table.dynamic_entries), table.dynamic_entries[0] if table.dynamic_entries else None


_Table = tuple[int, int, tuple[bytes, bytes] | None]
"""What shows every change of a table: its size, how many are in it, and the newest, which goes before all others."""


def _is_same(now: _Table, before: _Table) -> bool:
    # The newest is the same one, not an equal one; held, as one that had gone could leave its place to another.
    return now[:2] == before[:2] and now[2] is before[2]


def encode_fields(fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A header block of literals that are not remembered: it means the same on every connection at any time."""
    return b"".join(b"\x00" + _text(name) + _text(value) for name, value in fields)


def _text(value: bytes) -> bytes:
    """A string with its length, an integer with a prefix of seven bits (5.1)."""
    if len(value) < 127:
        return bytes((len(value),)) + value
    rest, told = len(value) - 127, bytearray((127,))
    while rest >= 128:
        told.append(rest % 128 + 128)
        rest //= 128
    told.append(rest)
    return bytes(told) + value
