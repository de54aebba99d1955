"""The admin key: 256 random bits in a file that only its owner can read, made at a gateway's first start.

Whoever can read the file may change releases: file permissions are the access control on this machine, the key itself elsewhere.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import stat
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Final

from runtime.errors import UnauthenticatedError, WrongUseError

KEY_PREFIX: Final = "edgeward_admin_"
KEY_BYTES: Final = 32
# Shorter ones were not made here, and could be guessed (16 characters of base64 are 96 bits).
MIN_CHARACTERS: Final = 16


def admin_key_file(home: Path) -> Path:
    """Where a gateway whose state lives under `home` keeps its admin key."""
    return home / "gateway" / "admin.key"


def make_admin_key(file: Path) -> str:
    """The key in `file`, made first where there is none; two gateways that start at once end up with the same one."""
    if not file.exists():
        try:
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle, scratch = tempfile.mkstemp(prefix=".admin-", dir=file.parent)  # for its owner's eyes only
            try:
                with os.fdopen(handle, "w", encoding="ascii") as opened:
                    opened.write(f"{KEY_PREFIX}{secrets.token_urlsafe(KEY_BYTES)}\n")
                    opened.flush()
                    os.fsync(opened.fileno())
                with suppress(FileExistsError):  # another gateway was first: its key is the key
                    os.link(scratch, file)
            finally:
                Path(scratch).unlink(missing_ok=True)
        except OSError as error:
            raise WrongUseError(
                f"the admin key file {file} cannot be made: {error}; check its folder's rights"
            ) from error
    if sys.platform != "win32" and (mode := stat.S_IMODE(_stat(file).st_mode)) & 0o077:
        raise WrongUseError(
            f"the admin key file {file} has mode {mode:o}, so others can read it; make it 600 (chmod 600), or remove it and "
            "start again for a new key"
        )
    return read_admin_key(file)


def read_admin_key(file: Path) -> str:
    """The key in `file`; `WrongUseError`, without the key, where it cannot be read or is none."""
    try:
        key = file.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        raise WrongUseError(
            f"there is no admin key {file}; a gateway makes it at its first start. For one on another machine, copy its key here "
            "and name it with --admin-key-file"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise WrongUseError(f"the admin key file {file} cannot be read: {error}") from error
    if len(key) < MIN_CHARACTERS or len(key.split()) != 1:
        raise WrongUseError(
            f"the admin key file {file} holds no key; expected one word of {MIN_CHARACTERS} characters at least"
        )
    return key


class AdminKey:
    """Says whether a request brings the admin key: a `runtime.serving.bearer.Authorize`."""

    def __init__(self, key: str) -> None:
        self._digest = _digest(key)

    def __call__(self, key: str | None) -> None:
        """Returns when `key` is the admin key; `UnauthenticatedError` otherwise."""
        if key is None:
            raise UnauthenticatedError("this needs the admin key; send it as 'authorization: Bearer <key>'")
        # Digests, so that the time taken tells not even the length.
        if not hmac.compare_digest(_digest(key), self._digest):
            raise UnauthenticatedError(
                "that is not this gateway's admin key; it is in gateway/admin.key of its EDGEWARD_HOME"
            )


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def _stat(file: Path) -> os.stat_result:
    try:
        return file.stat()
    except OSError as error:
        raise WrongUseError(f"the admin key file {file} cannot be read: {error}") from error
