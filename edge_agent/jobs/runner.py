"""Runs the jobs of the board, one after another, on a thread of its own; their rows go through the agent like any request.

So routing, fallback and the queue's order hold for them too: they ask with the lowest priority, a batch at a time.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import CancelledError as FutureCancelledError
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Final, TypeVar

from edge_agent.jobs.board import Job, JobBoard, JobState
from edge_agent.jobs.folders import inside
from runtime.batch_job.job import BatchJob, Progress, run_batch
from runtime.batch_job.predictor import REMOTE_ROWS, fixed_rows, patiently, with_ranges
from runtime.engine.before_exit import end_before_exit
from runtime.errors import CancelledError, EdgewardError, ModelNotFoundError, StorageError
from runtime.row_files.block import InputSpec
from runtime.serving.service import InferenceService
from runtime.tensors import Array
from runtime.wire.values import InferenceRequest, Parameters

log = logging.getLogger(__name__)

T = TypeVar("T")

# Behind every request that names a priority, and behind those that name none.
LOWEST_PRIORITY: Final = (1 << 32) - 1
BATCH_TIMEOUT_S: Final = 60.0
# What a stop of the agent waits for the batch under way, and for the job's thread after that.
ANSWERED_WITHIN_S: Final = 3.0
END_WITHIN_S: Final = 3.0
# How often progress is written down.
NOTE_EVERY_S: Final = 1.0
# How often an idle runner looks: it is also told.
LOOK_EVERY_S: Final = 30.0


class Calls:
    """What the runner's thread has done on the event loop; `cut` ends the call under way, and every later one."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._lock = threading.Lock()
        self._under_way: Future[Any] | None = None
        self._is_cut = False

    def result(self, coroutine: Coroutine[Any, Any, T], timeout_s: float | None = None) -> T:
        """What it returns or raises; `CancelledError` where it is cut off."""
        with self._lock:
            if self._is_cut:
                coroutine.close()
                raise _ends()
            future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
            self._under_way = future
        try:
            return future.result(timeout_s)
        except (FutureCancelledError, asyncio.CancelledError):
            raise _ends() from None
        finally:
            self._under_way = None

    def cut(self) -> None:
        """From any thread."""
        with self._lock:
            self._is_cut = True
            if self._under_way is not None:
                self._under_way.cancel()


def _ends() -> CancelledError:
    return CancelledError("the agent ends; the job goes on when it is back")


