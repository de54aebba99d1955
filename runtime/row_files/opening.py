"""The reader and the writer that a path asks for, by its suffix."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from runtime.errors import WrongUseError
from runtime.row_files.array_writer import ArrayWriter
from runtime.row_files.arrays import ArrayRows, open_arrays
from runtime.row_files.block import InputSpec, RowReader
from runtime.row_files.csv_rows import open_csv
from runtime.row_files.images import open_images
from runtime.row_files.json_lines import open_json_lines
from runtime.row_files.parquet_rows import open_parquet
from runtime.row_files.parquet_writer import ParquetWriter
from runtime.row_files.text_writers import CsvWriter, JsonLinesWriter
from runtime.row_files.writer import RowWriter

INPUT_SUFFIXES = (".npy", ".npz", ".csv", ".jsonl", ".parquet")
OUTPUT_SUFFIXES = (".npz", ".npy", ".jsonl", ".csv", ".parquet")


def check_input(path: Path) -> None:
    """`WrongUseError` unless `path` can be one of rows, by its name, and is there: models take longer to load."""
    if path.suffix not in INPUT_SUFFIXES and not path.is_dir():
        raise WrongUseError(
            f"input {path} has the suffix {path.suffix!r}; expected one of {', '.join(INPUT_SUFFIXES)}, or a folder of images"
        )
    if not path.exists():
        raise WrongUseError(f"input {path} cannot be read: No such file or directory; check the path")


def check_output(path: Path) -> None:
    """`WrongUseError` unless a file of rows can appear at `path`."""
    if path.suffix not in OUTPUT_SUFFIXES:
        raise WrongUseError(
            f"output {path} has the suffix {path.suffix!r}; expected one of {', '.join(OUTPUT_SUFFIXES)}"
        )
    if not path.parent.is_dir():
        raise WrongUseError(f"the folder {path.parent} of output {path} does not exist; make it first")


@contextmanager
def open_rows(
    path: Path, model: str, specs: Sequence[InputSpec], within: Sequence[Path] | None = None
) -> Iterator[RowReader]:
    """The rows in `path` for the inputs of `model`; `WrongUseError` and `InvalidInputError` say what is wrong with it.

    `within`: the folders that links in a folder of images may lead to; None: anywhere.
    """
    check_input(path)
    if path.is_dir():
        with open_images(path, specs, within) as images:
            yield images
    elif path.suffix == ".csv":
        with open_csv(path, specs) as table:
            yield table
    elif path.suffix == ".jsonl":
        with open_json_lines(path, specs) as lines:
            yield lines
    elif path.suffix == ".parquet":
        with open_parquet(path, specs) as parquet:
            yield parquet
    else:
        with open_arrays(path) as arrays:
            yield ArrayRows(path, arrays, model, specs)


def make_writer(suffix: str, folder: Path, kept: Mapping[str, Any] | None) -> RowWriter:
    """A writer whose parts lie in `folder`; `kept` is what its `sync` said last, where it goes on."""
    match suffix:
        case ".csv":
            return CsvWriter(folder, kept)
        case ".jsonl":
            return JsonLinesWriter(folder, kept)
        case ".parquet":
            return ParquetWriter(folder, kept)
    return ArrayWriter(suffix, folder, kept)
