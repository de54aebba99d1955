"""A model repository: a folder whose sub-folders are models (bundles, or `NAME/VERSION/model.*`), found by name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from runtime.errors import WrongUseError

Fingerprint = tuple[tuple[str, int, int], ...]
"""Path, size and time of change of every file of a model: another one means that something changed."""


@dataclass(frozen=True, slots=True)
class Repository:
    """The models below `root`; looked at anew each time, so that it may change while it is served."""

    root: Path

    def require(self) -> None:
        """`WrongUseError` when there is no such folder."""
        if not self.root.is_dir():
            raise WrongUseError(f"model repository {self.root} is no folder; check the path")

    def names(self) -> list[str]:
        """Every sub-folder but hidden ones."""
        try:
            return sorted(
                child.name for child in self.root.iterdir() if child.is_dir() and not child.name.startswith(".")
            )
        except OSError:
            return []

    def find(self, name: str) -> Path | None:
        """The folder of that model; None where there is none. Compared with the names there are, never joined to a path."""
        return self.root / name if name in self.names() else None

    def fingerprints(self) -> dict[str, Fingerprint]:
        """The state of every model's files."""
        return {name: _fingerprint(self.root / name) for name in self.names()}


def _fingerprint(folder: Path) -> Fingerprint:
    found = []
    for file in sorted(folder.rglob("*")):
        try:
            told = file.stat()
        except OSError:
            continue  # removed meanwhile: the next look sees that
        if file.is_file():
            found.append((str(file.relative_to(folder)), told.st_size, told.st_mtime_ns))
    return tuple(found)
