"""The agent's jobs: board and runner together, opened when the first job comes or when an earlier run left a board."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.errors import StorageError
from runtime.serving.service import InferenceService

if TYPE_CHECKING:
    from edge_agent.jobs.board import Job, JobBoard
    from edge_agent.jobs.runner import JobRunner

log = logging.getLogger(__name__)


class Jobs:
    """Made on the service's event loop; every other method blocks, and is called on other threads. Files lie in `folders`."""

    def __init__(self, file: Path, service: InferenceService, engine: Any, folders: Sequence[Path]) -> None:
        self._file = file
        self._service = service
        self._engine = engine
        self._folders = folders
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._board: JobBoard | None = None
        self._runner: JobRunner | None = None
        self._is_ending = threading.Event()
        self._is_closed = False

    def start(self) -> None:
        """Goes on with what an earlier run left; a board that cannot be opened is said and tried again, beside the answers."""
        if self._file.exists():
            try:
                self._open()
            except StorageError as error:
                log.error("the jobs of %s cannot be read, so they wait: %s", self._file, error)
                threading.Thread(target=self._open_later, name="edgeward-jobs-open", daemon=True).start()

    def submit(self, model: str, source: Path, output: Path, route: str) -> Job:
        """A new job, which waits for those before it."""
        board, runner = self._open()
        job = board.add(model, source, output, route)
        runner.tell()
        return job

    def list(self) -> list[Job]:
        """All jobs, oldest first."""
        return [] if not self._file.exists() else self._open()[0].jobs()

    def find(self, number: int) -> Job | None:
        """One job."""
        return None if not self._file.exists() else self._open()[0].find(number)

    def cancel(self, number: int) -> bool:
        """Ends a job; False where it had ended, or never was."""
        return self._file.exists() and self._open()[1].cancel(number)

    def describe(self) -> dict[str, int | str]:
        """How many jobs are in each state; under "error" why that cannot be told."""
        try:
            known = self.list()
        except StorageError as error:
            return {"error": str(error)}
        return dict(Counter(job.state.value for job in known))

    def interrupt(self) -> None:
        """Begins no further batch; quick, from any thread."""
        self._is_ending.set()
        runner = self._runner
        if runner is not None:
            runner.interrupt()

    def close(self) -> None:
        """Ends the runner, which may withdraw a batch, and closes the board."""
        self._is_ending.set()
        with self._lock:
            self._is_closed = True
            if self._runner is not None:
                self._runner.stop()
            if self._board is not None:
                self._board.close()

    def _open_later(self) -> None:
        from edge_agent.jobs.runner import LOOK_EVERY_S

        while not self._is_ending.wait(LOOK_EVERY_S):
            try:
                self._open()
            except StorageError as error:
                log.debug("the jobs of %s still cannot be read: %s", self._file, error)
            else:
                log.info("the jobs of %s can be read again, and go on", self._file)
                return

    def _open(self) -> tuple[JobBoard, JobRunner]:
        from edge_agent.jobs.board import JobBoard
        from edge_agent.jobs.runner import JobRunner

        with self._lock:
            if self._is_closed:
                raise StorageError(f"the jobs of {self._file} are closed: the agent ends; ask when it is back")
            if self._board is None or self._runner is None:
                self._board = JobBoard(self._file)
                self._runner = JobRunner(self._board, self._service, self._engine, self._loop, self._folders)
                self._runner.start()
            return self._board, self._runner
