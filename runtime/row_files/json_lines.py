"""Rows of a .jsonl file: an object a line with the inputs by name, or the bare value where the model has one input."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from runtime.errors import WrongUseError
from runtime.row_files.block import Block, InputSpec, Unreadable
from runtime.row_files.stacking import RawRow, stack

# As much as a message over the network may have; a file without line ends must not fill the memory.
MAX_LINE_BYTES = 64 << 20


class JsonLines:
    """A `RowReader`. Empty lines are no rows."""

    rows: int | None = None
    assumed = ""

    def __init__(self, stream: IO[bytes], specs: Sequence[InputSpec]) -> None:
        self._stream = stream
        self._specs = specs
        self._names = {spec.name for spec in specs}
        self._unused: set[str] = set()
        self._at = 0
        self._line = 0

    @property
    def unused(self) -> list[str]:
        """Names seen so far that are no input's."""
        return sorted(self._unused)

    def skip(self, rows: int) -> None:
        """Goes past rows."""
        while rows and self._next() is not None:
            rows -= 1
            self._at += 1

    def read(self, rows: int) -> Block | None:
        """The next rows."""
        first = self._at
        good: list[RawRow] = []
        bad: list[Unreadable] = []
        while self._at - first < rows and (line := self._next()) is not None:
            number, where = self._at, f"line {self._line}"
            self._at += 1
            try:
                good.append(RawRow(number, where, self._values(line)))
            except (ValueError, RecursionError) as error:
                bad.append(Unreadable(number, str(error) or "nested too deeply", where))
        if self._at == first:
            return None
        groups, failed = stack(self._specs, good)
        bad = sorted([*bad, *failed], key=lambda row: row.row)
        return Block(first, self._at - first, tuple(groups), tuple(bad))

    def _next(self) -> bytes | None:
        """The next line that is not empty; one that is too long, shortened so that it cannot parse."""
        while line := self._stream.readline(MAX_LINE_BYTES):
            self._line += 1
            if len(line) == MAX_LINE_BYTES and not line.endswith(b"\n"):
                while (rest := self._stream.readline(MAX_LINE_BYTES)) and not rest.endswith(b"\n"):
                    pass
                return line[:100]
            if line.strip():
                return line
        return None

    def _values(self, line: bytes) -> dict[str, Any]:
        document = json.loads(line)
        if not isinstance(document, dict):
            if len(self._specs) == 1:
                return {self._specs[0].name: document}
            raise ValueError(f"a {type(document).__name__}; expected an object with {', '.join(sorted(self._names))}")
        missing = self._names - document.keys()
        if missing:
            raise ValueError(f"input {min(missing)!r} is missing; the line has {', '.join(document) or 'nothing'}")
        self._unused |= document.keys() - self._names
        return {name: document[name] for name in self._names}


@contextmanager
def open_json_lines(file: Path, specs: Sequence[InputSpec]) -> Iterator[JsonLines]:
    """The rows in `file`; `WrongUseError` when it is not there."""
    try:
        stream = file.open("rb")
    except OSError as error:
        raise WrongUseError(f"input {file} cannot be read: {error.strerror or error}; check the path") from error
    with stream:
        yield JsonLines(stream, specs)
