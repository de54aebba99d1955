"""The rows a bundle is built with: read from npz, split into those that calibrate and those that measure."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from runtime.errors import WrongUseError
from runtime.tensors import Array, as_bytes_tensor

MAX_ROWS_BYTES: Final = 2 << 30
MIN_ROWS: Final = 10
"""Below that a share says nothing, and nothing can be held out."""
MAX_HELD_OUT_BYTES: Final = 64 << 20
"""Held-out rows travel in the bundle as its samples."""
MAX_HELD_OUT_ROWS: Final = 1000
"""One row is 0.1 % then; the standard error of 95 % is 0.7 %."""
LABELS: Final = "labels"
_READ_ERRORS: Final = (
    *(OSError, ValueError, KeyError, EOFError, RuntimeError, MemoryError, zipfile.BadZipFile, zlib.error),
)


@dataclass(frozen=True, slots=True)
class RowFile:
    """The arrays of a calibration file: one for each input by its name, and labels [row] where known."""

    arrays: Mapping[str, Array]
    labels: Array | None
    where: str

    def of(self, names: Sequence[str]) -> dict[str, Array]:
        """The arrays of the inputs `names`, as `name` or `input:name`; the only array where there is one input."""
        if len(names) == 1 and len(self.arrays) == 1:
            return {names[0]: next(iter(self.arrays.values()))}
        found = {name: self.arrays.get(name, self.arrays.get(f"input:{name}")) for name in names}
        missing = [name for name, value in found.items() if value is None]
        if missing:
            raise WrongUseError(
                f"{self.where} has no array {missing[0]!r}; it has {', '.join(map(repr, self.arrays)) or 'none'}: "
                "name an array for each input of the model"
            )
        return {name: value for name, value in found.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Split:
    """Rows apart: what calibrates quantisation never measures it."""

    calibration: dict[str, Array]
    held_out: dict[str, Array]
    labels: Array | None
    """Of the held-out rows."""
    said: str
    """How it was done, for the manifest."""


def read_rows(path: Path) -> RowFile:
    """The arrays in `path` (.npz without pickles); `WrongUseError` when they are not rows."""
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        if size > MAX_ROWS_BYTES:
            raise WrongUseError(f"{path} unpacks to {size} bytes; at most {MAX_ROWS_BYTES}: keep fewer rows")
        with np.load(path, allow_pickle=False) as loaded:
            arrays = {key: np.asarray(loaded[key]) for key in loaded.files}
    except FileNotFoundError as error:
        raise WrongUseError(
            f"there is no file {path}; rows are written with numpy.savez(file, INPUT=rows, labels=labels)"
        ) from error
    except _READ_ERRORS as error:
        raise WrongUseError(
            f"{path} cannot be read as npz without pickles: {error}; write it with numpy.savez(file, INPUT=rows, labels=labels)"
        ) from error
    arrays = {key: as_bytes_tensor(value) if value.dtype.kind in "SU" else value for key, value in arrays.items()}
    labels = arrays.pop(LABELS, None)
    arrays = {key: value for key, value in arrays.items() if not key.startswith("output:")}
    counts = {key: value.shape[0] if value.ndim else 0 for key, value in arrays.items()}
    if labels is not None:
        if labels.ndim == 2 and labels.shape[1] == 1:
            labels = labels[:, 0]
        if labels.ndim != 1:
            raise WrongUseError(f"'labels' of {path} have shape {list(labels.shape)}; expected one number a row")
        counts[LABELS] = len(labels)
    if not arrays or len(set(counts.values())) != 1 or min(counts.values()) < MIN_ROWS:
        raise WrongUseError(
            f"{path} holds rows {counts}; expected an array for each input, all with the same number of rows, "
            f"at least {MIN_ROWS}"
        )
    return RowFile(arrays, labels, str(path))


def split_rows(inputs: Mapping[str, Array], labels: Array | None, calibration_rows: int, seed: int) -> Split:
    """A seeded shuffle: the first rows calibrate (at most half of all), the following are held out.

    Rows with NaN or infinity never calibrate, for a range cannot be told from them; held out they measure what becomes of them.
    """
    rows = len(next(iter(inputs.values())))
    order = np.random.default_rng(seed).permutation(rows)
    is_finite = _finite_rows(inputs)
    usable = order[is_finite[order]]
    calibrating = min(calibration_rows, rows // 2, len(usable))
    row_bytes = max(sum(value.nbytes for value in inputs.values()) // rows, 1)
    held = min(rows - calibrating, MAX_HELD_OUT_ROWS, max(MAX_HELD_OUT_BYTES // row_bytes, 1))
    rest = order[~np.isin(order, usable[:calibrating])]
    first, second = np.sort(usable[:calibrating]), np.sort(rest[:held])
    unused, broken = rows - calibrating - held, rows - len(usable)
    return Split(
        calibration={name: value[first] for name, value in inputs.items()},
        held_out={name: value[second] for name, value in inputs.items()},
        labels=None if labels is None else labels[second],
        said=f"{rows} rows shuffled (seed {seed}): {calibrating} calibrate quantisation and are not in the bundle, "
        f"{held} others are held out as samples; accuracy, agreement and profile are theirs"
        + (f"; {unused} are not used" if unused else "")
        + (f"; {broken} hold NaN or infinity and do not calibrate" if broken else ""),
    )


def _finite_rows(inputs: Mapping[str, Array]) -> Array:
    """For every row, whether all its floats are numbers."""
    rows = len(next(iter(inputs.values())))
    finite = np.ones(rows, bool)
    for value in inputs.values():
        if value.dtype.kind == "f":
            finite &= np.isfinite(value.reshape(rows, -1)).all(axis=1)
    return finite
