"""Two backends of another package, found by its entry points: both copy input to output, and one can be slowed while it serves.

They take their time asleep, as a device does that the processor waits for.
"""

import os
import time
from collections.abc import Mapping
from pathlib import Path

from runtime.backends.base import Backend, RunOptions, Session
from runtime.tensors import Array
from tests.runtime.selection.fakes import FakeBackend, FakeSession

SLOW_FILE = "EDGEWARD_DRILL_SLOW_FILE"
ENTRY_POINTS = """[edgeward.backends]
first = tests.runtime.engine.drill_backends:first
second = tests.runtime.engine.drill_backends:second
"""


class SleepingSession(FakeSession):
    """Copies after `ms` milliseconds, and after `slow_ms` while `slow_file` exists."""

    def __init__(self, ms: float, slow_ms: float, slow_file: Path) -> None:
        super().__init__({"ms": 0.0})
        self._ms, self._slow_ms, self._slow_file = ms, slow_ms, slow_file

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        time.sleep((self._slow_ms if self._slow_file.exists() else self._ms) / 1000)
        return super().run(inputs)


class SleepingBackend(FakeBackend):
    """Opens any file for `SleepingSession`."""

    ms = slow_ms = 0.0

    def open(self, file: Path, options: RunOptions) -> Session:
        return SleepingSession(self.ms, self.slow_ms, Path(os.environ[SLOW_FILE]))


def first() -> Backend:
    """10 ms a call, or 60."""
    backend = SleepingBackend("drill-first")
    backend.ms, backend.slow_ms = 10.0, 60.0
    return backend


def second() -> Backend:
    """20 ms a call, always."""
    backend = SleepingBackend("drill-second")
    backend.ms = backend.slow_ms = 20.0
    return backend


def install(folder: Path) -> None:
    """Makes `folder` what a package with these entry points leaves on the path."""
    information = folder / "edgeward_drill-1.0.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: edgeward-drill\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(ENTRY_POINTS)
