"""A bundle on disk: opened, verified, and its parts read. A bare model file is a bundle of one variant (`bare`)."""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pydantic import ValidationError

from runtime.bundle.manifest import MAX_MANIFEST_BYTES, File, Manifest, Variant, parse_manifest
from runtime.bundle.samples import MAX_SAMPLES_BYTES, Samples, samples_from_npz
from runtime.bundle.unchanged import Signature, is_still, signature_at, signature_of
from runtime.errors import BundleError

if TYPE_CHECKING:
    from runtime.bundle.profile import Profile

MANIFEST_FILE = "manifest.json"


class _Held(NamedTuple):
    """A file that was as the manifest says, wherever links may have been put since."""

    location: str
    signature: Signature
    path: Path


@dataclass(frozen=True)
class Bundle:
    """A model that ships: a manifest and the folder its files lie in."""

    root: Path
    manifest: Manifest | None
    """Absent for a bare model file, whose tensors are known once a backend has opened it."""
    name: str
    version: int
    variants: tuple[Variant, ...]
    digest: str = field(repr=False)
    """sha256 over the manifest's bytes (a bare file: over the file's); it pins every other file through its digest."""
    _held: dict[tuple[str, str, int], _Held] = field(default_factory=dict, init=False, repr=False, compare=False)
    """By file, sha256 and size what held: it does for as long as that is the very file."""

    def path_of(self, variant: Variant) -> Path:
        """Where the variant's file lies, inside the bundle's folder also after links are followed."""
        return self._inside(variant.file)

    def files(self) -> tuple[File, ...]:
        """Every file that the manifest names, with its digest; the manifest itself is not among them."""
        parts = [File(file=v.file, sha256=v.sha256, size_bytes=v.size_bytes) for v in self.variants]
        if self.manifest is not None:
            others = (self.manifest.samples, self.manifest.profile, self.manifest.labels)
            parts += [part for part in others if part is not None]
        return tuple(parts)

    def verify(self) -> None:
        """Checks that every file the manifest names is there, of the right size and sha256; else `BundleError`."""
        for part in self.files():
            self.check_file(part)

    def check_file(self, part: File | Variant) -> Path:
        """The path of one file after its size and sha256 were found to hold; `BundleError` otherwise."""
        declared = part.file, part.sha256, part.size_bytes
        held = self._held.get(declared)
        if held is not None and is_still(held.location, held.signature):
            return held.path
        location = f"{self.root}/{part.file}"
        signature = signature_at(location)  # from before the check: what changes meanwhile is checked again
        path = self._check(part)
        if signature is not None:
            self._held[declared] = _Held(location, signature, path)
        return path

    def _check(self, part: File | Variant) -> Path:
        path = self._inside(part.file)
        which = f"file {part.file!r} of bundle {self.name!r}"
        try:
            told = os.stat(path)  # noqa: PTH116  (once, where `exists`, `is_file` and `stat` would ask three times)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise BundleError(f"{which} ({self.root}) is missing; copy the bundle again") from error
        except OSError as error:
            raise _unreadable(path, error) from error
        if not stat.S_ISREG(told.st_mode):  # a pipe would be waited on for ever
            raise BundleError(f"{which} is no regular file; copy the bundle again")
        if told.st_size != part.size_bytes:
            raise BundleError(
                f"{which} has {told.st_size} bytes, its manifest says {part.size_bytes}; "
                "it was changed or cut short: copy the bundle again"
            )
        seen = _sha256_of(path, told)
        if seen != part.sha256:
            raise BundleError(
                f"{which} has sha256 {seen[:12]}…, its manifest says {part.sha256[:12]}…; "
                "it was changed: copy the bundle again"
            )
        return path

    def samples(self) -> Samples | None:
        """The bundle's samples after a check of their digest; None where it has none."""
        if self.manifest is None or self.manifest.samples is None:
            return None
        size = self.manifest.samples.size_bytes
        if size > MAX_SAMPLES_BYTES:
            raise BundleError(f"samples of bundle {self.name!r} have {size} bytes; the cap is {MAX_SAMPLES_BYTES}")
        return samples_from_npz(self.check_file(self.manifest.samples), self.manifest.inputs, self.manifest.outputs)

    def profile(self) -> Profile | None:
        """The reference profile after a check of its digest; None where the bundle has none."""
        if self.manifest is None or self.manifest.profile is None:
            return None
        from runtime.bundle.profile import Profile  # monitoring asks for it, a load does not

        path = self.check_file(self.manifest.profile)
        try:
            return Profile.model_validate_json(path.read_bytes())
        except ValidationError as error:
            raise BundleError(f"{path} is not a reference profile of schema 1: {error}") from error

    def class_names(self) -> list[str] | None:
        """One name a class, in order; None where the bundle names none."""
        if self.manifest is None or self.manifest.labels is None:
            return None
        path = self.check_file(self.manifest.labels)
        try:
            text = path.read_bytes().decode("utf-8")
        except UnicodeDecodeError as error:
            raise BundleError(f"{path} is not UTF-8 text: {error}; expected one class name a line") from error
        return text.replace("\r\n", "\n").removesuffix("\n").split("\n")

    def _inside(self, relative: str) -> Path:
        path = self.root / relative
        if not _has_link(str(self.root), relative):
            return path
        try:
            stays = path.resolve().is_relative_to(self.root.resolve())
        except (OSError, RuntimeError):  # RuntimeError: a loop of links, before Python 3.13
            stays = False
        if not stays:
            raise BundleError(
                f"file {relative!r} of bundle {self.name!r} is a link that leaves {self.root} or a loop; "
                "a bundle carries its files itself"
            )
        return path


