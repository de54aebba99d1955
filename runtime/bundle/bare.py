"""A bare model file, or a folder `name/version/model.*`, served as a bundle of one variant.

Its tensors are unknown until a backend has opened the file, so it has no manifest and no samples: nothing guards its
accuracy.
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

from runtime.bundle.bundle import Bundle, sha256_of
from runtime.bundle.manifest import Format, Variant
from runtime.bundle.unchanged import Signature, signature_at
from runtime.errors import BundleError, WrongUseError

FORMAT_OF_SUFFIX = {".onnx": Format.ONNX, ".tflite": Format.TFLITE, ".pt2": Format.TORCH}

# What torch.save writes: a pickle, which would run code when it is read.
_PICKLED = frozenset({".pt", ".pth"})


def read_bare_file(path: Path, name: str | None = None, version: int = 1) -> Bundle:
    """A bundle whose only variant is the file at `path`; its name is the file's stem unless `name` is given.

    `WrongUseError` where its suffix is that of no model.
    """
    format_ = FORMAT_OF_SUFFIX.get(path.suffix)
    if format_ is None:
        known = ", ".join(FORMAT_OF_SUFFIX)
        how = "; write it with torch.export.save" if path.suffix in _PICKLED else ""
        raise WrongUseError(f"{path} is no model file: its suffix is {path.suffix!r}; expected one of {known}{how}")
    signature = signature_at(path)
    if signature is None:
        return _read_bare_file(path, format_, name, version)
    return _remembered_bundle(path, format_, name, version, signature)


@lru_cache(maxsize=64)
def _remembered_bundle(path: Path, format_: Format, name: str | None, version: int, signature: Signature) -> Bundle:
    return _read_bare_file(path, format_, name, version)


def _read_bare_file(path: Path, format_: Format, name: str | None, version: int) -> Bundle:
    digest = sha256_of(path)
    size = path.stat().st_size
    if size == 0:
        raise BundleError(f"{path} is empty; copy the model file again")
    variant = Variant(
        name=path.name if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", path.name) else f"model{path.suffix}",
        file=path.name,
        format=format_,
        precision="as built",
        sha256=digest,
        size_bytes=size,
    )
    return Bundle(path.parent, None, name or path.stem, version, (variant,), digest)


def read_model_folder(root: Path) -> list[Bundle]:
    """The versions in a folder `name/version/model.*` (Triton's layout), lowest first; `BundleError` without any."""
    versions = [d for d in root.iterdir() if d.is_dir() and re.fullmatch(r"[1-9][0-9]{0,17}", d.name)]
    bundles = []
    for folder in sorted(versions, key=lambda d: int(d.name)):
        files = [f for f in sorted(folder.iterdir()) if f.stem == "model" and f.suffix in FORMAT_OF_SUFFIX]
        if len(files) > 1:
            raise BundleError(f"{folder} holds {', '.join(f.name for f in files)}; expected one model file a version")
        if files:
            bundles.append(read_bare_file(files[0], name=root.name, version=int(folder.name)))
    if not bundles:
        raise BundleError(
            f"{root} is neither a bundle (no manifest.json) nor a folder NAME/VERSION/model.* "
            f"({', '.join(FORMAT_OF_SUFFIX)})"
        )
    return bundles
