"""Where a registry's bytes lie: a folder of this machine, or a place that fsspec reaches (`s3://bucket/models`, `memory://models`).

Names are relative, "digits/2/bundle.tar". What `put` returned from is there, whole, and stays as it is.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Final, Protocol

from cloud_gateway.registry.guarded import guarded
from cloud_gateway.registry.remote_shelf import FsspecShelf
from runtime.errors import ConflictError

_COPY_BYTES: Final = 1 << 20


class Shelf(Protocol):
    """A few named files, written once. Blocking; `StorageError` where the place fails."""

    def names(self, below: str) -> list[str]:
        """Folders directly below `below` ("" is the top), by name; none where it is not there."""

    def read(self, name: str, max_bytes: int) -> bytes | None:
        """A small file's bytes; None where it is absent."""

    def put(self, name: str, content: Path) -> None:
        """Copies a file there, whole or not at all; `ConflictError` when the name is taken, `ClaimedError` when it may be soon."""

    def fetch(self, name: str, target: Path) -> Path:
        """The file as one of this machine: itself where it lies here, else copied to `target`."""


class FolderShelf:
    """A folder."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def names(self, below: str) -> list[str]:
        """Folders directly below `below`."""
        folder = self._root / below
        return guarded(
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

        return guarded(work, path)

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

        guarded(work, path)

    def fetch(self, name: str, target: Path) -> Path:
        """Its own path."""
        return self._root / name


def open_shelf(place: str) -> Shelf:
    """The shelf that `place` names: a URL where it has a scheme, else a folder."""
    return FsspecShelf(place) if "://" in place else FolderShelf(Path(place).expanduser())


def _sync_folder(folder: Path) -> None:
    """The directory's entry survives a power failure; there is no such call on Windows."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
