"""One model in a process of its own: `python -m benchmarks.gpu.one FOLDER SHEET.json SECONDS`.

Every way is opened; then, for one number of rows after the other, called for the first time and given its turns, round after
round. ONNX Runtime's convolutions choose their kernels anew whenever the shape differs from that of the call before, so
numbers of rows never take turns with each other, but in a figure of their own: what a call takes right after one of another
shape. The sheet is written again and again, so that a process that dies leaves what it had; ways that are skipped in it
already are left alone.
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
from benchmarks.gpu.ways import Handing, Way, call_of, ways
from runtime.backends.base import RunOptions, Session
from runtime.backends.failures import one_line
from runtime.backends.onnxruntime import OnnxRuntimeBackend
from runtime.hardware import Hardware, Host, probe
from runtime.hardware.nvidia import read_used_gpu_bytes
from runtime.selection.rss import GpuMemoryGrowth
from runtime.tensors import Array

CHECKED_ROWS: Final = 8
OPEN_SHARE: Final = 0.3
"""Of the time, for opening; what is not opened by then is skipped."""
MOST_CALL_S: Final = 1.0
"""A call that is expected to take longer is skipped: one turn of it would cost the others their time."""
TURN_S: Final = 0.02
WARM_UP_CALLS: Final = 2
LEAST_CALLS: Final = 3
SLOW_CALL_S: Final = 0.1
"""From here on a turn is one call, with no other to warm up."""
MOST_ROUNDS: Final = 5
SWITCHED_ROWS: Final = (1, 8)
MOST_SWITCHES: Final = 5

Opened = dict[str, tuple[Way, Session]]
Turns = dict[str, Callable[[], Any]]


def main(arguments: list[str]) -> None:
    """Measures and writes."""
    files, target, seconds = Files(Path(arguments[0])), Path(arguments[1]), float(arguments[2])
    start = time.monotonic()
    sheet = Sheet.from_dict(json.loads(target.read_text(encoding="utf-8"))) if target.is_file() else Sheet()
    sheet.lines, sheet.rounds = {}, {}

    def write() -> None:
        partial = target.with_suffix(".partial")
        partial.write_text(json.dumps(sheet.to_dict()), encoding="utf-8")
        partial.replace(target)

    hardware = probe()
    rows = files.rows(max(BATCHES))
    expected = _answers(files, rows[:CHECKED_ROWS])
    opened = _open_all(sheet, files, hardware, start + OPEN_SHARE * seconds, write)
    generator = random.Random(1)
    for at, count in enumerate(BATCHES):
        sheet.doing = f"{count} rows"
        now = time.monotonic()
        deadline = now + (start + seconds - now) / (len(BATCHES) - at + 1)
        _measure(sheet, opened, rows[:count], expected, generator, deadline)
        write()
    sheet.doing = "switching"
    _switch(sheet, opened, rows, start + seconds)
    sheet.doing = ""
    write()


def _answers(files: Files, rows: Array) -> Array:
    """The processor's, in fp32: what every way must come near to."""
    session = OnnxRuntimeBackend.cpu().open(files.path("fp32.onnx"), RunOptions(1))
    answers = session.run({session.inputs[0].name: rows})[session.outputs[0].name]
    session.close()
    return answers


def _open_all(sheet: Sheet, files: Files, hardware: Hardware, deadline: float, write: Callable[[], None]) -> Opened:
    """What can be opened, by way; the sheet says what cannot."""
    sessions: dict[object, Session] = {}
    opened: Opened = {}
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
            opened[way.name] = way, sessions[way.session_key]
            line.gpu_mb = None if growth is None else growth.now_mb()
            sheet.lines[way.name] = line
        except Exception as error:  # this way's alone
            sheet.skipped[way.name] = one_line(error)
    return opened


def _measure(
    sheet: Sheet, opened: Opened, rows: Array, expected: Array, generator: random.Random, deadline: float
) -> None:
    """The first calls with so many rows, then rounds of turns; a round at least, however late it is."""
    calls = {}
    for name, (way, session) in opened.items():
        if time.monotonic() > deadline:
            sheet.lines[name].skipped[len(rows)] = "no time was left"
        elif (call := _first_call(way, session, sheet.lines[name], rows, expected)) is not None:
            calls[name] = call
    rounds = 0
    while calls and rounds < MOST_ROUNDS and (not rounds or time.monotonic() < deadline):
        _round(sheet, calls, len(rows), generator)
        rounds += 1
    sheet.rounds[len(rows)] = rounds


def _first_call(way: Way, session: Session, line: Line, rows: Array, expected: Array) -> Callable[[], Any] | None:
    count, growth = len(rows), None
    expected_s = line.row_s * count
    if expected_s > MOST_CALL_S:
        line.skipped[count] = f"a call would take about {expected_s:.1f} s"
        return None
    try:
        growth = GpuMemoryGrowth(_used_gpu_bytes) if way.backend.device == "cuda" else None
        call, fetch = call_of(way, session, rows)
        before = time.perf_counter()
        answers = fetch()
        cell = Cell(1000 * (time.perf_counter() - before))
        if count == CHECKED_ROWS:
            line.error = _error(answers, expected)
        call()  # the first time without fetching
        before = time.perf_counter()
        call()
        line.row_s = (time.perf_counter() - before) / count
    except Exception as error:  # with so many rows; fewer went well
        line.skipped[count] = one_line(error)
        return None
    if growth is not None:
        line.gpu_mb = (line.gpu_mb or 0.0) + (growth.now_mb() or 0.0)
    line.cells[count] = cell
    return call


def _switch(sheet: Sheet, opened: Opened, rows: Array, deadline: float) -> None:
    """What a call takes right after one with another number of rows."""
    for name, (way, session) in opened.items():
        line = sheet.lines[name]
        if way.handing is not Handing.RUN or not all(count in line.cells for count in SWITCHED_ROWS):
            continue
        if time.monotonic() > deadline:
            return
        few, many = (call_of(way, session, rows[:count])[0] for count in SWITCHED_ROWS)
        times = []
        few()
        for _ in range(MOST_SWITCHES):
            for call in (many, few):
                before = time.perf_counter()
                call()
                times.append(time.perf_counter() - before)
            if time.monotonic() > deadline:
                break
        line.switch_ms = 1000 * median(times)


def _error(answers: Array, expected: Array) -> float:
    difference = np.abs(answers.astype(np.float64) - expected.astype(np.float64))
    return float(difference.max() / np.abs(expected).max())


def _round(sheet: Sheet, calls: Turns, count: int, generator: random.Random) -> None:
    """A turn for everyone, in an order of its own."""
    order = list(calls)
    generator.shuffle(order)
    for name in order:
        line = sheet.lines[name]
        try:
            line.cells[count].turns_ms.append(_turn(calls[name]))
        except Exception as error:
            del calls[name], line.cells[count]
            line.skipped[count] = one_line(error)


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
