"""Outputs as text, a line a row: JSON lines and CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from runtime.row_files.writer import NAME_COLUMN, Part, twin
from runtime.tensors import Array


class JsonLinesWriter:
    """One object a row, outputs by name; NaN and Infinity stand as Python's `json` writes and reads them."""

    def __init__(self, folder: Path, kept: Mapping[str, Any] | None) -> None:
        self._part = Part(folder / "rows.part", 0 if kept is None else kept["bytes"])

    def write(self, outputs: Mapping[str, Array], names: Sequence[str] | None) -> None:
        """Appends rows."""
        columns = _with_names({name: _plain(value) for name, value in outputs.items()}, names)
        lines = [
            json.dumps(dict(zip(columns, row, strict=True)), ensure_ascii=False) + "\n"
            for row in zip(*columns.values(), strict=True)
        ]
        self._part.stream.write("".join(lines).encode("utf-8", "surrogateescape"))

    def sync(self) -> dict[str, Any]:
        """The length so far."""
        return {"bytes": self._part.sync()}

    def finish(self, target: Path) -> None:
        """The part is the file."""
        self._part.sync()
        twin(self._part.path, target)

    def close(self) -> None:
        """Closes the part."""
        self._part.close()


class CsvWriter:
    """A header, then one line a row; an output of several values takes a column a value: scores.0, scores.1, ..."""

    def __init__(self, folder: Path, kept: Mapping[str, Any] | None) -> None:
        self._part = Part(folder / "rows.part", 0 if kept is None else kept["bytes"])

    def write(self, outputs: Mapping[str, Array], names: Sequence[str] | None) -> None:
        """Appends rows."""
        text = io.StringIO()
        lines = csv.writer(text, lineterminator="\n")
        if self._part.stream.tell() == 0:
            header = [column for name, value in outputs.items() for column in _columns(name, value)]
            lines.writerow(header if names is None else [NAME_COLUMN, *header])
        flat = [_plain(value.reshape(len(value), -1) if value.size else value) for value in outputs.values()]
        if names is not None:
            flat.insert(0, [[name] for name in names])
        lines.writerows([item for part in row for item in part] for row in zip(*flat, strict=True))
        self._part.stream.write(text.getvalue().encode("utf-8", "surrogateescape"))

    def sync(self) -> dict[str, Any]:
        """The length so far."""
        return {"bytes": self._part.sync()}

    def finish(self, target: Path) -> None:
        """The part is the file."""
        self._part.sync()
        twin(self._part.path, target)

    def close(self) -> None:
        """Closes the part."""
        self._part.close()


def _with_names(columns: dict[str, list[Any]], names: Sequence[str] | None) -> dict[str, list[Any]]:
    return columns if names is None else {NAME_COLUMN: list(names), **columns}


def _columns(name: str, value: Array) -> list[str]:
    count = int(np.prod(value.shape[1:], dtype=np.int64))
    return [name] if value.ndim == 1 else [f"{name}.{i}" for i in range(count)]


def _plain(value: Array) -> list[Any]:
    """The rows as Python values; bytes as text."""
    if value.dtype.hasobject:
        text = np.array([item.decode("utf-8", "backslashreplace") for item in value.reshape(-1)], dtype=np.object_)
        return list(text.reshape(value.shape).tolist())
    return list(value.tolist())
