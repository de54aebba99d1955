"""The samples of a bundle, as arrays and as the bytes of `samples.npz`.

An npz holds no objects (that would be a pickle): BYTES tensors lie in it as fixed-width strings, BF16 as its bits.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from runtime.bundle.manifest import Tensor
from runtime.errors import BundleError
from runtime.tensors import Array, as_bytes_tensor, show_shape

# Samples calibrate a choice; ten thousand images of 224 x 224 x 3 bytes would be 1.5 GB, far more than is asked for.
MAX_SAMPLES_BYTES = 256 << 20
# The oldest moment a zip entry can name: with it, and names in order, the same arrays give the same bytes.
_ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)
_INPUT, _OUTPUT = "input:", "output:"
_READ_ERRORS = (OSError, ValueError, KeyError, EOFError, RuntimeError, MemoryError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True, slots=True)
class Samples:
    """Rows to check a variant with: canonical inputs, the reference variant's outputs, labels [row] where known."""

    inputs: dict[str, Array]
    outputs: dict[str, Array]
    labels: Array | None

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values())))


def names_as_rows(names: Iterable[str]) -> dict[str, str]:
    """What the arrays of a file are called where it is read as rows, by their names in it.

    Of a bundle's samples these are the inputs, without `input:`, and what else there is; reference outputs are no rows. Any other
    file keeps its names.
    """
    names = list(names)
    if not any(name.startswith(_INPUT) for name in names):
        return {name: name for name in names}
    return {name: name.removeprefix(_INPUT) for name in names if not name.startswith(_OUTPUT)}


def samples_to_npz(samples: Samples) -> bytes:
    """The bytes of `samples.npz`: the same arrays give the same bytes, with the same zlib."""
    arrays = {f"{_INPUT}{name}": value for name, value in samples.inputs.items()}
    arrays |= {f"{_OUTPUT}{name}": value for name, value in samples.outputs.items()}
    if samples.labels is not None:
        arrays["labels"] = samples.labels
    rows = {key: len(value) for key, value in arrays.items()}
    if len(set(rows.values())) != 1:
        raise BundleError(f"samples have {rows} rows; every array of the samples has the same rows")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for key in sorted(arrays):
            entry = zipfile.ZipInfo(f"{key}.npy", _ZIP_EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3  # otherwise the system that wrote it shows
            content = io.BytesIO()
            np.lib.format.write_array(content, _plain(key, arrays[key]), allow_pickle=False)
            archive.writestr(entry, content.getvalue(), compresslevel=9)
    return buffer.getvalue()


def samples_from_npz(path: Path, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> Samples:
    """The samples in `path`, checked against the model's tensors; `BundleError` for anything else than that."""
    arrays = _load(path)
    missing = [t.name for t in inputs if f"{_INPUT}{t.name}" not in arrays]
    if missing:
        raise BundleError(f"samples {path} hold {sorted(arrays)}; expected an array '{_INPUT}{missing[0]}'")
    samples = Samples(
        {t.name: _typed(path, t, f"{_INPUT}{t.name}", arrays) for t in inputs},
        {t.name: _typed(path, t, f"{_OUTPUT}{t.name}", arrays) for t in outputs if f"{_OUTPUT}{t.name}" in arrays},
        arrays.get("labels"),
    )
    rows = {key: value.shape[0] if value.ndim else 0 for key, value in arrays.items()}
    if len(set(rows.values())) != 1 or len(samples) == 0:
        raise BundleError(
            f"samples {path} have {rows} rows; every array of the samples has the same rows, at least one"
        )
    return samples


def _load(path: Path) -> dict[str, Array]:
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        if size > MAX_SAMPLES_BYTES:
            raise BundleError(f"samples {path} unpack to {size} bytes; at most {MAX_SAMPLES_BYTES}: keep fewer rows")
        with np.load(path, allow_pickle=False) as arrays:
            return {key: np.asarray(arrays[key]) for key in arrays.files}
    except _READ_ERRORS as error:
        raise BundleError(f"samples {path} cannot be read as npz without pickles: {error}") from error


def _plain(key: str, value: Array) -> Array:
    """`value` as an array without objects."""
    if value.dtype.kind in "OU":
        items = as_bytes_tensor(value)
        plain = items.astype("S")
        if plain.tolist() != items.tolist():
            raise BundleError(
                f"samples {key!r} hold bytes that end in zeros, which npz cannot keep; leave those rows out"
            )
        return plain
    return value.view(np.uint16) if value.dtype.name == "bfloat16" else value


def _typed(path: Path, tensor: Tensor, key: str, arrays: Mapping[str, Array]) -> Array:
    """The array `key` in the tensor's own dtype."""
    value, spec = arrays[key], tensor.spec
    if spec.datatype == "BYTES" and value.dtype.kind == "S":
        value = as_bytes_tensor(value)
    elif spec.datatype == "BF16" and value.dtype == np.uint16:
        value = value.view(spec.dtype)
    fits = value.ndim == len(spec.shape) and all(
        want in (-1, size) for size, want in zip(value.shape, spec.shape, strict=True)
    )
    if value.dtype != spec.dtype or not fits:
        raise BundleError(
            f"samples {path} hold {key!r} as {value.dtype} {show_shape(value.shape)}; the manifest says {spec}"
        )
    return value
