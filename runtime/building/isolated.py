"""One piece of work in a process of its own: a converter that crashes, hangs or takes all memory costs only its variant."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import psutil

WATCH_S: Final = 0.05
"""How often memory is looked at: memory is touched at about 2 GB/s, so at most 100 MB late."""
MB: Final = 1024 * 1024
MAX_RESULT_BYTES: Final = 16 << 20
MAX_COMPLAINT_CHARS: Final = 400

# The worker finds our code where this process found it; `-m` would look in the working directory first.
_BOOT: Final = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[1]); "
    "from runtime.building.worker import main; main(*sys.argv[2:])"
)


class WorkFailedError(Exception):
    """The work came to nothing; the text is the reason, for a person."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one piece of work may take."""

    time_s: float = 900.0
    """For one conversion or measurement. A tiny network takes seconds here; large ones were not timed: a person may set it."""
    memory_mb: float | None = None
    """Of the process and those it starts; None for no limit."""


def run_isolated(work: str, arguments: Mapping[str, Any], limits: Limits) -> Any:
    """What the function `work` ("module:function") returns for `arguments`, both ways as JSON; `WorkFailedError` otherwise."""
    with tempfile.TemporaryDirectory(prefix="edgeward-work-") as scratch:
        order, result = Path(scratch) / "order.json", Path(scratch) / "result.json"
        order.write_text(json.dumps({"work": work, "arguments": dict(arguments)}), encoding="utf-8")
        with tempfile.TemporaryFile() as complaints:
            code = _run([str(order), str(result)], complaints, limits)
            if not result.is_file() or result.stat().st_size > MAX_RESULT_BYTES:
                raise WorkFailedError(_how_it_ended(code, complaints))
        answer = json.loads(result.read_text(encoding="utf-8"))
    if "failed" in answer:
        raise WorkFailedError(str(answer["failed"]))
    return answer["done"]


def _run(arguments: list[str], complaints: IO[bytes], limits: Limits) -> int:
    """The exit code; `WorkFailedError` when a limit was reached, with every process of the work ended."""
    process = subprocess.Popen(
        [sys.executable, "-c", _BOOT, json.dumps(sys.path), *arguments],
        stdin=subprocess.DEVNULL,
        stdout=complaints,  # converters print to both
        stderr=complaints,
    )
    end = time.monotonic() + limits.time_s
    try:
        while True:
            try:
                return process.wait(timeout=WATCH_S)
            except subprocess.TimeoutExpired:
                pass
            if time.monotonic() > end:
                raise WorkFailedError(f"it took longer than {limits.time_s:g} s and was ended; give it more time")
            if limits.memory_mb is not None and _held_bytes(process.pid) > limits.memory_mb * MB:
                raise WorkFailedError(f"it took more than {limits.memory_mb:.0f} MB of memory and was ended")
    finally:
        _end(process)


def _family(pid: int) -> list[psutil.Process]:
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.Error:
        return []


def _held_bytes(pid: int) -> int:
    total = 0
    for member in _family(pid):
        with contextlib.suppress(psutil.Error):
            total += int(member.memory_info().rss)
    return total


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        for member in _family(process.pid):
            with contextlib.suppress(psutil.Error):
                member.kill()
    process.wait()


def _how_it_ended(code: int, complaints: IO[bytes]) -> str:
    how = f"its process ended with exit code {code}"
    if code < 0:
        with contextlib.suppress(ValueError):
            how = f"its process was ended by {signal.Signals(-code).name}"
    complaints.seek(0)
    said = [line.strip() for line in complaints.read().decode("utf-8", errors="replace").splitlines() if line.strip()]
    return f"{how} ({said[-1][:MAX_COMPLAINT_CHARS]})" if said else how
