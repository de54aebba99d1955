"""A shelf at a URL: whatever fsspec speaks to, with no more asked of a place than files, names and renames.

Such places have no common "create, unless it is there". So a push first puts its bytes there under a name that claims the real
one, then looks who else claims it, and takes it only if nobody does: of two at the same moment at most one goes on, for whoever
looks later sees the other's claim or what became of it. Places must list what was written before, as disks, FTP and S3 do.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, TypeVar

from cloud_gateway.registry.guarded import guarded
from runtime.errors import ConflictError, EdgewardError, StorageError, WrongUseError

T = TypeVar("T")

_CLAIM: Final = ".claim-"
# A push that was killed leaves its claim behind; uploading what is claimed, a record, takes seconds, and clocks differ by minutes.
CLAIM_S: Final = 3600.0
# Folders of a version that another push may make at the same moment: the registry's, the model's, the version's.
_DEPTH: Final = 3


class ClaimedError(ConflictError):
    """Another push claims the name: it may be there soon, and is not yet."""


class FsspecShelf:
    """A URL. Threads may share it: each call has what fsspec keeps for its thread, or a connection of its own."""

    def __init__(self, url: str, unix_s: Callable[[], float] = time.time) -> None:
        """Asks nothing of the place yet but, of some kinds, to be there. `WrongUseError` for a URL that nothing here speaks."""
        try:
            from fsspec.core import url_to_fs
        except ModuleNotFoundError as error:
            raise WrongUseError(
                f"registry {_shown(url)!r} needs fsspec, which is not installed: pip install edgeward[fsspec] "
                "(and, for s3:// and the like, fsspec's driver for it), or name a folder"
            ) from error
        self._url, self._shown = url, _shown(url)
        self._url_to_fs = url_to_fs
        self._unix_s = unix_s
        self._at_place(lambda files, root: None)

    def names(self, below: str) -> list[str]:
        """Folders directly below `below`."""
        return self._at_place(
            lambda files, root: sorted(
                _last(one) for one in _listed(files, _path(root, below)) if one["type"] == "directory"
            )
        )

    def read(self, name: str, max_bytes: int) -> bytes | None:
        """A small file's bytes."""

        def work(files: Any, root: str) -> bytes | None:
            try:
                with files.open(_path(root, name), "rb") as file:
                    content: bytes = file.read(max_bytes)
                    return content
            except FileNotFoundError:
                return None

        return self._at_place(work)

    def put(self, name: str, content: Path) -> None:
        """Uploaded under a name that claims it, and moved: a file of that name is whole. `ClaimedError`: another's will be."""

        def work(files: Any, root: str) -> None:
            at = _path(root, name)
            folder, _, last = at.rpartition("/")
            _make_folder(files, folder)
            mine = f"{last}{_CLAIM}{self._unix_s():.0f}-{os.urandom(8).hex()}"
            try:
                files.put_file(str(content), f"{folder}/{mine}")
                there = {_last(one) for one in _listed(files, folder)}
                if last in there:
                    raise ConflictError(f"{at} is there already, and what is in a registry does not change")
                if any(self._claims(one, last) for one in there - {mine}):
                    raise ClaimedError(
                        f"{at} is being written by another push at this moment; try again "
                        f"(one that was cut off counts for {CLAIM_S / 60:.0f} minutes)"
                    )
                files.mv(f"{folder}/{mine}", at)
            except BaseException:
                # Over a link that is gone it stays, and gives way an hour later.
                with suppress(Exception):
                    files.rm_file(f"{folder}/{mine}")
                raise

        self._at_place(work)

    def fetch(self, name: str, target: Path) -> Path:
        """A copy of this machine's; what a broken transfer left is not taken for it."""

        def work(files: Any, root: str) -> Path:
            target.parent.mkdir(parents=True, exist_ok=True)
            scratch = target.with_name(f".{target.name}.{os.urandom(4).hex()}")
            try:
                files.get_file(_path(root, name), str(scratch))
                scratch.replace(target)
            finally:
                scratch.unlink(missing_ok=True)
            return target

        return self._at_place(work)

    def _claims(self, name: str, last: str) -> bool:
        """Whether `name` is another push's claim to `last` that may still come true."""
        began, _, _ = name.removeprefix(f"{last}{_CLAIM}").partition("-")
        if not name.startswith(f"{last}{_CLAIM}") or not began.isdecimal():
            return False
        return abs(self._unix_s() - int(began)) < CLAIM_S

    def _at_place(self, work: Callable[[Any, str], T]) -> T:
        """Listings are not kept: another gateway may have pushed meanwhile."""

        def ask() -> T:
            try:
                files, root = self._url_to_fs(self._url, use_listings_cache=False)
            except (ValueError, ImportError) as error:
                raise WrongUseError(f"registry {self._shown!r} cannot be used: {error}") from error
            return work(files, root)

        try:
            return guarded(ask, self._shown)
        except EdgewardError:
            raise
        except Exception as error:  # drivers have errors of their own, such as ftplib's
            raise StorageError(
                f"the registry at {self._shown} failed: {error!r}; look whether it can be reached, then try again"
            ) from error


def _shown(url: str) -> str:
    """Without user and password."""
    return re.sub(r"//[^/@]*@", "//…@", url)


def _path(root: str, name: str) -> str:
    return f"{root.rstrip('/')}/{name}".rstrip("/")


def _make_folder(files: Any, folder: str) -> None:
    """With those above it; another push may be making the same ones, which some drivers call an error."""
    for _ in range(_DEPTH):
        with suppress(Exception):
            files.makedirs(folder, exist_ok=True)
            return
        if files.isdir(folder):
            return
    files.makedirs(folder, exist_ok=True)


def _last(one: Any) -> str:
    return str(one["name"]).rstrip("/").rpartition("/")[2]


def _listed(files: Any, folder: str) -> list[Any]:
    try:
        found: list[Any] = files.ls(folder, detail=True)
    except FileNotFoundError:
        return []
    return found
