"""Programs that the demo starts: each a process group of its own, ended with everything it started, whatever happens."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 10.0


class ProgramError(RuntimeError):
    """A program did not start."""


@dataclass(frozen=True)
class Program:
    """One that runs, and what it said when it listened."""

    name: str
    process: subprocess.Popen[str]
    grpc: str
    http: str

    def kill(self) -> None:
        """Ends it at once, without a chance to say goodbye."""
        _signal_group(self.process, signal.SIGKILL)
        self.process.wait()


class Programs:
    """`with Programs(...) as programs:` starts them and has ended every one when the block is left."""

    def __init__(self, logs: Path, environment: Mapping[str, str]) -> None:
        self._logs = logs
        self._environment = {**os.environ, **environment}
        self._running: list[subprocess.Popen[str]] = []

    def start(self, name: str, arguments: Sequence[str], **variables: str) -> Program:
        """Starts `edgeward ARGUMENTS --json` and waits until it says where it listens; `ProgramError` shows its last words.

        `variables` outrank the environment that all of them have.
        """
        log = self._logs / f"{name}.log"
        with log.open("ab") as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", "edgeward", *arguments, "--json"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env={**self._environment, **variables},
                start_new_session=True,
            )
        self._running.append(process)
        # A program that hangs before its first line is ended, which ends the line too.
        overdue = threading.Timer(START_TIMEOUT_S, lambda: _signal_group(process, signal.SIGKILL))
        overdue.start()
        try:
            assert process.stdout is not None
            said: dict[str, Any] = json.loads(process.stdout.readline())
        except ValueError:
            process.wait()
            last = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-10:])
            raise ProgramError(
                f"{name} ended with {process.returncode} before it listened; its last words:\n{last}"
            ) from None
        finally:
            overdue.cancel()
        return Program(name, process, said["grpc"], said["http"])

    def __enter__(self) -> Programs:
        return self

    def __exit__(self, *exc: object) -> None:
        for process in self._running:
            _signal_group(process, signal.SIGTERM)
        for process in self._running:
            try:
                process.wait(STOP_TIMEOUT_S)
            except (subprocess.TimeoutExpired, KeyboardInterrupt):
                pass
            finally:
                _signal_group(process, signal.SIGKILL)
                process.wait()
                if process.stdout is not None:
                    process.stdout.close()


def _signal_group(process: subprocess.Popen[str], kind: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, kind)
