"""Candidates run in a process of their own: one that crashes, hangs or takes too much memory costs only itself.

One worker serves all candidates of a model in turn. When it dies or is ended, the candidate that was running is out with
the reason, and a new worker goes on with the rest.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import replace
from typing import IO, Final

import psutil
from pydantic import ValidationError

from runtime.bundle.bundle import Bundle
from runtime.selection.bench import BenchUnavailableError, CandidateFailedError, Timed, Trial
from runtime.selection.candidates import Candidate
from runtime.selection.guard import GuardResult
from runtime.selection.trial_messages import MAX_LINE_BYTES, Answer, Check, Start, Time, TryOut, name_of, start_of

log = logging.getLogger(__name__)

START_TIMEOUT_S: Final = 60.0
"""An interpreter with numpy starts in 0.15 s on the machine this was written on; a slow card may take hundreds of times that."""
WATCH_TRIAL_S: Final = 0.02
"""How often memory is looked at in a trial. What is taken between two looks goes unseen, so the limit leaves a margin."""
WATCH_TIMING_S: Final = 0.25
"""While calls are timed the watcher must not disturb them; what is timed has held its memory in the trial."""
PIPE_CLOSES_S: Final = 1.0
"""From the end of a process to the end of its pipe: no time at all, unless another process holds it too."""
MB: Final = 1024 * 1024

# The worker finds our code where this process found it; `-m` would look in the working directory first.
_BOOT: Final = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[1]); from runtime.selection.trial_worker import main; main()"
)


class IsolatedBench:
    """A bench in another process. See `Bench`; `BenchUnavailableError` when not even the first worker can be started.

    Where a later one cannot (the machine is full by then), that costs the candidate that asked for it: whoever measures
    without isolation instead would run what has just crashed.
    """

    def __init__(
        self, bundle: Bundle, backend_source: str, seed: int, timeout_s: float, memory_mb: float | None
    ) -> None:
        """`timeout_s` for one order; `memory_mb`: growth at which the worker is ended, None for no limit."""
        self._start = start_of(bundle, backend_source, seed)
        self._timeout_s = timeout_s
        self._memory_mb = memory_mb
        self._worker: _Worker | None = None
        self._has_started = False
        self._starting_s = 0.0
        """What starting a process took in the order under way."""

    def try_out(self, candidate: Candidate, reference: Candidate | None, rows: int, check_s: float) -> Trial:
        """See `Bench.try_out`."""
        standard = None if reference is None else name_of(reference)
        order = TryOut(candidate=name_of(candidate), reference=standard, rows=rows, check_s=check_s)
        self._starting_s = 0.0
        answer = self._ask(order, WATCH_TRIAL_S)
        if answer.trial is None:
            raise CandidateFailedError("the trial's process gave no result")
        return replace(answer.trial, loading_s=answer.trial.loading_s + self._starting_s)

    def check(self, candidate: Candidate, reference: Candidate | None, within_s: float) -> GuardResult:
        """See `Bench.check`."""
        standard = None if reference is None else name_of(reference)
        answer = self._ask(Check(candidate=name_of(candidate), reference=standard, within_s=within_s), WATCH_TRIAL_S)
        if answer.guard is None:
            raise CandidateFailedError("the trial's process gave no result")
        return answer.guard

    def time(self, candidate: Candidate, rows: int, duration_s: float) -> Timed:
        """See `Bench.time`."""
        answer = self._ask(Time(candidate=name_of(candidate), rows=rows, duration_s=duration_s), WATCH_TIMING_S)
        if answer.timed is None:
            raise CandidateFailedError("the trial's process gave no times")
        return answer.timed

    def close(self) -> None:
        """Ends the worker."""
        if self._worker is not None:
            self._worker.close()
            self._worker = None

    def _ask(self, order: TryOut | Check | Time, watch_s: float) -> Answer:
        if self._worker is None:
            self._worker = self._start_worker()
        try:
            answer = self._worker.ask(order, self._timeout_s, watch_s)
        except BaseException:
            self.close()
            raise
        if answer.failed is not None:
            raise CandidateFailedError(answer.failed)
        return answer

    def _start_worker(self) -> _Worker:
        began = time.monotonic()
        try:
            worker = _Worker(self._start, self._memory_mb)
        except BenchUnavailableError as error:
            if not self._has_started:
                raise
            raise CandidateFailedError(f"not tried, {error}") from error
        self._has_started = True
        self._starting_s = time.monotonic() - began
        return worker


class _Worker:
    """A running worker process."""

    def __init__(self, start: Start, memory_mb: float | None) -> None:
        if not sys.executable:
            raise BenchUnavailableError("this program is not run by a Python interpreter of which it knows the path")
        self._complaints: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  (closed in `close`)
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _BOOT, json.dumps(sys.path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._complaints,
                # A group of its own: what an engine forks can be ended with it, also after the worker itself died.
                start_new_session=True,
            )
        except OSError as error:
            self._complaints.close()
            raise BenchUnavailableError(f"no process can be started: {error}") from error
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, name="trial-answers", daemon=True)
        self._reader.start()
        self._limit_bytes: int | None = None
        try:
            self.ask(start, START_TIMEOUT_S, WATCH_TRIAL_S)
            if memory_mb is not None:
                self._limit_bytes = self._held_bytes() + int(memory_mb * MB)
        except CandidateFailedError as error:
            self.close()
            raise BenchUnavailableError(f"its process did not start: {error}") from error
        except BaseException:
            self.close()
            raise
        self._memory_mb = memory_mb

    def ask(self, order: Start | TryOut | Check | Time, timeout_s: float, watch_s: float) -> Answer:
        """The answer to an order; `CandidateFailedError` when the worker dies, hangs or takes too much memory."""
        stdin = self._process.stdin
        assert stdin is not None
        with contextlib.suppress(OSError):  # a worker that died before it could read shows below
            stdin.write(order.model_dump_json().encode() + b"\n")
            stdin.flush()
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                line = self._lines.get(timeout=watch_s)
                break
            except queue.Empty:
                if self._process.poll() is not None:
                    line = self._last_line()
                    break
                self._check_memory()
                if time.monotonic() > deadline:
                    raise CandidateFailedError(f"it hung: no answer within {timeout_s:g} s", is_hang=True) from None
        if not line:
            raise CandidateFailedError(self._how_it_ended())
        try:
            return Answer.model_validate_json(line)
        except ValidationError as error:
            raise CandidateFailedError(f"the trial's process answered nonsense: {line[:80]!r}") from error

    def close(self) -> None:
        """Ends the process, whatever it is doing, and what it started: a child that lived on would hold the pipe open."""
        for child in self._children():
            with contextlib.suppress(psutil.Error):
                child.kill()
        self._process.kill()
        if sys.platform != "win32":
            with contextlib.suppress(OSError):  # none of the group is left
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._reader.join(PIPE_CLOSES_S)
        if self._reader.is_alive():
            log.warning("a process that an engine started lives on, out of reach, and holds a pipe open")
            return
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):  # what was not written yet has no reader any more
                    pipe.close()
        self._complaints.close()

    def _read(self) -> None:
        stdout = self._process.stdout
        assert stdout is not None
        while line := stdout.readline(MAX_LINE_BYTES):
            self._lines.put(line)
        self._lines.put(b"")

    def _last_line(self) -> bytes:
        """What a worker that ended had still said; empty for nothing. Does not wait for who else holds its pipe."""
        try:
            return self._lines.get(timeout=PIPE_CLOSES_S)
        except queue.Empty:
            return b""

    def _check_memory(self) -> None:
        if self._limit_bytes is not None and self._held_bytes() > self._limit_bytes:
            raise CandidateFailedError(f"it took more than {self._memory_mb:.0f} MB of memory and was ended")

    def _held_bytes(self) -> int:
        try:
            return int(psutil.Process(self._process.pid).memory_info().rss)
        except psutil.Error:
            return 0  # it ended; the closed pipe tells

    def _children(self) -> list[psutil.Process]:
        """What the engines started: openvino-telemetry 2025.2 forks, and the fork can hang (seen 2026-11)."""
        try:
            return psutil.Process(self._process.pid).children(recursive=True)
        except psutil.Error:
            return []

    def _how_it_ended(self) -> str:
        code = self._process.wait()
        if code < 0:
            try:
                how = f"its process was ended by {signal.Signals(-code).name}"
            except ValueError:
                how = f"its process was ended by signal {-code}"
        else:
            how = f"its process ended with exit code {code}"
        self._complaints.seek(0)
        said = [
            line.strip()
            for line in self._complaints.read().decode("utf-8", errors="replace").splitlines()
            if line.strip()
        ]
        return f"{how} ({said[-1][:300]})" if said else how
