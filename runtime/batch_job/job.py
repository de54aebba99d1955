"""The job itself: rows in, answers out, a checkpoint now and then; broken off at any point and run again, the same bytes come out.

Batches begin at fixed rows and run on one candidate, whose answers are then the same; a state is written only between them, after
everything it speaks of is on disk.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from runtime.batch_job.checkpoint import Checkpoint, WorkFolder
from runtime.batch_job.oddities import Oddities, oddities
from runtime.batch_job.predictor import Predictor
from runtime.errors import (
    CancelledError,
    EdgewardError,
    ExecutionError,
    InvalidInputError,
    StorageError,
    WrongUseError,
)
from runtime.row_files.block import Block, Group, RowReader, Unreadable
from runtime.row_files.image_names import images_digest
from runtime.row_files.opening import check_input, check_output, make_writer, open_rows
from runtime.row_files.writer import Part, RowWriter, sync_folder, twin
from runtime.tensors import Array

log = logging.getLogger(__name__)

# What a kill costs at most, against a few milliseconds of writing to disk each time.
CHECKPOINT_EVERY_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class BatchJob:
    """What is to be done."""

    input: Path
    output: Path
    errors: Path | None = None
    """Where rows that cannot be read or hold no finite numbers are told; None: OUTPUT.errors.jsonl."""
    is_fresh: bool = False
    """Whether to start over where an earlier run was broken off."""
    checkpoint_every_s: float = CHECKPOINT_EVERY_S
    within: tuple[Path, ...] | None = None
    """The folders that links in a folder of images may lead to; None: anywhere."""

    @property
    def errors_file(self) -> Path:
        """Where rows that cannot be read or hold no finite numbers are told."""
        return self.errors or self.output.with_name(f"{self.output.name}.errors.jsonl")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job is."""

    rows_done: int
    """Read so far, the unreadable ones too, those of earlier runs too."""
    rows_total: int | None
    """None where only reading all of the input would tell."""
    rows_unreadable: int


@dataclass(frozen=True, slots=True)
class Summary:
    """What came of a job."""

    rows: int
    """In the output."""
    unreadable: int
    resumed_at: int
    """The row that this run began with; 0 for one that was not broken off before."""
    seconds: float
    """Of this run."""
    unused: tuple[str, ...]
    """Columns or arrays that no input was made from."""
    assumed: str
    """What was taken for an input without having its name; empty where every input was found by its name."""
    non_finite: int
    """Rows with a NaN or an infinity; answered all the same, and told in the errors file."""
    out_of_range: int
    """Other rows with values outside the range that the manifest declares; answered all the same."""
    first_out_of_range: str
    """The first of those and what is wrong with it; empty where there are none."""
    errors_file: Path | None
    """None where there was nothing to tell in it."""


OnProgress = Callable[[Progress], None]
ShouldStop = Callable[[], bool]


def run_batch(
    job: BatchJob,
    predictor: Predictor,
    on_progress: OnProgress = lambda _: None,
    should_stop: ShouldStop = lambda: False,
) -> Summary:
    """Does the job, or what is left of it; the output takes its place when all of it is on disk.

    Rows that cannot be read, or that the model fails on, go to the errors file; the others are in the output in their order. A row
    with a NaN or an infinity is answered, as on the wire, and told there too.
    `CancelledError` when `should_stop` said so, between two batches: what is done is kept. `InvalidInputError` when the input as
    a whole does not fit, or no row of it can be read.
    """
    started = time.perf_counter()
    check_input(job.input)
    check_output(job.output)
    if job.input.resolve() == job.output.resolve():
        raise WrongUseError(f"input and output are the same file {job.input}; choose another output")
    folder = WorkFolder(job.output)
    with folder.taken(), _kept_or_removed(folder):
        state = _begin(job, predictor, folder)
        first = state.rows_done
        unused: tuple[str, ...] = ()
        assumed = ""
        if not state.is_packed:
            with open_rows(job.input, predictor.name, predictor.inputs, job.within) as reader:
                reader.skip(first)
                run = _Run(job, predictor, folder, reader, state, on_progress, should_stop)
                state = run.finish()
                unused, assumed = tuple(reader.unused), reader.assumed
        _publish(job, folder, state)
        folder.remove()
    return Summary(
        rows=state.rows_answered,
        unreadable=state.rows_unreadable,
        resumed_at=first,
        seconds=time.perf_counter() - started,
        unused=unused,
        assumed=assumed,
        non_finite=state.rows_non_finite,
        out_of_range=state.rows_out_of_range,
        first_out_of_range=state.first_out_of_range,
        errors_file=job.errors_file if _has_errors(state) else None,
    )


