"""Outputs written batch by batch to .npy, .npz, .jsonl or .csv; the file appears whole, or not at all."""

from __future__ import annotations

import csv
import json
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Protocol, TextIO

import numpy as np
from numpy.lib import format as npy

from runtime.errors import WrongUseError
from runtime.tensors import Array

SUFFIXES = (".npz", ".npy", ".jsonl", ".csv")


class Writer(Protocol):
    """Takes the outputs of some rows by name, [row, ...]; every call the same names and row shapes."""

    def write(self, outputs: Mapping[str, Array]) -> None:
        """Appends rows."""

    def finish(self) -> None:
        """Ends the file."""


@contextmanager
def open_writer(file: Path, rows: int) -> Iterator[Writer]:
    """A writer of `rows` rows whose file takes its place when the block ends well; `WrongUseError` for an unknown suffix."""
    if file.suffix not in SUFFIXES:
        raise WrongUseError(f"output {file} has the suffix {file.suffix!r}; expected one of {', '.join(SUFFIXES)}")
    if not file.parent.is_dir():
        raise WrongUseError(f"the folder {file.parent} of output {file} does not exist; make it first")
    # Beside its place, so that the last step is a rename within one file system.
    with tempfile.TemporaryDirectory(prefix=f".{file.name}.", dir=file.parent) as scratch:
        half = Path(scratch) / file.name
        with _writer(half, rows) as writer:
            yield writer
            writer.finish()
        half.replace(file)


@contextmanager
def _writer(file: Path, rows: int) -> Iterator[Writer]:
    if file.suffix in (".npy", ".npz"):
        arrays = ArrayWriter(file, rows)
        try:
            yield arrays
        finally:
            arrays.close()
        return
    with file.open("w", encoding="utf-8", newline="") as stream:
        yield JsonLinesWriter(stream) if file.suffix == ".jsonl" else CsvWriter(stream)


class ArrayWriter:
    """.npy for one output, .npz for any number; each output grows in a file of its own and is packed at the end."""

    def __init__(self, file: Path, rows: int) -> None:
        self._file = file
        self._rows = rows
        self._parts: dict[str, tuple[Path, IO[bytes]]] = {}

    def write(self, outputs: Mapping[str, Array]) -> None:
        """Appends rows; `WrongUseError` when a .npy is to hold several outputs, or what numpy cannot store as plain bytes."""
        if not self._parts:
            self._begin(outputs)
        for name, value in outputs.items():
            self._parts[name][1].write(np.ascontiguousarray(value).data.cast("B") if value.size else b"")

    def finish(self) -> None:
        """Packs the parts."""
        self.close()
        if self._file.suffix == ".npy":
            for path, _ in self._parts.values():
                path.rename(self._file)
            return
        with zipfile.ZipFile(self._file, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
            for name, (path, _) in self._parts.items():
                with path.open("rb") as source, archive.open(f"{name}.npy", "w", force_zip64=True) as target:
                    shutil.copyfileobj(source, target)
                path.unlink()

    def close(self) -> None:
        """Closes the parts; twice is fine."""
        for _, stream in self._parts.values():
            stream.close()

    def _begin(self, outputs: Mapping[str, Array]) -> None:
        if self._file.suffix == ".npy" and len(outputs) != 1:
            raise WrongUseError(f"a .npy holds one array, the model has the outputs {', '.join(outputs)}; write a .npz")
        for number, (name, value) in enumerate(outputs.items()):
            if value.dtype.hasobject:
                raise WrongUseError(
                    f"output {name!r} is BYTES, which {self._file.suffix} does not hold; write .jsonl or .csv"
                )
            path = self._file.with_name(f"{number}.part")
            stream = path.open("wb")
            self._parts[name] = (path, stream)
            header = {
                "descr": npy.dtype_to_descr(value.dtype),
                "fortran_order": False,
                "shape": (self._rows, *value.shape[1:]),
            }
            npy.write_array_header_2_0(stream, header)


class JsonLinesWriter:
    """One object a row, outputs by name; NaN and Infinity stand as Python's `json` writes and reads them."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, outputs: Mapping[str, Array]) -> None:
        """Appends rows."""
        for row in zip(*(_plain(value) for value in outputs.values()), strict=True):
            self._stream.write(json.dumps(dict(zip(outputs, row, strict=True)), ensure_ascii=False) + "\n")

    def finish(self) -> None:
        """Nothing is left to do."""


class CsvWriter:
    """A header, then one line a row; an output of several values takes a column a value: scores.0, scores.1, ..."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lines = csv.writer(stream, lineterminator="\n")

    def write(self, outputs: Mapping[str, Array]) -> None:
        """Appends rows."""
        if self._stream.tell() == 0:
            self._lines.writerow([column for name, value in outputs.items() for column in _columns(name, value)])
        flat = [_plain(value.reshape(len(value), -1)) for value in outputs.values()]
        self._lines.writerows([item for part in row for item in part] for row in zip(*flat, strict=True))

    def finish(self) -> None:
        """Nothing is left to do."""


def _columns(name: str, value: Array) -> list[str]:
    count = int(np.prod(value.shape[1:], dtype=np.int64))
    return [name] if value.ndim == 1 else [f"{name}.{i}" for i in range(count)]


def _plain(value: Array) -> list[object]:
    """The rows as Python values; bytes as text."""
    if value.dtype.hasobject:
        text = np.array([item.decode("utf-8", "backslashreplace") for item in value.reshape(-1)], dtype=np.object_)
        return list(text.reshape(value.shape).tolist())
    return list(value.tolist())
