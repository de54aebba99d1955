"""Versions of bundles, checked when they come in and again when they go out; a version, once in, is what it is for ever.

    MODEL/VERSION/DIGEST.tar     the bundle, as it was packed
    MODEL/VERSION/record.json    its digests and targets; written last and once: a version without it is not there

Blocking: an event loop calls this on a thread.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cloud_gateway.registry.remote_shelf import ClaimedError
from cloud_gateway.registry.shelf import Shelf, open_shelf
from runtime.bundle.bundle import Bundle, sha256_of
from runtime.bundle.locate import open_bundles
from runtime.bundle.manifest import Targets, Task
from runtime.bundle.writing import pack
from runtime.errors import ConflictError, InvalidInputError, ModelNotFoundError, StorageError
from runtime.serving.names import check_name

MAX_RECORD_BYTES: Final = 1 << 16
RECORD: Final = "record.json"


class RegisteredVersion(BaseModel):
    """What the registry knows of one version."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    version: int
    digest: str = Field(pattern=r"^[0-9a-f]{64}$")
    """Of the bundle: sha256 of its manifest, which pins every file."""
    archive_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    size_bytes: int = Field(gt=0)
    task: Task
    targets: Targets
    """What scoping asked of it."""
    pushed_unix_s: int


class Registry:
    """One registry. Threads may share it."""

    def __init__(self, shelf: Shelf, cache: Path) -> None:
        """`cache`: a folder of this machine where archives are fetched and unpacked."""
        self._shelf = shelf
        self._cache = cache

    def push(self, archive: Path) -> RegisteredVersion:
        """Takes a bundle in (a tar of one, or its folder); pushing the same again changes nothing, or brings back what was lost.

        `ConflictError` when that version is there with other content, `BundleError` when the bundle does not hold.
        """
        bundle = self._opened(archive)
        assert bundle.manifest is not None, "checked when it was opened"
        bundle.verify()
        known = self._record(bundle.name, bundle.version)
        archived = _name(bundle.name, bundle.version, f"{bundle.digest}.tar")
        if known is not None and _same(known, bundle) and self._is_there(archived):
            return known
        self._cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._cache, prefix=".push-") as scratch:
            # Packed by us: the same bundle gives the same bytes, and nothing that its manifest does not name comes along.
            packed = pack(bundle, Path(scratch) / "bundle.tar")
            record = RegisteredVersion(
                model=bundle.name,
                version=bundle.version,
                digest=bundle.digest,
                archive_sha256=sha256_of(packed),
                size_bytes=packed.stat().st_size,
                task=bundle.manifest.task,
                targets=bundle.manifest.targets,
                pushed_unix_s=int(time.time()),
            )
            written = Path(scratch) / RECORD
            written.write_text(record.model_dump_json(indent=2), encoding="utf-8")
            try:
                self._shelf.put(archived, packed)
            except ClaimedError:
                raise
            except ConflictError:
                pass  # named by its digest: what lies there, perhaps of a push that was cut off, is the same
            if not self._is_there(archived):
                raise StorageError(
                    f"the registry took {archived} and does not have it; nothing was recorded: push it again"
                )
            try:
                self._shelf.put(_name(bundle.name, bundle.version, RECORD), written)
            except ConflictError:
                raced = self._record(bundle.name, bundle.version)
                if raced is None:
                    raise
                return _same(raced, bundle)
        return record

    def versions(self, model: str) -> list[RegisteredVersion]:
        """Every version of a model that is here, lowest first."""
        check_name(model)
        numbers = sorted(int(name) for name in self._shelf.names(model) if name.isdecimal())
        return [record for number in numbers if (record := self._record(model, number)) is not None]

    def models(self) -> list[str]:
        """Names of the models that are here."""
        return [name for name in self._shelf.names("") if not name.startswith(".")]

    def find(self, model: str, version: int) -> RegisteredVersion | None:
        """One version, or None."""
        return self._record(model, version)

    def bundle(self, model: str, version: int) -> Bundle:
        """One version, on this machine, its digests checked; `ModelNotFoundError` says which versions there are."""
        record = self._record(model, version)
        if record is None:
            there = ", ".join(str(one.version) for one in self.versions(model)) or "none"
            raise ModelNotFoundError(
                f"model {model!r} version {version} is not in the registry; versions there: {there}; "
                "push it with: edgeward gateway push BUNDLE"
            )
        archive = self._shelf.fetch(
            _name(model, version, f"{record.digest}.tar"), self._cache / f"{record.archive_sha256}.tar"
        )
        if (seen := sha256_of(archive)) != record.archive_sha256:
            raise StorageError(
                f"{archive} of the registry has sha256 {seen[:12]}…, its record says {record.archive_sha256[:12]}…; it was "
                "changed: restore it from a copy"
            )
        bundle = self._opened(archive)
        if bundle.digest != record.digest:
            raise StorageError(
                f"{archive} of the registry holds digest {bundle.digest[:12]}…, not {record.digest[:12]}…"
            )
        bundle.verify()
        return bundle

    def _is_there(self, name: str) -> bool:
        return self._shelf.read(name, 1) is not None

    def _opened(self, source: Path) -> Bundle:
        found = open_bundles(source, self._cache)
        if len(found) != 1 or found[0].manifest is None:
            raise InvalidInputError(
                f"{source.name} is no bundle with a manifest; make one with: edgeward bundle build, then push that"
            )
        return found[0]

    def _record(self, model: str, version: int) -> RegisteredVersion | None:
        text = self._shelf.read(_name(model, version, RECORD), MAX_RECORD_BYTES)
        if text is None:
            return None
        try:
            return RegisteredVersion.model_validate_json(text)
        except ValidationError as error:
            raise StorageError(f"the registry's record of {model!r} version {version} is damaged: {error}") from error


def open_registry(place: str, cache: Path) -> Registry:
    """The registry at `place`: a folder, or a URL for fsspec."""
    return Registry(open_shelf(place), cache)


def _name(model: str, version: int, file: str) -> str:
    check_name(model)  # no path: it becomes the name of a folder
    return f"{model}/{version}/{file}"


def _same(known: RegisteredVersion, bundle: Bundle) -> RegisteredVersion:
    if known.digest != bundle.digest:
        raise ConflictError(
            f"model {known.model!r} version {known.version} is in the registry with digest {known.digest[:12]}…; this bundle has "
            f"{bundle.digest[:12]}…; versions never change: give it another version number"
        )
    return known