class _Run:
    """One process' share of a job."""

    def __init__(
        self,
        job: BatchJob,
        predictor: Predictor,
        folder: WorkFolder,
        reader: RowReader,
        state: Checkpoint,
        on_progress: OnProgress,
        should_stop: ShouldStop,
    ) -> None:
        self._job = job
        self._predictor = predictor
        self._folder = folder
        self._reader = reader
        self._state = state
        self._on_progress = on_progress
        self._should_stop = should_stop
        self._first_reason = ""

    def finish(self) -> Checkpoint:
        """Everything up to the whole file."""
        with _disk(self._folder):
            writer = make_writer(self._job.output.suffix, self._folder.path, self._state.writer)
            errors = Part(self._folder.path / "errors.part", self._state.errors_bytes)
        try:
            self._go_through(writer, errors)
            with _disk(self._folder):
                if self._state.rows_done == 0:
                    self._write_no_rows(writer)
                elif self._state.rows_answered == 0:
                    raise InvalidInputError(
                        f"none of the {self._state.rows_done} rows of {self._job.input} can be read; the first: "
                        f"{self._first_reason or 'see an earlier run'}"
                    )
                self._checkpoint(writer, errors)
                writer.finish(self._folder.whole)
                self._state = replace(self._state, is_packed=True)
                self._folder.write(self._state)
        finally:
            writer.close()
            errors.close()
        return self._state

    def _go_through(self, writer: RowWriter, errors: Part) -> None:
        written_at = time.monotonic()
        while (block := self._reader.read(self._state.batch_rows)) is not None:
            if self._should_stop():
                self._checkpoint(writer, errors)
                raise CancelledError(
                    f"stopped after {self._state.rows_done} rows, which are kept; the same job again goes on from there"
                )
            unreadable, odd = self._answer(block, writer)
            told = [(row.row, _told(row)) for row in unreadable]
            told += [(number, _told_answered(number, what)) for group in odd for number, what in group.non_finite]
            with _disk(self._folder):
                for row in unreadable:
                    self._first_reason = self._first_reason or row.reason
                for _, line in sorted(told):
                    errors.stream.write(line)
            self._state = replace(
                self._state,
                rows_done=block.first + block.count,
                rows_answered=self._state.rows_answered + block.count - len(unreadable),
                rows_unreadable=self._state.rows_unreadable + len(unreadable),
                rows_non_finite=self._state.rows_non_finite + sum(len(group.non_finite) for group in odd),
                rows_out_of_range=self._state.rows_out_of_range + sum(len(group.out_of_range) for group in odd),
                first_out_of_range=self._state.first_out_of_range
                or next((group.first_out_of_range for group in odd if group.first_out_of_range), ""),
            )
            now = time.monotonic()
            if now - written_at >= self._job.checkpoint_every_s:
                self._checkpoint(writer, errors)
                written_at = time.monotonic()
            self._on_progress(Progress(self._state.rows_done, self._reader.rows, self._state.rows_unreadable))

    def _answer(self, block: Block, writer: RowWriter) -> tuple[list[Unreadable], list[Oddities]]:
        """Writes the answers of a block in the order of its rows; the rows that have none, and what is odd about the others."""
        unreadable = list(block.unreadable)
        answered: list[tuple[Group, dict[str, Array]]] = []
        for group in block.groups:
            answered += self._ask(group, unreadable)
        unreadable.sort(key=lambda row: row.row)
        if answered:
            numbers, outputs = _in_order(answered)
            names = None if block.names is None else [block.names[number - block.first] for number in numbers]
            with _disk(self._folder):
                writer.write(outputs, names)
        return unreadable, [oddities(self._predictor.inputs, group) for group, _ in answered]

    def _ask(self, group: Group, unreadable: list[Unreadable]) -> list[tuple[Group, dict[str, Array]]]:
        try:
            return [(group, self._predictor.predict(group.inputs))]
        except (ExecutionError, InvalidInputError) as error:
            if len(group.rows) == 1:
                unreadable.append(Unreadable(group.rows[0], str(error)))
                return []
        # One row spoils the batch: each by itself says which.
        answered = []
        for i, row in enumerate(group.rows):
            single = Group((row,), {name: value[i : i + 1] for name, value in group.inputs.items()})
            answered += self._ask(single, unreadable)
        return answered

    def _write_no_rows(self, writer: RowWriter) -> None:
        """An output without rows still says which columns it has."""
        empty = {
            spec.name: np.empty((0, *(max(size, 0) for size in spec.row_shape)), spec.tensor.dtype)
            for spec in self._predictor.inputs
        }
        writer.write(self._predictor.predict(empty), None)

    def _checkpoint(self, writer: RowWriter, errors: Part) -> None:
        with _disk(self._folder):
            self._state = replace(self._state, writer=writer.sync(), errors_bytes=errors.sync())
            self._folder.write(self._state)


