"""A request's key and whose it is, and how many results are kept: what `idempotency` and its store `results` share."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from runtime.errors import ConflictError


@dataclass(frozen=True, slots=True)
class ResultLimits:
    """How much is remembered; what goes, goes oldest first."""

    max_bytes: int = 256 << 20
    max_results: int = 1_000_000


@dataclass(frozen=True, slots=True)
class OwnedKey:
    """A request's key and whose it is."""

    text: str
    owner: str
    """The sha256 of the caller's API key; empty on a gateway that asks for none."""

    @property
    def stored(self) -> str:
        """What it is kept under, 128 characters at most. No key begins with "@", so none is taken for another caller's."""
        return f"@{hashlib.sha256(f'{self.owner} {self.text}'.encode()).hexdigest()}" if self.owner else self.text


def conflict(key: OwnedKey) -> ConflictError:
    """The error of a key that stands for another request."""
    return ConflictError(f"key {key.text!r} was used for another request; a new request takes a new key")
