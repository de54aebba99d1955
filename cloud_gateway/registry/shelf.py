"""Where a registry's bytes lie: a folder of this machine, or a place that fsspec reaches (`s3://bucket/models`, `memory://models`).

Names are relative, "digits/2/bundle.tar". What `put` returned from is there, whole, and stays as it is.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from runtime.errors import ConflictError, StorageError, WrongUseError

T = TypeVar("T")

_COPY_BYTES: Final = 1 << 20


class Shelf(Protocol):
    """A few named files, written once. Blocking; `StorageError` where the place fails."""

    def names(self, below: str) -> list[str]:
        """Folders directly below `below` ("" is the top), by name; none where it is not there."""

    def read(self, name: str, max_bytes: int) -> bytes | None:
        """A small file's bytes; None where it is absent."""

    def put(self, name: str, content: Path) -> None:
        """Copies a file there, whole or not at all; `ConflictError` when the name is taken."""

    def fetch(self, name: str, target: Path) -> Path:
        """The file as one of this machine: itself where it lies here, else copied to `target`."""


class FolderShelf:
    """A folder."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def names(self, below: str) -> list[str]:
        """Folders directly below `below`."""
        folder = self._root / below
        return _guarded(
            lambda: sorted(child.name for child in folder.iterdir() if child.is_dir()) if folder.is_dir() else [],
            folder,
        )

    def read(self, name: str, max_bytes: int) -> bytes | None:
        """A small file's bytes."""
        path = self._root / name

        def work() -> bytes | None:
            try:
                with path.open("rb") as file:
                    return file.read(max_bytes)
            except FileNotFoundError:
                return None

        return _guarded(work, path)

    def put(self, name: str, content: Path) -> None:
        """Written beside its place, synced, and linked to it: the link is refused where the name is taken."""
        path = self._root / name
        scratch = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}")

        def work() -> None:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with content.open("rb") as source, scratch.open("xb") as target:
                    shutil.copyfileobj(source, target, _COPY_BYTES)
                    target.flush()
                    os.fsync(target.fileno())
                scratch.chmod(0o444)
                try:
                    os.link(scratch, path)
                except FileExistsError:
                    raise ConflictError(f"{path} is there already, and what is in a registry does not change") from None
                _sync_folder(path.parent)
            finally:
                scratch.unlink(missing_ok=True)

        _guarded(work, path)

    def fetch(self, name: str, target: Path) -> Path:
        """Its own path."""
        return self._root / name


class FsspecShelf:
    """A URL. Two gateways that push one version at the same moment are told apart only where the place itself can."""

    def __init__(self, url: str) -> None:
        try:
            from fsspec.core import url_to_fs
        except ModuleNotFoundError as error:
            raise WrongUseError(
                f"registry {url!r} needs fsspec, which is not installed; pip install fsspec (and its driver for that place), "
                "or name a folder"
            ) from error
        try:
            self._files, self._root = url_to_fs(url)
        except (ValueError, ImportError) as error:
            raise WrongUseError(f"registry {url!r} cannot be used: {error}") from error

    def names(self, below: str) -> list[str]:
        """Folders directly below `below`."""
        at = self._at(below)

        def work() -> list[str]:
            try:
                found: list[dict[str, Any]] = self._files.ls(at, detail=True)
            except FileNotFoundError:
                return []
            return sorted(
                str(one["name"]).rstrip("/").rpartition("/")[2] for one in found if one["type"] == "directory"
            )

        return _guarded(work, at)

    def read(self, name: str, max_bytes: int) -> bytes | None:
        """A small file's bytes."""

        def work() -> bytes | None:
            try:
                with self._files.open(self._at(name), "rb") as file:
                    content: bytes = file.read(max_bytes)
                    return content
            except FileNotFoundError:
                return None

        return _guarded(work, self._at(name))

    def put(self, name: str, content: Path) -> None:
        """Uploaded under another name and moved: a file of that name is whole."""
        at = self._at(name)
        scratch = f"{at}.{os.urandom(8).hex()}"

        def work() -> None:
            if self._files.exists(at):
                raise ConflictError(f"{at} is there already, and what is in a registry does not change")
            self._files.makedirs(at.rpartition("/")[0], exist_ok=True)
            self._files.put_file(str(content), scratch)
            self._files.mv(scratch, at)

        _guarded(work, at)

    def fetch(self, name: str, target: Path) -> Path:
        """A copy of this machine's; what a broken transfer left is not taken for it."""

        def work() -> Path:
            target.parent.mkdir(parents=True, exist_ok=True)
            scratch = target.with_name(f".{target.name}.{os.urandom(4).hex()}")
            try:
                self._files.get_file(self._at(name), str(scratch))
                scratch.replace(target)
            finally:
                scratch.unlink(missing_ok=True)
            return target

        return _guarded(work, self._at(name))

    def _at(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}".rstrip("/")


def open_shelf(place: str) -> Shelf:
    """The shelf that `place` names: a URL where it has a scheme, else a folder."""
    return FsspecShelf(place) if "://" in place else FolderShelf(Path(place).expanduser())


def _guarded(work: Callable[[], T], where: object) -> T:
    try:
        return work()
    except OSError as error:
        raise StorageError(
            f"the registry at {where} failed: {error}; look at its disk space and rights, then try again"
        ) from error


def _sync_folder(folder: Path) -> None:
    """The directory's entry survives a power failure; there is no such call on Windows."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
