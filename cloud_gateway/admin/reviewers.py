"""Reviewers with keys of their own: they may list review items and answer them, and nothing else."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from typing import Final

from pydantic import Field

from runtime.config import SettingsModel

KEY_PREFIX: Final = "edgeward_review_"
KEY_BYTES: Final = 32


class ReviewerSettings(SettingsModel):
    """One person: a table `[[reviewers]]` of the gateway's TOML file, as `edgeward review key NAME` prints it."""

    name: str = Field(min_length=1, max_length=128)
    """Whose answers they are."""
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """Of the key, in hexadecimal; the key itself is kept nowhere."""


class ReviewerKeys:
    """Whose key it is."""

    def __init__(self, reviewers: Sequence[ReviewerSettings] = ()) -> None:
        self._reviewers = tuple(reviewers)

    def name_of(self, key: str | None) -> str | None:
        """The reviewer whose key this is; None: nobody's. Every one is compared, so the time taken tells nothing."""
        if key is None:
            return None
        digest = _digest(key)
        found = [one.name for one in self._reviewers if hmac.compare_digest(digest, one.sha256)]
        return found[0] if found else None


def make_key(name: str) -> tuple[str, ReviewerSettings]:
    """A new key (256 random bits, so that a plain hash of it cannot be guessed), and what the settings keep of it."""
    key = KEY_PREFIX + secrets.token_urlsafe(KEY_BYTES)
    return key, ReviewerSettings(name=name, sha256=_digest(key))


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()