def read_bundle(root: Path) -> Bundle:
    """The bundle in folder `root`, its manifest validated; digests of files are checked by `verify` or on use.

    A manifest that this process read before, and that is unchanged, is not read again.
    """
    return remembered_bundle(root) or _read_bundle(root)


def remembered_bundle(root: str | Path) -> Bundle | None:
    """`read_bundle` by one look at the file system; None where there is no manifest that has settled."""
    signature = signature_at(os.path.join(root, MANIFEST_FILE))  # noqa: PTH118  (a tenth of what `Path` takes)
    return None if signature is None else _remembered_bundle(str(root), signature)


@lru_cache(maxsize=64)
def _remembered_bundle(root: str, signature: Signature) -> Bundle:
    return _read_bundle(Path(root))


def _read_bundle(root: Path) -> Bundle:
    path = root / MANIFEST_FILE
    try:
        with path.open("rb") as file:
            text = file.read(MAX_MANIFEST_BYTES + 1)
    except OSError as error:
        raise BundleError(
            f"{root} is no bundle: {MANIFEST_FILE} cannot be read ({error.strerror}); "
            f"expected a folder with {MANIFEST_FILE}"
        ) from error
    manifest = parse_manifest(text, str(path))
    digest = hashlib.sha256(text).hexdigest()
    return Bundle(root, manifest, manifest.name, manifest.version, manifest.variants, digest)


def sha256_of(path: Path) -> str:
    """The sha256 of a file's bytes, in hexadecimal; `BundleError` when it cannot be read.

    A file that this process hashed before, and that is unchanged, is not read again.
    """
    try:
        told = path.stat()
    except OSError as error:
        raise _unreadable(path, error) from error
    return _sha256_of(path, told)


def _sha256_of(path: Path, told: os.stat_result) -> str:
    signature = signature_of(told)
    try:
        return _read_sha256(path) if signature is None else _remembered_sha256(str(path), signature)
    except OSError as error:
        raise _unreadable(path, error) from error


@lru_cache(maxsize=256)
def _remembered_sha256(path: str, signature: Signature) -> str:
    return _read_sha256(Path(path))


def _read_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _unreadable(path: Path, error: OSError) -> BundleError:
    return BundleError(f"{path} cannot be read: {error.strerror}; check the path and its permissions")


def _has_link(root: str, relative: str) -> bool:
    """Whether a link may stand between `root` and a file below it: only then can the file lie elsewhere.

    Windows has junctions beside links, which Python cannot tell before 3.12.
    """
    if os.name == "nt":
        return True
    at = root
    for part in relative.split("/"):
        at = f"{at}/{part}"
        if os.path.islink(at):  # noqa: PTH114  (`Path.resolve` looks at every folder from the top, for 0.1 ms)
            return True
    return False
