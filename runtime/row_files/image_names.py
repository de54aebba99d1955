"""Which images a folder holds, however many: found one at a time, put in order on disk, told apart from what they were before."""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from runtime.errors import StorageError, WrongUseError

SUFFIXES: Final = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm"})
# Of SQLite, for its pages and again for what it sorts at a time; the rest of the names is on disk.
SORTED_AT_ONCE_KIB: Final = 2048
_DIGEST_BITS: Final = 256


def image_files(folder: Path, below: str = "") -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Paths below `folder`, with `/`, in no order; sub-folders too, but links to folders are not followed."""
    try:
        with os.scandir(folder / below) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    yield from image_files(folder, f"{below}{entry.name}/")
                elif _suffix_of(entry.name) in SUFFIXES and not _leads_to_a_folder(entry):
                    yield below + entry.name, entry
    except OSError as error:
        raise WrongUseError(
            f"folder {error.filename or folder / below} cannot be read: {error.strerror}; check its rights"
        ) from error


def _leads_to_a_folder(entry: os.DirEntry[str]) -> bool:
    """One that cannot be followed, as a link to itself, is a row that cannot be read."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def images_digest(folder: Path) -> str:
    """Of every image's path, size and time: the sum of a sha256 each, so that no order has to be made for it."""
    total = 0
    for name, entry in image_files(folder):
        try:
            told = entry.stat()
            said = f"\0{told.st_size}\0{told.st_mtime_ns}"
        except OSError:  # a link to nothing is a row that cannot be read
            said = ""
        total += int.from_bytes(hashlib.sha256(os.fsencode(name) + said.encode()).digest())
    return f"{total % (1 << _DIGEST_BITS):064x}"


class SortedNames:
    """Names in the order of their bytes, which is that of their characters, read forwards; used by one thread.

    SQLite sorts them in a file that has no name, in `SQLITE_TMPDIR` or where the system has such files, so a kill leaves nothing.
    `StorageError` when there is no room for it.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._database = sqlite3.connect("")
        try:
            with _on_disk():
                self._count = self._keep(names)
                self._rows = self._database.execute("SELECT name FROM image ORDER BY name")
        except BaseException:
            self.close()
            raise

    def __len__(self) -> int:
        return self._count

    def take(self, count: int) -> list[str]:
        """The next `count` names, fewer at the end."""
        with _on_disk():
            return [os.fsdecode(name) for (name,) in self._rows.fetchmany(count)]

    def skip(self, count: int) -> None:
        """Goes past the next `count` names."""
        while count > 0 and (passed := len(self.take(min(count, 1000)))):
            count -= passed

    def close(self) -> None:
        """Drops the file."""
        self._database.close()

    def _keep(self, names: Iterable[str]) -> int:
        for setting in (f"cache_size = -{SORTED_AT_ONCE_KIB}", "temp_store = FILE", "journal_mode = OFF"):
            self._database.execute(f"PRAGMA {setting}")
        self._database.execute("CREATE TABLE image (name BLOB)")
        rows = ((os.fsencode(name),) for name in names)
        return max(self._database.executemany("INSERT INTO image VALUES (?)", rows).rowcount, 0)


def _suffix_of(name: str) -> str:
    return name[name.rfind(".") :].lower() if "." in name[1:] else ""


@contextmanager
def _on_disk() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise StorageError(
            f"the names of the images cannot be put in order on disk: {error}; make room where temporary files go, or name "
            "another folder in SQLITE_TMPDIR"
        ) from error
