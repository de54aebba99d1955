"""The audit log's chain: each line's hash covers the line and the hash before it, so that no line is changed or left out unseen.

Pure. Whoever may write the database could forge a whole new chain; a copy of one hash, kept elsewhere, shows that.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

GENESIS: Final = "0" * 64
"""The hash before the first line."""


@dataclass(frozen=True, slots=True)
class AuditLine:
    """One thing that happened."""

    number: int
    """From 1, without gaps."""
    unix_ms: int
    event: str
    model: str
    document: str
    """What happened, as JSON, byte for byte as it was hashed."""
    previous: str
    hash: str

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "number": self.number,
            "unix_ms": self.unix_ms,
            "event": self.event,
            "model": self.model,
            "document": json.loads(self.document),
            "previous": self.previous,
            "hash": self.hash,
        }


def next_line(
    number: int, previous: str, unix_ms: int, event: str, model: str, document: Mapping[str, Any]
) -> AuditLine:
    """The line that follows the one whose hash is `previous`."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return AuditLine(
        number, unix_ms, event, model, text, previous, _hash(number, unix_ms, event, model, text, previous)
    )


def first_break(lines: Iterable[AuditLine], head: tuple[int, str]) -> str | None:
    """What is wrong with the whole log, in a sentence; None: nothing. `head`: number and hash of the last line."""
    number, previous = 0, GENESIS
    for line in lines:
        number += 1
        if line.number != number:
            return f"line {number} is missing: line {line.number} follows line {number - 1}"
        if line.previous != previous:
            return f"line {number} does not follow line {number - 1}: the hash that it names is another"
        if line.hash != _hash(line.number, line.unix_ms, line.event, line.model, line.document, line.previous):
            return f"line {number} ({line.event}) was changed: its hash is not that of its content"
        previous = line.hash
    if (number, previous) != head:
        return f"the log ends with line {number}; its head says {head[0]}: lines at its end are missing or were added"
    return None


def _hash(number: int, unix_ms: int, event: str, model: str, document: str, previous: str) -> str:
    # As a JSON list, so that no two different lines have the same bytes.
    content = json.dumps([number, unix_ms, event, model, document, previous], separators=(",", ":"))
    return hashlib.sha256(content.encode()).hexdigest()
