"""Rows of a .csv file: a header line, or none where its one line of numbers has as many as the model's one input."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TextIO

import numpy as np

from runtime.errors import InvalidInputError, WrongUseError
from runtime.row_files.block import Block, Group, InputSpec, Unreadable
from runtime.row_files.columns import InputColumns, plan_columns
from runtime.tensors import Array

_TRUTH = {"true": True, "1": True, "false": False, "0": False}


class CsvRows:
    """A `RowReader`. A line that does not parse, or has another number of fields than the header, is an unreadable row."""

    rows: int | None = None

    def __init__(self, file: Path, stream: TextIO, specs: Sequence[InputSpec]) -> None:
        self._lines = csv.reader(stream)
        self._at = 0
        header = next(self._lines, None)
        if header is None:
            raise InvalidInputError(f"{file} is empty; expected a header line with the names of the model's inputs")
        self._kept: list[str] | None = None
        if header and all(_is_number(word) for word in header):
            self._kept = header
            header = [str(place) for place in range(len(header))]
        plan = plan_columns(header, specs, str(file))
        self._width = len(header)
        self._inputs = plan.inputs
        self.unused = list(plan.unused)
        self.assumed = plan.assumed

    def skip(self, rows: int) -> None:
        """Goes past rows."""
        self._at += sum(1 for _ in islice(self._fields(), rows))

    def read(self, rows: int) -> Block | None:
        """The next rows."""
        first = self._at
        good: list[tuple[int, str, list[str]]] = []
        bad: list[Unreadable] = []
        for fields, where in islice(self._fields(), rows):
            number, self._at = self._at, self._at + 1
            if isinstance(fields, csv.Error):
                bad.append(Unreadable(number, str(fields), where))
            elif len(fields) != self._width:
                bad.append(Unreadable(number, f"{len(fields)} fields; the table has {self._width} columns", where))
            else:
                good.append((number, where, fields))
        if self._at == first:
            return None
        group, failed = self._tensors(good)
        bad = sorted([*bad, *failed], key=lambda row: row.row)
        return Block(first, self._at - first, () if group is None else (group,), tuple(bad))

    def _fields(self) -> Iterator[tuple[list[str] | csv.Error, str]]:
        if self._kept is not None:
            line, self._kept = self._kept, None
            yield line, "line 1"
        while True:
            before = self._lines.line_num
            try:
                fields = next(self._lines)
            except StopIteration:
                return
            except csv.Error as error:
                yield error, f"line {before + 1}"
                continue
            if fields:  # an empty line is no row
                yield fields, f"line {self._lines.line_num}"

    def _tensors(self, rows: list[tuple[int, str, list[str]]]) -> tuple[Group | None, list[Unreadable]]:
        bad: list[Unreadable] = []
        try:
            return self._group(rows), bad
        except (ValueError, OverflowError):
            pass  # one of them: found below
        good = []
        for row in rows:
            try:
                self._group([row])
            except (ValueError, OverflowError) as error:
                bad.append(Unreadable(row[0], str(error), row[1]))
            else:
                good.append(row)
        return self._group(good), bad

    def _group(self, rows: list[tuple[int, str, list[str]]]) -> Group | None:
        if not rows:
            return None
        inputs = {
            columns.spec.name: _convert(columns, [[fields[place] for place in columns.places] for _, _, fields in rows])
            for columns in self._inputs
        }
        return Group(tuple(number for number, _, _ in rows), inputs)


@contextmanager
def open_csv(file: Path, specs: Sequence[InputSpec]) -> Iterator[CsvRows]:
    """The rows in `file`; `WrongUseError` when it is not there, `InvalidInputError` when its columns do not fit."""
    try:
        # Bytes that are no UTF-8 spoil their own row, not the file.
        stream = file.open(encoding="utf-8-sig", errors="surrogateescape", newline="")
    except OSError as error:
        raise WrongUseError(f"input {file} cannot be read: {error.strerror or error}; check the path") from error
    with stream:
        yield CsvRows(file, stream, specs)


def _convert(columns: InputColumns, words: list[list[str]]) -> Array:
    """[row, ...] of the input's datatype; `ValueError` names a word that is none."""
    spec, shape = columns.spec.tensor, (len(words), *columns.row_shape)
    if spec.datatype == "BYTES":
        flat = np.empty(len(words) * len(columns.places), dtype=np.object_)
        flat[:] = [word.encode("utf-8", "surrogateescape") for row in words for word in row]
        return flat.reshape(shape)
    if spec.datatype == "BOOL":
        return np.array([[_truth(word) for word in row] for row in words], np.bool_).reshape(shape)
    read = int if spec.dtype.kind in "iu" else float
    values = [[read(word) for word in row] for row in words]
    return np.array(values, spec.dtype).reshape(shape)


def _truth(word: str) -> bool:
    try:
        return _TRUTH[word.strip().lower()]
    except KeyError:
        raise ValueError(f"{word!r:.40} is neither true nor false") from None


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
