"""Arrays in .npy and .npz files, read some rows at a time: a file larger than memory is no trouble.

A stored array is its header and its bytes in row order, so rows are read from the (unzipped) stream as they come.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

from runtime.errors import InvalidInputError, WrongUseError
from runtime.tensors import Array

SUFFIXES = (".npy", ".npz")


@dataclass(frozen=True, slots=True)
class ArrayReader:
    """One array of a file, before its rows are read."""

    name: str
    """In a .npz its key; empty in a .npy."""
    where: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    _stream: IO[bytes]

    def read(self, rows: int) -> Array:
        """The next `rows` rows (fewer at the end); `InvalidInputError` when the file ends too early."""
        row_shape = self.shape[1:]
        size = rows * math.prod(row_shape) * self.dtype.itemsize
        raw = self._stream.read(size)
        if len(raw) != size:
            raise InvalidInputError(
                f"{self.where} ends after {len(raw)} of {size} bytes; it was cut short: write it again"
            )
        return np.frombuffer(raw, self.dtype).reshape((rows, *row_shape))


@contextmanager
def open_arrays(file: Path) -> Iterator[list[ArrayReader]]:
    """The arrays in `file`; `WrongUseError` when it is not there or no array file, `InvalidInputError` when it cannot be read."""
    if file.suffix not in SUFFIXES:
        raise WrongUseError(f"input {file} has the suffix {file.suffix!r}; expected one of {', '.join(SUFFIXES)}")
    with ExitStack() as opened:
        try:
            if file.suffix == ".npy":
                yield [_open_array("", str(file), opened.enter_context(file.open("rb")))]
                return
            archive = opened.enter_context(zipfile.ZipFile(file))
            names = [name for name in archive.namelist() if name.endswith(".npy")]
            readers = [
                _open_array(
                    name.removesuffix(".npy"),
                    f"{file}[{name.removesuffix('.npy')}]",
                    opened.enter_context(archive.open(name)),
                )
                for name in names
            ]
        except OSError as error:
            raise WrongUseError(f"input {file} cannot be read: {error.strerror or error}; check the path") from error
        except zipfile.BadZipFile as error:
            raise InvalidInputError(f"input {file} is no .npz: {error}; write it with numpy.savez") from error
        yield readers


def _open_array(name: str, where: str, stream: IO[bytes]) -> ArrayReader:
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
    return ArrayReader(name, where, shape, dtype, stream)