class ServicePredictor:
    """A model behind a service on another thread's event loop: a `runtime.batch_job.predictor.Predictor`."""

    def __init__(
        self,
        service: InferenceService,
        calls: Calls,
        model: str,
        route: str,
        bundle: Any,
        stopping: threading.Event,
    ) -> None:
        description = calls.result(service.describe_model(model, ""), BATCH_TIMEOUT_S)
        self.name = model
        self.version: str = description.versions[-1]
        self.serving = f"agent, route {route}"
        # Of a job that may go to the cloud only model and version say what its answers depend on.
        backend = (
            "" if bundle is None or route != "edge" else f"{bundle.digest} {description.parameters.get('backend')}"
        )
        self.identity = f"{model} {self.version} {route} {backend}"
        self.inputs: tuple[InputSpec, ...] = with_ranges(description.inputs, bundle)
        most = description.max_batch_size or 1
        self.batch_rows: int = fixed_rows(description.inputs) or min(REMOTE_ROWS, most)
        self._service = service
        self._calls = calls
        self._parameters: Parameters = {"route": route, "priority": LOWEST_PRIORITY}
        self._stopping = stopping

    def predict(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The agent's answer."""
        return patiently(lambda: self._ask(inputs), pause=self._pause)

    def _ask(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        deadline = time.monotonic() + BATCH_TIMEOUT_S
        request = InferenceRequest(self.name, inputs, self.version, parameters=self._parameters, deadline=deadline)
        response = self._calls.result(self._service.infer(request))
        return dict(response.outputs)

    def _pause(self, seconds: float) -> None:
        if self._stopping.wait(seconds):
            raise _ends()


class JobRunner:
    """One thread. Started on the service's event loop; `stop` from any thread that is not that loop's."""

    def __init__(
        self,
        board: JobBoard,
        service: InferenceService,
        engine: Any,
        loop: asyncio.AbstractEventLoop,
        folders: Sequence[Path],
    ) -> None:
        self._board = board
        self._service = service
        self._engine = engine
        self._calls = Calls(loop)
        self._folders = tuple(folders)
        self._stopping = threading.Event()
        self._news = threading.Event()
        self._cancelled: set[int] = set()
        self._thread = threading.Thread(target=self._run, name="edgeward-jobs", daemon=True)

    def start(self) -> None:
        """Begins with what waits."""
        self._thread.start()
        end_before_exit(self._end_at_once)

    def tell(self) -> None:
        """That there is a new job."""
        self._news.set()

    def cancel(self, number: int) -> bool:
        """Ends a job, between two batches where it runs; False where it had ended."""
        is_cancelled = self._board.end(number, JobState.CANCELLED)
        if is_cancelled:  # a number that no job has yet is not remembered against the one that will have it
            self._cancelled.add(number)
        return is_cancelled

    def interrupt(self) -> None:
        """Begins no further batch; the agent is about to end."""
        self._stopping.set()
        self._news.set()

    def stop(self) -> None:
        """Ends the thread, between two batches where the one under way is soon answered, else by withdrawing it.

        The job goes on at the next start, at worst from its last checkpoint: whatever it is cut off in may be killed, too.
        """
        self.interrupt()
        self._thread.join(ANSWERED_WITHIN_S)
        if self._thread.is_alive():
            log.warning("the batch of a job is withdrawn after %g s; the next start asks again", ANSWERED_WITHIN_S)
            self._end_at_once()

    def _end_at_once(self) -> None:
        """Withdraws the batch under way: also where no loop is left that would answer it."""
        self.interrupt()
        self._calls.cut()
        self._thread.join(END_WITHIN_S)
        if self._thread.is_alive():
            log.warning("the job that runs is left as it is; the next start goes on from its last checkpoint")

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                job = self._board.take()
            except StorageError as error:
                log.error("jobs cannot be read: %s", error)
                job = None
            if job is None:
                self._news.wait(LOOK_EVERY_S)
                self._news.clear()
                continue
            try:
                self._work(job)
            except Exception:  # the outermost loop: the next job must not suffer
                log.exception("job %d failed in an unforeseen way", job.id)
                self._end(job, JobState.FAILED, "the agent failed in a way it did not expect; its log says more")

    def _work(self, job: Job) -> None:
        log.info("job %d: %s through %s", job.id, job.input, job.model)
        noted_at = 0.0

        def on_progress(stand: Progress) -> None:
            nonlocal noted_at
            if time.monotonic() - noted_at >= NOTE_EVERY_S:
                self._board.note(job.id, stand.rows_done, stand.rows_total, stand.rows_unreadable)
                noted_at = time.monotonic()

        try:
            # Again: whoever may write there had all the time that the job waited to put a link in a file's place.
            source, output = inside(job.input, self._folders, "input"), inside(job.output, self._folders, "output")
            predictor = ServicePredictor(
                self._service, self._calls, job.model, job.route, self._bundle(job.model), self._stopping
            )
            done = run_batch(
                BatchJob(source, output, within=self._folders),
                predictor,
                on_progress,
                lambda: self._stopping.is_set() or job.id in self._cancelled,
            )
            if done.non_finite or done.out_of_range:
                log.warning(
                    "job %d: answered all the same: %d rows with NaN or infinity, %d outside the declared range; %s",
                    job.id,
                    done.non_finite,
                    done.out_of_range,
                    done.first_out_of_range or f"which: {done.errors_file}",
                )
            total = done.rows + done.unreadable
            self._board.note(job.id, total, total, done.unreadable)
            self._end(job, JobState.DONE, None)
        except EdgewardError as error:
            if self._stopping.is_set():
                self._board.requeue(job.id)
            elif job.id not in self._cancelled:
                log.warning("job %d failed: %s", job.id, error)
                self._end(job, JobState.FAILED, str(error))

    def _bundle(self, model: str) -> Any:
        try:
            return self._engine.model(model).bundle
        except ModelNotFoundError:
            return None

    def _end(self, job: Job, state: JobState, error: str | None) -> None:
        try:
            self._board.end(job.id, state, error)
        except StorageError as again:
            log.error("the end of job %d cannot be written down: %s", job.id, again)
