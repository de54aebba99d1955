"""Outputs as Parquet: a column an output, lists of fixed size where a row has several values (pyarrow)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from runtime.row_files.parquet_rows import parquet_library
from runtime.row_files.writer import NAME_COLUMN, Part, sync_file
from runtime.tensors import Array

# Of a row group, before it is packed: readers take a group at a time into memory.
GROUP_BYTES = 16 << 20
GROUP_ROWS = 65_536
_LENGTH_BYTES = 8


class ParquetWriter:
    """Rows lie as record batches in one part; the file, whose row groups do not follow those batches, is made at the end."""

    def __init__(self, folder: Path, kept: Mapping[str, Any] | None) -> None:
        parquet_library()
        self._part = Part(folder / "rows.part", 0 if kept is None else kept["bytes"])
        self._schema: Any = None
        if kept is not None and kept["schema"] is not None:
            import pyarrow

            self._schema = pyarrow.ipc.read_schema(pyarrow.py_buffer(bytes.fromhex(kept["schema"])))

    def write(self, outputs: Mapping[str, Array], names: Sequence[str] | None) -> None:
        """Appends rows."""
        import pyarrow

        columns = {} if names is None else {NAME_COLUMN: pyarrow.array(list(names), pyarrow.string())}
        columns |= {name: _column(value) for name, value in outputs.items()}
        batch = pyarrow.RecordBatch.from_pydict(columns)
        if self._schema is None:
            self._schema = batch.schema
        raw = batch.serialize()
        self._part.stream.write(len(raw).to_bytes(_LENGTH_BYTES, "little"))
        self._part.stream.write(raw)

    def sync(self) -> dict[str, Any]:
        """The length so far, and the columns."""
        schema = None if self._schema is None else self._schema.serialize().to_pybytes().hex()
        return {"bytes": self._part.sync(), "schema": schema}

    def finish(self, target: Path) -> None:
        """Row groups of the same rows, however the rows came."""
        parquet = parquet_library()
        self._part.sync()
        with parquet.ParquetWriter(target, self._schema) as writer:
            for table in self._groups():
                writer.write_table(table, row_group_size=max(table.num_rows, 1))
        sync_file(target)

    def close(self) -> None:
        """Closes the part."""
        self._part.close()

    def _groups(self) -> Iterator[Any]:
        import pyarrow

        waiting: list[Any] = []
        rows, wanted = 0, max(1, min(GROUP_ROWS, GROUP_BYTES // _row_bytes(self._schema)))
        for batch in self._batches():
            waiting.append(batch)
            rows += batch.num_rows
            while rows >= wanted:
                table = pyarrow.Table.from_batches(waiting)
                yield table.slice(0, wanted)
                waiting = table.slice(wanted).to_batches()
                rows -= wanted
        if rows:
            yield pyarrow.Table.from_batches(waiting)

    def _batches(self) -> Iterator[Any]:
        import pyarrow

        with self._part.path.open("rb") as stream:
            while head := stream.read(_LENGTH_BYTES):
                raw = stream.read(int.from_bytes(head, "little"))
                yield pyarrow.ipc.read_record_batch(pyarrow.py_buffer(raw), self._schema)


def _row_bytes(schema: Any) -> int:
    """Bytes of one row, by its columns; texts and bytes count as a reference."""
    import pyarrow

    total = 0
    for kind in schema.types:
        count = 1
        while isinstance(kind, pyarrow.FixedSizeListType):
            count *= kind.list_size
            kind = kind.value_type
        try:
            total += count * max(kind.bit_width // 8, 1)
        except ValueError:
            total += count * 8
    return max(total, 1)


def _column(value: Array) -> Any:
    """[row, ...] as an array of (nested) lists of fixed size."""
    import pyarrow

    flat = value.reshape(-1)
    if value.dtype.hasobject:
        column = pyarrow.array(flat.tolist(), pyarrow.binary())
    elif value.dtype.name == "bfloat16":
        column = pyarrow.array(flat.astype(np.float32))
    else:
        column = pyarrow.array(np.ascontiguousarray(flat))
    for size in reversed(value.shape[1:]):
        column = pyarrow.FixedSizeListArray.from_arrays(column, size)
    return column
