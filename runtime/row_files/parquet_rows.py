"""Rows of a .parquet file: a column an input (a number, or nested lists of them), or columns `name.0`, `name.1`, ... (pyarrow)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from runtime.errors import BackendUnavailableError, InvalidInputError, WrongUseError
from runtime.row_files.block import Block, Group, InputSpec
from runtime.row_files.columns import InputColumns, plan_columns
from runtime.row_files.stacking import RawRow, fits, stack
from runtime.tensors import Array


class ParquetRows:
    """A `RowReader`. A null, or a list of another length than the input's, is an unreadable row."""

    def __init__(self, file: Path, opened: Any, specs: Sequence[InputSpec]) -> None:
        self._opened = opened
        self._specs = specs
        self._groups_rows = [opened.metadata.row_group(i).num_rows for i in range(opened.metadata.num_row_groups)]
        self.rows: int | None = sum(self._groups_rows)
        header = list(opened.schema_arrow.names)
        # A column of the input's own name may be a list; the others are one value each.
        self._direct = [spec for spec in specs if spec.name in header]
        others = [spec for spec in specs if spec.name not in header]
        plan = plan_columns(header, others, str(file)) if others else None
        self._split: tuple[InputColumns, ...] = () if plan is None else plan.inputs
        self._header = header
        used = {spec.name for spec in self._direct} | {header[p] for c in self._split for p in c.places}
        self.assumed = "" if plan is None else plan.assumed
        self.unused = [name for name in header if name not in used]
        self._columns = sorted(used)
        self._at = 0
        self._batches: Iterator[Any] | None = None
        self._left: Any = None

    def skip(self, rows: int) -> None:
        """Goes past rows."""
        self._at += rows

    def read(self, rows: int) -> Block | None:
        """The next rows."""
        table = self._take(rows)
        if table is None:
            return None
        first, count = self._at, table.num_rows
        self._at += count
        whole = self._alike(table)
        if whole is not None:
            return Block(first, count, (Group(range(first, first + count), whole),))
        columns = {name: table.column(name).to_pylist() for name in self._columns}
        raw = [RawRow(first + i, "", self._row(columns, i)) for i in range(count)]
        groups, bad = stack(self._specs, raw)
        return Block(first, count, tuple(groups), tuple(bad))

    def _take(self, rows: int) -> Any:
        """The next rows as a table; batches of the library end at its own places."""
        import pyarrow

        if self._batches is None:
            self._batches = self._open_at(self._at)
        parts, have = [], 0
        while have < rows:
            batch = self._left if self._left is not None else next(self._batches, None)
            self._left = None
            if batch is None:
                break
            if batch.num_rows > rows - have:
                self._left = batch.slice(rows - have)
                batch = batch.slice(0, rows - have)
            parts.append(batch)
            have += batch.num_rows
        return pyarrow.Table.from_batches(parts).combine_chunks() if have else None

    def _open_at(self, row: int) -> Iterator[Any]:
        group = 0
        while group < len(self._groups_rows) and row >= self._groups_rows[group]:
            row -= self._groups_rows[group]
            group += 1
        left = list(range(group, len(self._groups_rows)))
        batches = self._opened.iter_batches(batch_size=1024, row_groups=left, columns=self._columns) if left else ()
        for batch in batches:
            if row >= batch.num_rows:
                row -= batch.num_rows
                continue
            yield batch.slice(row)
            row = 0

    def _alike(self, table: Any) -> dict[str, Array] | None:
        """The inputs without a detour over Python values; None where a row is not like the others."""
        inputs: dict[str, Array] = {}
        for spec in self._direct:
            value = _dense(table.column(spec.name))
            if value is None or value.dtype != spec.tensor.dtype or not fits(spec, value.shape[1:]):
                return None
            inputs[spec.name] = value
        for columns in self._split:
            parts = [_dense(table.column(self._header[place])) for place in columns.places]
            if any(part is None or part.ndim != 1 or part.dtype != columns.spec.tensor.dtype for part in parts):
                return None
            stacked = np.stack([part for part in parts if part is not None], axis=1)
            inputs[columns.spec.name] = stacked.reshape((table.num_rows, *columns.row_shape))
        return inputs

    def _row(self, columns: dict[str, list[Any]], i: int) -> dict[str, Any]:
        values = {spec.name: columns[spec.name][i] for spec in self._direct}
        for split in self._split:
            flat = [columns[self._header[place]][i] for place in split.places]
            values[split.spec.name] = _nested(flat, split.row_shape)
        return values


@contextmanager
def open_parquet(file: Path, specs: Sequence[InputSpec]) -> Iterator[ParquetRows]:
    """The rows in `file`; `BackendUnavailableError` without pyarrow, `WrongUseError` when it is not there."""
    parquet = parquet_library()
    import pyarrow

    if not file.is_file():
        raise WrongUseError(f"input {file} cannot be read: no such file; check the path")
    try:
        opened = parquet.ParquetFile(file)
    except (OSError, pyarrow.ArrowException) as error:
        raise InvalidInputError(f"input {file} is no Parquet file: {error}") from error
    with opened:
        yield ParquetRows(file, opened, specs)


def parquet_library() -> Any:
    """`pyarrow.parquet`; `BackendUnavailableError` says how to install it."""
    try:
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise BackendUnavailableError(
            "Parquet needs pyarrow, which is not installed; install edgeward[batch], or use .npz, .csv or .jsonl"
        ) from error
    return parquet


def _dense(column: Any) -> Array | None:
    """[row, ...] of a column of numbers or of lists of one length; None for anything else."""
    import pyarrow

    array = column.combine_chunks()
    if isinstance(array, pyarrow.ChunkedArray):
        array = array.chunk(0) if array.num_chunks == 1 else pyarrow.concat_arrays(array.chunks)
    shape = [len(array)]
    while isinstance(array.type, pyarrow.ListType | pyarrow.LargeListType | pyarrow.FixedSizeListType):
        if array.null_count or not len(array):
            return None
        flat = array.flatten()
        if isinstance(array.type, pyarrow.FixedSizeListType):
            size = array.type.list_size
        else:
            lengths = np.asarray(array.value_lengths())
            size = int(lengths[0])
            if not (lengths == size).all():
                return None
        shape.append(size)
        array = flat
    if array.null_count or not (pyarrow.types.is_integer(array.type) or pyarrow.types.is_floating(array.type)):
        return None
    result: Array = np.ascontiguousarray(array.to_numpy(zero_copy_only=False)).reshape(shape)
    return result


def _nested(flat: list[Any], shape: tuple[int, ...]) -> Any:
    if not shape:
        return flat[0]
    size = len(flat) // shape[0] if shape[0] else 0
    return [_nested(flat[i * size : (i + 1) * size], shape[1:]) for i in range(shape[0])]
