"""Outputs as arrays: .npy for one, .npz for any number; each grows in a file of its own and is packed at the end."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy

from runtime.errors import WrongUseError
from runtime.row_files.writer import NAME_COLUMN, Part, sync_file, twin
from runtime.tensors import Array

# Room for the header in front of a part, so that a .npy is its part: 128 hold a shape of some ten dimensions.
HEADER_BYTES = 256
# The oldest moment a zip entry can name, so that the same rows give the same bytes.
_ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(slots=True)
class _Column:
    name: str
    descr: Any
    row_shape: tuple[int, ...]
    part: Part


class ArrayWriter:
    """Rows of .npy and .npz; names of rows become an array of their own in a .npz, and are left out of a .npy."""

    def __init__(self, suffix: str, folder: Path, kept: Mapping[str, Any] | None) -> None:
        self._suffix = suffix
        self._folder = folder
        self._columns: list[_Column] = []
        self._rows = 0
        self._names: Part | None = None
        if kept is None:
            return
        self._rows = kept["rows"]
        for number, column in enumerate(kept["columns"]):
            part = Part(folder / f"{number}.part", column["bytes"])
            self._columns.append(_Column(column["name"], column["descr"], tuple(column["row_shape"]), part))
        if kept["names_bytes"] is not None:
            self._names = Part(folder / "names.part", kept["names_bytes"])

    def write(self, outputs: Mapping[str, Array], names: Sequence[str] | None) -> None:
        """Appends rows; `WrongUseError` when a .npy is to hold several outputs, or what numpy cannot store as plain bytes."""
        if not self._columns:
            self._begin(outputs, has_names=names is not None)
        for column in self._columns:
            value = outputs[column.name]
            if value.shape[1:] != column.row_shape:
                raise WrongUseError(
                    f"output {column.name!r} has rows of {list(value.shape[1:])} and of {list(column.row_shape)}, and "
                    f"{self._suffix} holds rows of one shape; write .jsonl"
                )
            if value.size:
                column.part.stream.write(np.ascontiguousarray(value).data.cast("B"))
        if self._names is not None:
            self._names.stream.write("".join(json.dumps(name) + "\n" for name in names or ()).encode())
        self._rows += len(next(iter(outputs.values())))

    def sync(self) -> dict[str, Any]:
        """The lengths so far, and what is in them."""
        return {
            "rows": self._rows,
            "columns": [
                {"name": c.name, "descr": c.descr, "row_shape": list(c.row_shape), "bytes": c.part.sync()}
                for c in self._columns
            ],
            "names_bytes": None if self._names is None else self._names.sync(),
        }

    def finish(self, target: Path) -> None:
        """Headers are filled in; a .npz is packed from the parts."""
        for column in self._columns:
            end = column.part.stream.tell()
            column.part.stream.seek(0)
            column.part.stream.write(_header(column.descr, (self._rows, *column.row_shape)))
            column.part.stream.seek(end)
            column.part.sync()
        if self._suffix == ".npy":
            twin(self._columns[0].part.path, target)
            return
        with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
            for column in self._columns:
                with (
                    column.part.path.open("rb") as source,
                    archive.open(_entry(column.name), "w", force_zip64=True) as to,
                ):
                    shutil.copyfileobj(source, to, 1 << 20)
            if self._names is not None:
                self._names.sync()
                self._pack_names(archive, self._names.path)
        sync_file(target)

    def close(self) -> None:
        """Closes the parts; twice is fine."""
        for column in self._columns:
            column.part.close()
        if self._names is not None:
            self._names.close()

    def _begin(self, outputs: Mapping[str, Array], *, has_names: bool) -> None:
        if self._suffix == ".npy" and len(outputs) != 1:
            raise WrongUseError(f"a .npy holds one array, the model has the outputs {', '.join(outputs)}; write a .npz")
        for name, value in outputs.items():
            if value.dtype.hasobject:
                raise WrongUseError(
                    f"output {name!r} is BYTES, which {self._suffix} does not hold; write .jsonl, .csv or .parquet"
                )
        for number, (name, value) in enumerate(outputs.items()):
            part = Part(self._folder / f"{number}.part")
            part.stream.write(bytes(HEADER_BYTES))
            self._columns.append(_Column(name, npy.dtype_to_descr(value.dtype), value.shape[1:], part))
        if has_names and self._suffix == ".npz":
            self._names = Part(self._folder / "names.part")

    def _pack_names(self, archive: zipfile.ZipFile, path: Path) -> None:
        with path.open(encoding="utf-8") as lines:
            longest = max((len(json.loads(line)) for line in lines), default=1)
        dtype = np.dtype(f"<U{max(longest, 1)}")
        with path.open(encoding="utf-8") as lines, archive.open(_entry(NAME_COLUMN), "w", force_zip64=True) as to:
            to.write(_header(npy.dtype_to_descr(dtype), (self._rows,)))
            for line in lines:
                to.write(np.array(json.loads(line), dtype).tobytes())


def _entry(name: str) -> zipfile.ZipInfo:
    return zipfile.ZipInfo(f"{name}.npy", _ZIP_EPOCH)


def _header(descr: Any, shape: tuple[int, ...]) -> bytes:
    """The head of a .npy, version 1.0, padded to `HEADER_BYTES` (numpy/lib/format.py says how)."""
    text = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape!r}, }}".encode("latin-1")
    size = HEADER_BYTES - 10
    if len(text) >= size:
        raise WrongUseError(f"an array of shape {shape} is more than a .npy's header takes here; write .jsonl")
    return b"\x93NUMPY\x01\x00" + size.to_bytes(2, "little") + text.ljust(size - 1) + b"\n"
