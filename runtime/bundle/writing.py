"""Writing a bundle: a folder from values, its digests computed here, and a tar of such a folder.

What is written is whole or not there, and the same values give the same bytes.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from runtime.bundle.bundle import MANIFEST_FILE, Bundle, read_bundle
from runtime.bundle.manifest import File, Manifest, ModelDescription, Variant, VariantDescription
from runtime.bundle.profile import Profile
from runtime.bundle.samples import Samples, samples_to_npz
from runtime.errors import BundleError

SAMPLES_FILE = "samples.npz"
PROFILE_FILE = "profile.json"
LABELS_FILE = "labels.txt"


@dataclass(frozen=True, slots=True)
class VariantDraft:
    """A variant to write, and the bytes of its file or where they are read from."""

    description: VariantDescription
    content: bytes | Path


@dataclass(frozen=True, slots=True)
class BundleDraft:
    """Everything a bundle holds, before it is on disk; the first variant is the reference."""

    model: ModelDescription
    variants: tuple[VariantDraft, ...]
    samples: Samples | None = None
    profile: Profile | None = None
    class_names: tuple[str, ...] | None = None
    """One name a class, in order."""


def write_bundle(folder: Path, draft: BundleDraft, *, replace: bool = False) -> Bundle:
    """The bundle written to `folder`, which appears whole; `BundleError` when it exists and `replace` is not set.

    With `replace`, the old folder is moved away before the new one takes its place: in between there is none.
    """
    if folder.exists() and not replace:
        raise BundleError(f"{folder} exists already; name another folder, or have it replaced (--replace)")
    contents = _contents(draft)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as scratch:
        fresh = Path(scratch) / "new"
        for relative, content in contents.items():
            path = fresh / relative
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        read_bundle(fresh).verify()
        if folder.exists():
            folder.rename(Path(scratch) / "old")
        fresh.rename(folder)
    return read_bundle(folder)


def pack(bundle: Bundle, archive: Path) -> Path:
    """A tar of the bundle's files below a folder of its name; `archive` is replaced in one step.

    Uncompressed, without times and owners: the same bundle gives the same bytes. What the manifest does not name is left.
    """
    if bundle.manifest is None:
        raise BundleError(f"{bundle.name!r} is a bare model file; only a bundle with {MANIFEST_FILE} is packed")
    bundle.verify()
    names = {MANIFEST_FILE, *(part.file for part in bundle.files())}
    archive.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=archive.parent, prefix=f".{archive.name}-") as scratch:
        fresh = Path(scratch) / archive.name
        with tarfile.open(fresh, "w", format=tarfile.PAX_FORMAT) as tar:
            for name in sorted(names):
                content = (bundle.root / name).read_bytes()
                entry = tarfile.TarInfo(f"{bundle.name}/{name}")
                entry.size, entry.mode = len(content), 0o644
                tar.addfile(entry, io.BytesIO(content))
        fresh.replace(archive)
    return archive


def _contents(draft: BundleDraft) -> dict[str, bytes]:
    """The bytes of every file of the bundle, by its path in it; the manifest comes last."""
    contents: dict[str, bytes] = {}

    def add(name: str, content: bytes) -> File:
        if name in contents:
            raise BundleError(f"two variants would both lie in {name!r}; give them names that differ before the suffix")
        contents[name] = content
        return File(file=name, sha256=hashlib.sha256(content).hexdigest(), size_bytes=len(content))

    variants = []
    for variant in draft.variants:
        content = variant.content if isinstance(variant.content, bytes) else variant.content.read_bytes()
        part = add(_variant_file(variant.description), content)
        variants.append(Variant(**dict(variant.description), **dict(part)))
    manifest = Manifest(
        **dict(draft.model),
        variants=tuple(variants),
        samples=None if draft.samples is None else add(SAMPLES_FILE, samples_to_npz(draft.samples)),
        profile=None
        if draft.profile is None
        else add(PROFILE_FILE, _json(draft.profile.model_dump(mode="json"), indent=None)),
        labels=None if draft.class_names is None else add(LABELS_FILE, _lines(draft.class_names)),
    )
    said = manifest.model_dump(mode="json", exclude_defaults=True)
    contents[MANIFEST_FILE] = _json({"schema_version": manifest.schema_version, **said})
    return contents


def _variant_file(variant: VariantDescription) -> str:
    suffix = f".{variant.format.value}"
    return f"variants/{variant.name.removesuffix(suffix)}{suffix}"


def _json(value: object, indent: int | None = 2) -> bytes:
    return (json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _lines(names: tuple[str, ...]) -> bytes:
    for name in names:
        if not name or any(sign in name for sign in "\r\n"):
            raise BundleError(f"class name {name!r} is empty or has a line break; a class has one line")
    return "".join(f"{name}\n" for name in names).encode()
