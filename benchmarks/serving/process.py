"""The processes of one server: started, waited for, suspended while others are measured, and ended with all they started."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.serving.reasons import reason_in

POLL_S = 0.2
END_S = 15.0
_SCHEDULED = 2
"""Linux' `CPUCLOCK_SCHED`: what the scheduler gave a process, all of its threads together, also those that have ended."""


class StartError(Exception):
    """A server did not come up; the text has what it printed of the reason."""


@dataclass(frozen=True, slots=True)
class Launch:
    """How a server is started: the command, which is told its ports, and variables beside the usual ones."""

    command: Sequence[str]
    environ: Mapping[str, str]
    folder: Path


class ServerProcess:
    """One running server and its children. `with ServerProcess(launch, log) as server:`"""

    def __init__(self, launch: Launch, log: Path) -> None:
        self._log = log
        with log.open("wb") as out:
            self._process = psutil.Popen(
                list(launch.command),
                cwd=launch.folder,
                env=dict(launch.environ),
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the one who measures: it ends its servers itself
            )
        self._known: dict[int, psutil.Process] = {self._process.pid: self._process}

    def wait_until(self, is_ready: Callable[[], object], timeout_s: float) -> None:
        """Returns once `is_ready` does without raising; `StartError` when the process ends or the time is over."""
        end = time.monotonic() + timeout_s
        while True:
            try:
                is_ready()
                return
            except Exception as error:
                if self._process.poll() is not None:
                    raise StartError(f"ended with code {self._process.returncode}: {self._reason()}") from error
                if time.monotonic() > end:
                    raise StartError(f"no right answer after {timeout_s:g} s ({error}); {self._reason()}") from error
            time.sleep(POLL_S)

    def _reason(self) -> str:
        """What it printed of its failure."""
        return reason_in(self._log.read_text(encoding="utf-8", errors="replace"))

    def cpu_s(self) -> float:
        """CPU seconds of the whole tree until now."""
        return sum(_cpu_s(process) for process in self._tree())

    def memory_bytes(self) -> int:
        """Resident memory of the whole tree."""
        return sum(_memory(process) for process in self._tree())

    def signal(self, number: int) -> None:
        """Sends the first process a signal."""
        self._process.send_signal(number)

    def suspend(self) -> None:
        """Stops the clock for it: others have the machine to themselves."""
        for process in self._tree():
            with contextlib.suppress(psutil.Error):
                process.suspend()

    def resume(self) -> None:
        """Lets it run again."""
        for process in self._tree():
            with contextlib.suppress(psutil.Error):
                process.resume()

    def close(self) -> None:
        """Ends it and everything it started; what does not listen is killed."""
        self.resume()
        processes = self._tree()
        with contextlib.suppress(psutil.Error):
            self._process.terminate()
        psutil.wait_procs(processes, END_S)
        left = [process for process in self._tree() if process.is_running()]
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(left, END_S)
        self._process.wait(END_S)

    def __enter__(self) -> ServerProcess:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _tree(self) -> list[psutil.Process]:
        """Every process that was ever seen below the first one and still lives: some let their parents end."""
        with contextlib.suppress(psutil.Error):
            for process in list(self._known.values()):
                if process.is_running():
                    self._known.update({child.pid: child for child in process.children(recursive=True)})
        return [process for process in self._known.values() if process.is_running()]


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]
    finally:
        for each in sockets:
            each.close()


def cpu_s(pid: int) -> float:
    """What a process has used of processors since it began; to the nanosecond on Linux, elsewhere to the system's tick."""
    if not psutil.LINUX:
        times = psutil.Process(pid).cpu_times()
        return float(times.user + times.system)
    # clock_getcpuclockid(3) of another process, which Python does not wrap: its number is in the clock's.
    return time.clock_gettime((~pid << 3) | _SCHEDULED)


def _cpu_s(process: psutil.Process) -> float:
    try:
        return cpu_s(process.pid)
    except (psutil.Error, OSError):
        return 0.0  # it has ended


def _memory(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0
