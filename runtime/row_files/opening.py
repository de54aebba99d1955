"""The reader and the writer that a path asks for: one table, by its suffix."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from runtime.errors import WrongUseError

if TYPE_CHECKING:
    from runtime.row_files.block import InputSpec, RowReader
    from runtime.row_files.writer import RowWriter

Open = Callable[[Path, str, Sequence["InputSpec"]], AbstractContextManager["RowReader"]]
"""The rows of a file, for a model of this name and its inputs."""
Make = Callable[[Path, Mapping[str, Any] | None], "RowWriter"]
"""A writer whose parts lie in a folder, going on from what its `sync` said last."""


@dataclass(frozen=True, slots=True)
class RowFormat:
    """How rows lie in a file. Every format is read and written."""

    open: Open
    make_writer: Make


def check_input(path: Path) -> None:
    """`WrongUseError` unless `path` can be one of rows, by its name, and is there: models take longer to load."""
    if path.suffix not in FORMATS and not path.is_dir():
        raise WrongUseError(
            f"input {path} has the suffix {path.suffix!r}; expected one of {SUFFIXES}, or a folder of images"
        )
    if not path.exists():
        raise WrongUseError(f"input {path} cannot be read: No such file or directory; check the path")


def check_output(path: Path) -> None:
    """`WrongUseError` unless a file of rows can appear at `path`."""
    _format_of(f"output {path}", path.suffix)
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
        from runtime.row_files.images import open_images

        with open_images(path, specs, within) as images:
            yield images
        return
    with FORMATS[path.suffix].open(path, model, specs) as rows:
        yield rows


def make_writer(suffix: str, folder: Path, kept: Mapping[str, Any] | None) -> RowWriter:
    """A writer whose parts lie in `folder`; `kept` is what its `sync` said last, where it goes on."""
    return _format_of("the output", suffix).make_writer(folder, kept)


def _format_of(what: str, suffix: str) -> RowFormat:
    known = FORMATS.get(suffix)
    if known is None:
        raise WrongUseError(f"{what} has the suffix {suffix!r}; expected one of {SUFFIXES}")
    return known


# What a format is read and written with is imported with its first file: the command line's help needs the suffixes alone.


@contextmanager
def _open_arrays(path: Path, model: str, specs: Sequence[InputSpec]) -> Iterator[RowReader]:
    from runtime.row_files.arrays import ArrayRows, open_arrays

    with open_arrays(path) as arrays:
        yield ArrayRows(path, arrays, model, specs)


def _write_arrays(suffix: str, folder: Path, kept: Mapping[str, Any] | None) -> RowWriter:
    from runtime.row_files.array_writer import ArrayWriter

    return ArrayWriter(suffix, folder, kept)


def _open_json_lines(path: Path, _: str, specs: Sequence[InputSpec]) -> AbstractContextManager[RowReader]:
    from runtime.row_files.json_lines import open_json_lines

    return open_json_lines(path, specs)


def _write_json_lines(folder: Path, kept: Mapping[str, Any] | None) -> RowWriter:
    from runtime.row_files.text_writers import JsonLinesWriter

    return JsonLinesWriter(folder, kept)


def _open_csv(path: Path, _: str, specs: Sequence[InputSpec]) -> AbstractContextManager[RowReader]:
    from runtime.row_files.csv_rows import open_csv

    return open_csv(path, specs)


def _write_csv(folder: Path, kept: Mapping[str, Any] | None) -> RowWriter:
    from runtime.row_files.text_writers import CsvWriter

    return CsvWriter(folder, kept)


def _open_parquet(path: Path, _: str, specs: Sequence[InputSpec]) -> AbstractContextManager[RowReader]:
    from runtime.row_files.parquet_rows import open_parquet

    return open_parquet(path, specs)


def _write_parquet(folder: Path, kept: Mapping[str, Any] | None) -> RowWriter:
    from runtime.row_files.parquet_writer import ParquetWriter

    return ParquetWriter(folder, kept)


FORMATS: Final[Mapping[str, RowFormat]] = {
    ".npz": RowFormat(_open_arrays, partial(_write_arrays, ".npz")),
    ".npy": RowFormat(_open_arrays, partial(_write_arrays, ".npy")),
    ".jsonl": RowFormat(_open_json_lines, _write_json_lines),
    ".csv": RowFormat(_open_csv, _write_csv),
    ".parquet": RowFormat(_open_parquet, _write_parquet),
}
"""Every format of rows by its suffix, in the order in which people are told them; a new one is a line here."""
SUFFIXES: Final = ", ".join(FORMATS)
"""For people."""
