"""One model in a process of its own: `python -m benchmarks.gpu.one FOLDER SHEET.json SECONDS`.

Every way is opened, checked and called once; then all have their turns, round after round, until the time is up. The sheet is
written again and again, so that a process that dies leaves what it had; ways that are skipped in it already are left alone.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, Final

import numpy as np

from benchmarks.gpu.models import Files, MissingError
from benchmarks.gpu.results import BATCHES, Cell, Line, Sheet
from benchmarks.gpu.ways import Way, call_of, ways
from runtime.backends.base import RunOptions, Session
from runtime.backends.failures import one_line
from runtime.backends.onnxruntime import OnnxRuntimeBackend
from runtime.hardware import Hardware, Host, probe
from runtime.hardware.nvidia import read_used_gpu_bytes
from runtime.selection.rss import GpuMemoryGrowth
from runtime.tensors import Array

CHECKED_ROWS: Final = 8
OPEN_SHARE: Final = 0.75
"""Of the time, for opening; what is not opened by then is skipped."""
MOST_CALL_S: Final = 1.0
"""A call that is expected to take longer is skipped: one turn of it would cost the others their time."""
TURN_S: Final = 0.02
WARM_UP_CALLS: Final = 2
LEAST_CALLS: Final = 3
SLOW_CALL_S: Final = 0.1
"""From here on a turn is one call, with no other to warm up."""
MOST_ROUNDS: Final = 5

Turns = dict[tuple[str, int], Callable[[], Any]]


def main(arguments: list[str]) -> None:
    """Measures and writes."""
    files, target, seconds = Files(Path(arguments[0])), Path(arguments[1]), float(arguments[2])
    start = time.monotonic()
    sheet = Sheet.from_dict(json.loads(target.read_text(encoding="utf-8"))) if target.is_file() else Sheet()
    sheet.lines, sheet.rounds = {}, 0

    def write() -> None:
        partial = target.with_suffix(".partial")
        partial.write_text(json.dumps(sheet.to_dict()), encoding="utf-8")
        partial.replace(target)

    hardware = probe()
    rows = files.rows(max(BATCHES))
    expected = _answers(files, rows[:CHECKED_ROWS])
    calls = _open_all(sheet, files, hardware, rows, expected, start + OPEN_SHARE * seconds, write)
    sheet.doing = "the rounds"
    generator = random.Random(1)
    while calls and sheet.rounds < MOST_ROUNDS and (sheet.rounds == 0 or time.monotonic() < start + seconds):
        _round(sheet, calls, generator, start + seconds)
        write()
    sheet.doing = ""
    write()


def _answers(files: Files, rows: Array) -> Array:
    """The processor's, in fp32: what every way must come near to."""
    session = OnnxRuntimeBackend.cpu().open(files.path("fp32.onnx"), RunOptions(1))
    answers = session.run({session.inputs[0].name: rows})[session.outputs[0].name]
    session.close()
    return answers


def _open_all(
    sheet: Sheet,
    files: Files,
    hardware: Hardware,
    rows: Array,
    expected: Array,
    deadline: float,
    write: Callable[[], None],
) -> Turns:
    """What can be called, by way and number of rows; the sheet says what cannot."""
    sessions: dict[object, Session] = {}
    calls: Turns = {}
    warm: set[str] = set()
    for way in ways(hardware.cores.threads):
        if way.name in sheet.skipped:
            continue
        if time.monotonic() > deadline:
            sheet.skipped[way.name] = "no time was left to open it"
            continue
        sheet.doing = way.name
        write()
        try:
            reason = way.backend.unavailable_reason(hardware)
            if reason is not None:
                raise MissingError(reason)
            if way.backend.device == "cuda" and way.backend.name not in warm:
                # The first session of an engine also takes the memory of its library, which is not this way's.
                way.open(files).close()
                warm.add(way.backend.name)
            line = Line()
            growth = GpuMemoryGrowth(_used_gpu_bytes) if way.backend.device == "cuda" else None
            if way.session_key not in sessions:
                before = time.monotonic()
                sessions[way.session_key] = way.open(files)
                line.open_s = time.monotonic() - before
            calls |= _first_calls(way, sessions[way.session_key], line, rows, expected)
            line.gpu_mb = None if growth is None else growth.now_mb()
            sheet.lines[way.name] = line
        except Exception as error:  # this way's alone
            sheet.skipped[way.name] = one_line(error)
    return calls


def _first_calls(way: Way, session: Session, line: Line, rows: Array, expected: Array) -> Turns:
    calls: Turns = {}
    per_row_s = 0.0
    for count in BATCHES:
        if per_row_s * count > MOST_CALL_S:
            line.skipped[count] = f"a call would take about {per_row_s * count:.1f} s"
            continue
        try:
            call, fetch = call_of(way, session, rows[:count])
            before = time.perf_counter()
            answers = fetch()
            cell = Cell(1000 * (time.perf_counter() - before))
            if count == CHECKED_ROWS:
                line.error = _error(answers, expected)
            before = time.perf_counter()
            call()
            per_row_s = (time.perf_counter() - before) / count
        except Exception as error:  # with so many rows; fewer went well
            line.skipped[count] = one_line(error)
            continue
        line.cells[count] = cell
        calls[way.name, count] = call
    return calls


def _error(answers: Array, expected: Array) -> float:
    difference = np.abs(answers.astype(np.float64) - expected.astype(np.float64))
    return float(difference.max() / np.abs(expected).max())


def _round(sheet: Sheet, calls: Turns, generator: random.Random, deadline: float) -> None:
    """A turn for everyone, in an order of its own; after the deadline those of the first round who had none are left without."""
    order = list(calls)
    generator.shuffle(order)
    for key in order:
        if time.monotonic() > deadline:
            return
        way, count = key
        try:
            sheet.lines[way].cells[count].turns_ms.append(_turn(calls[key]))
        except Exception as error:
            del calls[key], sheet.lines[way].cells[count]
            sheet.lines[way].skipped[count] = one_line(error)
    sheet.rounds += 1


def _turn(call: Callable[[], Any]) -> float:
    """The median call in milliseconds."""
    times: list[float] = []
    end = time.perf_counter() + TURN_S
    for number in range(100_000):
        before = time.perf_counter()
        call()
        now = time.perf_counter()
        if now - before > SLOW_CALL_S:
            return 1000 * (now - before)
        if number >= WARM_UP_CALLS:
            times.append(now - before)
        if now >= end and len(times) >= LEAST_CALLS:
            break
    return 1000 * median(times)


def _used_gpu_bytes() -> int | None:
    return read_used_gpu_bytes(Host.this_machine())


if __name__ == "__main__":
    main(sys.argv[1:])