def _begin(job: BatchJob, predictor: Predictor, folder: WorkFolder) -> Checkpoint:
    """The state to go on from, or a new one."""
    fingerprint = _fingerprint(job, predictor)
    kept = folder.read()
    if kept is not None and kept.fingerprint == fingerprint and not job.is_fresh:
        is_placed = kept.is_packed and not folder.whole.exists() and job.output.exists()
        if is_placed or not kept.is_packed or folder.whole.exists():
            log.info("%s: going on after %d rows", job.output, kept.rows_done)
            return kept
    if kept is not None:
        log.warning(
            "%s: the %d rows of an earlier run are not used: %s",
            job.output,
            kept.rows_done,
            "asked to start over" if job.is_fresh else "the input, the model or what runs it has changed since",
        )
    folder.clear()
    return Checkpoint(fingerprint, predictor.batch_rows)


def _publish(job: BatchJob, folder: WorkFolder, state: Checkpoint) -> None:
    """Puts the errors file, then the output in their places."""
    with _disk(folder):
        if _has_errors(state):
            fresh = folder.path / "errors.whole"
            twin(folder.path / "errors.part", fresh)
            fresh.replace(job.errors_file)
        elif job.errors is None or job.errors_file.exists():
            job.errors_file.unlink(missing_ok=True)  # of an earlier output at this place
        if folder.whole.exists():
            folder.whole.replace(job.output)
        sync_folder(job.output.parent)


def _fingerprint(job: BatchJob, predictor: Predictor) -> str:
    """sha256 of what the output depends on; an input is known by its path, size and time, a folder by those of its images."""
    said = f"{predictor.identity}\0{job.output.suffix}\0{job.input.absolute()}\0"
    digest = hashlib.sha256(said.encode("utf-8", "surrogateescape"))
    if job.input.is_dir():
        # Not the folder's own time: the output, and what is kept of this job, may lie in it.
        digest.update(images_digest(job.input).encode())
        return digest.hexdigest()
    try:
        told = job.input.stat()
    except OSError as error:
        raise WrongUseError(f"input {job.input} cannot be read: {error.strerror or error}; check the path") from error
    digest.update(f"{told.st_size}\0{told.st_mtime_ns}".encode())
    return digest.hexdigest()


def _in_order(answered: list[tuple[Group, dict[str, Array]]]) -> tuple[list[int], Mapping[str, Array]]:
    """Row numbers and outputs of several calls in the order of the rows; `WrongUseError` where their outputs do not stack."""
    if len(answered) == 1:
        return list(answered[0][0].rows), answered[0][1]
    numbers = [row for group, _ in answered for row in group.rows]
    order = np.argsort(numbers, kind="stable")
    try:
        outputs = {name: np.concatenate([outputs[name] for _, outputs in answered])[order] for name in answered[0][1]}
    except ValueError as error:
        raise WrongUseError(
            f"rows of different shapes have outputs of different shapes, which do not go into one batch: {error}; "
            "sort the rows into a file for each shape"
        ) from error
    return [numbers[place] for place in order], outputs


def _has_errors(state: Checkpoint) -> bool:
    return bool(state.rows_unreadable or state.rows_non_finite)


def _told_answered(row: int, what: str) -> bytes:
    return (json.dumps({"row": row, "reason": what, "is_answered": True}, ensure_ascii=False) + "\n").encode()


def _told(row: Unreadable) -> bytes:
    said: dict[str, object] = {"row": row.row, "reason": row.reason}
    if row.where:
        said["where"] = row.where
    return (json.dumps(said, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace")


@contextmanager
def _kept_or_removed(folder: WorkFolder) -> Iterator[None]:
    """After an error the folder stays where rows of it can be gone on with."""
    try:
        yield
    except BaseException as error:
        kept = folder.read()
        if kept is None or kept.rows_done == 0:
            folder.remove()
        elif isinstance(error, EdgewardError):
            log.warning(
                "%d rows are kept in %s: the same command again goes on from there", kept.rows_done, folder.path
            )
        raise


@contextmanager
def _disk(folder: WorkFolder) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"{folder.path} cannot be written: {error.strerror or error}; make room and run the same command again"
        ) from error
