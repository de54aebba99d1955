"""API keys: made here and shown once, kept as sha256 alone, compared in constant time.

A key is 256 random bits, so a plain hash of it cannot be guessed; a slow one would only slow every request down.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import re
import secrets
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from runtime.errors import UnauthenticatedError, WrongUseError

log = logging.getLogger(__name__)

KEY_PREFIX: Final = "edgeward_"
KEY_BYTES: Final = 32
# Keys from a file are made by people: below this, guessing is no longer hopeless (16 characters of base64 are 96 bits).
MIN_CHOSEN_CHARACTERS: Final = 16
# How long a revoked key may still work, and how often at most a request looks at the file.
REFRESH_S: Final = 1.0
# A change takes milliseconds; whoever waits this long waits for somebody who hangs.
LOCK_TIMEOUT_S: Final = 10.0

caller: ContextVar[str] = ContextVar("edgeward_caller", default="")
"""Whose request the task that reads it answers: the sha256 of the API key; empty where none is asked for."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class ApiKey(BaseModel):
    """What is kept of one key: never the key."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    created: AwareDatetime


class _KeyFile(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = Field(default=1, ge=1, le=1)
    keys: tuple[ApiKey, ...] = ()


class KeyStore:
    """The keys in one JSON file that only its owner can read."""

    def __init__(self, file: Path) -> None:
        self.file = file

    @classmethod
    def under(cls, home: Path) -> KeyStore:
        """The store of a gateway whose state lives under `home`."""
        return cls(home / "gateway" / "keys.json")

    def exists(self) -> bool:
        """Whether keys were ever made here; it stays so when the last one is revoked: nobody gets in then, not everybody."""
        return self.file.exists()

    def list(self) -> tuple[ApiKey, ...]:
        """The keys by name; none when the file is absent. `WrongUseError` when it cannot be read."""
        try:
            text = self.file.read_text(encoding="utf-8")
        except FileNotFoundError:
            return ()
        except (OSError, UnicodeDecodeError) as error:
            raise WrongUseError(f"the key file {self.file} cannot be read: {error}") from error
        try:
            return _KeyFile.model_validate_json(text).keys
        except ValidationError as error:
            raise WrongUseError(
                f"the key file {self.file} is damaged ({error.errors()[0]['msg']}); restore it, or remove it and make new keys"
            ) from error

    def create(self, name: str) -> str:
        """A new key, to be shown once; `WrongUseError` when the name is taken or no name."""
        if not _NAME.fullmatch(name):
            raise WrongUseError(f"key name {name!r} is none; expected up to 64 letters, digits, '.', '_' and '-'")
        value = KEY_PREFIX + secrets.token_urlsafe(KEY_BYTES)
        with self._alone():
            keys = self.list()
            if any(key.name == name for key in keys):
                raise WrongUseError(f"a key named {name!r} exists; revoke it first, or choose another name")
            made = ApiKey(name=name, sha256=_digest(value), created=datetime.now(UTC).replace(microsecond=0))
            self._write((*keys, made))
        return value

    def revoke(self, name: str) -> None:
        """Ends a key; running gateways notice within `REFRESH_S`. `WrongUseError` when there is none of that name."""
        with self._alone():
            keys = self.list()
            if all(key.name != name for key in keys):
                known = ", ".join(key.name for key in keys) or "none"
                raise WrongUseError(f"there is no key named {name!r}; known: {known}")
            self._write(tuple(key for key in keys if key.name != name))

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Read, change and write as one step: whoever else changes the file, in this process or another, waits.

        SQLite's locks serve, for they are the same on every operating system and end with their process.
        """
        try:
            self.file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            beside = self.file.with_name(f"{self.file.name}.lock")
            beside.touch(mode=0o600)
            lock = sqlite3.connect(beside, timeout=LOCK_TIMEOUT_S)
        except (OSError, sqlite3.Error) as error:
            raise WrongUseError(f"the key file {self.file} cannot be locked: {error}") from error
        try:
            try:
                lock.execute("BEGIN EXCLUSIVE")
            except sqlite3.Error as error:
                raise WrongUseError(
                    f"the key file {self.file} is being changed by somebody else: {error}; try again"
                ) from error
            yield
        finally:
            lock.close()

    def _write(self, keys: tuple[ApiKey, ...]) -> None:
        """Atomic: a reader sees the old keys or the new ones. mkstemp makes files that only their owner can read."""
        try:
            self.file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(prefix=".keys-", dir=self.file.parent)
            try:
                with os.fdopen(handle, "w", encoding="utf-8") as opened:
                    opened.write(_KeyFile(keys=keys).model_dump_json(indent=2))
                    opened.flush()
                    os.fsync(opened.fileno())
                Path(name).replace(self.file)
            except BaseException:
                Path(name).unlink(missing_ok=True)
                raise
        except OSError as error:
            raise WrongUseError(f"the key file {self.file} cannot be written: {error}") from error


class Authorizer:
    """Says whether a request's key is good: a `runtime.serving.bearer.Authorize`."""

    def __init__(
        self, store: KeyStore, chosen: tuple[str, ...] = (), monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._chosen = tuple(_digest(key) for key in chosen)
        self._monotonic = monotonic
        self._digests: tuple[str, ...] | None = self._read()
        self._read_at = monotonic()

    def __call__(self, key: str | None) -> None:
        """Returns when `key` is one of the keys as they are now, and makes its holder this task's `caller`.

        `UnauthenticatedError` otherwise.
        """
        if key is None:
            raise UnauthenticatedError("this gateway wants an API key; send it as 'authorization: Bearer <key>'")
        digests = self._current()
        if digests is None:
            raise UnauthenticatedError("this gateway cannot read its keys, so it lets nobody in; see its log")
        digest = _digest(key)
        # Every one is compared, so that the time taken says nothing about which it was.
        if sum(hmac.compare_digest(digest, known) for known in digests) == 0:
            raise UnauthenticatedError("the API key is not one of this gateway's; ask whoever runs it for another")
        caller.set(digest)

    def _current(self) -> tuple[str, ...] | None:
        """The digests as they were at most `REFRESH_S` ago; None: they cannot be read."""
        now = self._monotonic()
        if now - self._read_at >= REFRESH_S:
            self._read_at = now
            try:
                self._digests = self._read()
            except WrongUseError as error:
                # Not the keys read before: one of them may be revoked by now.
                self._digests = None
                log.error("nobody is let in: %s", error)
        return self._digests

    def _read(self) -> tuple[str, ...]:
        return (*(key.sha256 for key in self._store.list()), *self._chosen)


def read_chosen_keys(file: Path) -> tuple[str, ...]:
    """The keys in a file, one a line; `WrongUseError` when it cannot be read, holds none, or one that is too short."""
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise WrongUseError(f"the API key file {file} cannot be read: {error}") from error
    keys = tuple(line for line in lines if line)
    if not keys:
        raise WrongUseError(
            f"the API key file {file} holds no key; write one a line, or make keys with: edgeward gateway keys create"
        )
    for number, key in enumerate(lines, 1):
        if key and len(key) < MIN_CHOSEN_CHARACTERS:
            raise WrongUseError(
                f"line {number} of {file} is a key of {len(key)} characters; expected {MIN_CHOSEN_CHARACTERS} at least"
            )
    return keys


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()
