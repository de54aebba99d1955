"""Arrays in .npy and .npz files, a bundle's samples too, read some rows at a time: a file larger than memory is no trouble.

A stored array is its header and its bytes in row order, so rows are read from the (unzipped) stream as they come.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

from runtime.bundle.samples import names_as_rows
from runtime.errors import InvalidInputError, WrongUseError
from runtime.row_files.block import Block, Group, InputSpec
from runtime.tensors import Array, TensorSpec, as_bytes_tensor, check_inputs

# Skipped at a time where a stream does not seek.
_SKIP_BYTES = 1 << 20
# Of an archive read at a time: what zipfile does for each read takes longer than the bytes of some rows.
_BUFFER_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class StoredArray:
    """One array of a file, before its rows are read."""

    name: str
    """In a .npz its key; empty in a .npy."""
    where: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    _stream: IO[bytes]

    def read(self, rows: int) -> Array:
        """The next `rows` rows; `InvalidInputError` when the file ends too early."""
        row_shape = self.shape[1:]
        size = rows * self._row_bytes
        raw = self._stream.read(size)
        if len(raw) != size:
            raise InvalidInputError(
                f"{self.where} ends after {len(raw)} of {size} bytes; it was cut short: write it again"
            )
        return np.frombuffer(raw, self.dtype).reshape((rows, *row_shape))

    def skip(self, rows: int) -> None:
        """Goes past the next `rows` rows."""
        left = rows * self._row_bytes
        while left and (passed := len(self._stream.read(min(left, _SKIP_BYTES)))):
            left -= passed

    @property
    def _row_bytes(self) -> int:
        return math.prod(self.shape[1:]) * self.dtype.itemsize


class ArrayRows:
    """The rows of an array file: a `RowReader`. Every row has the file's one dtype and shape, so none is unreadable alone."""

    def __init__(self, file: Path, arrays: Sequence[StoredArray], model: str, specs: Sequence[InputSpec]) -> None:
        self._specs = [spec.tensor for spec in specs]
        self._arrays = _pick(model, self._specs, arrays, file)
        self.rows: int | None = _count_rows(self._arrays)
        used = {array.name for array in self._arrays.values()}
        self.unused = sorted({array.name for array in arrays} - used)
        self.assumed = "".join(
            f"array {array.name!r} is taken as {name!r}"
            for name, array in self._arrays.items()
            if array.name not in ("", name)  # a .npy has no name
        )
        _check_shapes(model, self._specs, self._arrays, file)
        self._at = 0

    def skip(self, rows: int) -> None:
        """Goes past rows."""
        for array in self._arrays.values():
            array.skip(rows)
        self._at += rows

    def read(self, rows: int) -> Block | None:
        """The next rows."""
        assert self.rows is not None
        count = min(rows, self.rows - self._at)
        if count <= 0:
            return None
        inputs = {spec.name: _as_input(spec, self._arrays[spec.name].read(count)) for spec in self._specs}
        first, self._at = self._at, self._at + count
        return Block(first, count, (Group(range(first, self._at), inputs),))


@contextmanager
def open_arrays(file: Path) -> Iterator[list[StoredArray]]:
    """The arrays in `file`; `WrongUseError` when it is not there, `InvalidInputError` when it cannot be read."""
    with ExitStack() as opened:
        try:
            if file.suffix == ".npy":
                yield [_open_array("", str(file), opened.enter_context(file.open("rb")))]
                return
            archive = opened.enter_context(zipfile.ZipFile(file))
            stored = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
            readers = [
                _open_array(
                    name,
                    f"{file}[{key}]",
                    opened.enter_context(io.BufferedReader(archive.open(f"{key}.npy"), _BUFFER_BYTES)),  # type: ignore[type-var]
                )
                for key, name in names_as_rows(stored).items()
            ]
        except OSError as error:
            raise WrongUseError(f"input {file} cannot be read: {error.strerror or error}; check the path") from error
        except zipfile.BadZipFile as error:
            raise InvalidInputError(f"input {file} is no .npz: {error}; write it with numpy.savez") from error
        yield readers


def _open_array(name: str, where: str, stream: IO[bytes]) -> StoredArray:
    try:
        version = npy.read_magic(stream)
        read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, is_fortran, dtype = read_header(stream)
    except ValueError as error:
        raise InvalidInputError(f"{where} is no array file: {error}; write it with numpy.save") from error
    if dtype.hasobject:
        raise InvalidInputError(
            f"{where} holds pickled objects, which are never read; save strings with a dtype such as S16"
        )
    if is_fortran and len(shape) > 1:
        raise InvalidInputError(f"{where} is stored column by column; save numpy.ascontiguousarray(...) of it")
    if not shape:
        raise InvalidInputError(f"{where} is a single number; expected rows")
    return StoredArray(name, where, shape, dtype, stream)


def _pick(model: str, specs: Sequence[TensorSpec], arrays: Sequence[StoredArray], file: Path) -> dict[str, StoredArray]:
    """The array of every input: by name, or the only one for the only input; `InvalidInputError` lists what there is."""
    by_name = {array.name: array for array in arrays}
    if len(specs) == 1 and len(arrays) == 1:
        return {specs[0].name: arrays[0]}
    missing = [spec for spec in specs if spec.name not in by_name]
    if missing:
        held = ", ".join(repr(name) for name in by_name) or "no array"
        wants = ", ".join(f"{spec.name!r} {spec}" for spec in specs)
        raise InvalidInputError(
            f"{file} has no array for input {missing[0].name!r}; it holds {held}; model {model!r} wants {wants}"
        )
    return {spec.name: by_name[spec.name] for spec in specs}


def _count_rows(arrays: dict[str, StoredArray]) -> int:
    counts = {array.where: array.shape[0] for array in arrays.values()}
    if len(set(counts.values())) != 1:
        raise InvalidInputError(
            f"arrays differ in rows: {', '.join(f'{where} has {rows}' for where, rows in counts.items())}"
        )
    return next(iter(counts.values()))


def _check_shapes(model: str, specs: Sequence[TensorSpec], arrays: dict[str, StoredArray], file: Path) -> None:
    """`InvalidInputError` when an array as a whole does not fit, before anything runs."""
    stand_ins = {}
    for spec in specs:
        array = arrays[spec.name]
        shape = array.shape if spec.is_batched or not spec.shape else (spec.shape[0], *array.shape[1:])
        # One element seen as the whole array: costs no memory.
        stand_ins[spec.name] = np.broadcast_to(_as_input(spec, np.zeros((), array.dtype)), shape)
    try:
        check_inputs(model, specs, stand_ins)
    except InvalidInputError as error:
        raise InvalidInputError(f"{file}: {error}") from error


def _as_input(spec: TensorSpec, value: Array) -> Array:
    """`value` as the model takes it: byte order of this machine, strings as BYTES; nothing else is converted."""
    if spec.datatype == "BYTES" and value.dtype.kind in "SU":
        return as_bytes_tensor(value)
    return value.astype(value.dtype.newbyteorder("="), copy=False)
