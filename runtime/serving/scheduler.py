"""The queue before one model version: admission, deadlines, batches, and the one crossing from asyncio to blocking engines.

A request waits here until `runtime.batching.cut` says which requests run together. A batch that measured faster than a hop to
another thread runs on the event loop itself; a slower one on a worker thread, and what arrives meanwhile forms the next batch.
Where several run at the same time they begin in order, by priority and arrival; which of them ends first is the engine's affair.
All methods are called on the event loop.
"""

from __future__ import annotations

import asyncio
import logging
import time
from bisect import insort
from collections.abc import Callable, Hashable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Protocol

from runtime.batching.contention import Contention
from runtime.batching.cut import BatchPolicy, cut
from runtime.batching.patience import Patience
from runtime.batching.wait import starts_in_s
from runtime.errors import BackendUnavailableError, DeadlineExceededError, EdgewardError, OverloadedError
from runtime.serving.execution import Answers, BatchRunner, Predict, as_ours
from runtime.serving.limits import QueueLimits
from runtime.serving.statistics import MAX_PENDING, Statistics, Took
from runtime.serving.timing import Timing
from runtime.tensors import Array

log = logging.getLogger(__name__)

# A hop to a worker thread and back costs about 0.2 ms of the loop's time: below a few times that, running inline is faster for
# everybody, eight rows of the digits among it (own measurement, 2-core x86-64 VM, November 2026).
INLINE_LIMIT_S = 0.001
# Turns of a busy loop take long, but it is busy with requests that are on their way: no batch waits longer for them than this. Over
# grpcio a request takes the loop 0.2 ms before it gets here, so that of 32 at once a millisecond let no more than a few meet.
GATHER_LIMIT_S = 0.005
# The same where a request has a deadline, or needs a batch of its own.
URGENT_GATHER_LIMIT_S = 0.001
# Admission: enough for a second of a fast model, little enough that memory is bounded.


Answer = Callable[[dict[str, Array] | None, EdgewardError | None], None]
"""Told once what a request came to: the outputs of its rows, or the error."""


@dataclass(slots=True, eq=False)
class Asked:
    """One request in the queue or in its batch; what `cut` looks at is by its names (`batching.cut.Waiting`)."""

    inputs: Mapping[str, Array]
    key: Hashable
    rows: int
    arrived: float
    deadline: float | None
    size_bytes: int
    order: tuple[int, int]
    answer: Answer
    timing: Timing | None
    timer: asyncio.TimerHandle | None = None
    is_over: bool = False
    """Answered, expired or withdrawn: nothing more is said to `answer`."""


class Hold(Protocol):
    """The use of a model by a batch on a worker thread: it outlasts requests that nobody waits for any more."""

    def again(self) -> None:
        """Begins beside the use of a request of the batch."""

    def end(self) -> None:
        """Ends it."""


class Scheduler:
    """Runs requests of one model version in batches.

    `predict` is the model's blocking call, safe from any thread; `cost_s(rows)` its measured seconds. `predict_at_once` is the
    same for the event loop: where it would take much longer than that it raises `BackendUnavailableError`, and `predict` is
    called on a worker thread.
    """

    def __init__(
        self,
        name: str,
        predict: Predict,
        cost_s: Callable[[int], float],
        policy: BatchPolicy,
        executor: Executor,
        limits: QueueLimits = QueueLimits(),
        predict_at_once: Predict | None = None,
        hold: Hold | None = None,
    ) -> None:
        self.statistics = Statistics()
        self._name = name
        self._runner = BatchRunner(name)
        self._predict = predict
        self._predict_at_once = predict_at_once or predict
        self._hold = hold
        self._cost_s = cost_s
        self._policy = policy
        self._executor = executor
        self._limits = limits
        self._max_running = 1
        self._contention = Contention()
        self._loop = asyncio.get_running_loop()
        self._queue: list[Asked] = []
        self._is_uniform = True
        """Whether all that waits has one key and no deadline."""
        self._queued_rows = 0
        self._queued_bytes = 0
        self._running_until: list[float] = []
        self._is_flush_due = False
        self._has_withdrawn = False
        self._timer: asyncio.TimerHandle | None = None
        self._arrivals = 0
        self._patience = Patience()
        self._idle: asyncio.Event | None = None
        """Made by who drains: every request would pay for it otherwise."""

    @property
    def waiting(self) -> tuple[int, int, int]:
        """Rows, bytes and requests in the queue."""
        return self._queued_rows, self._queued_bytes, len(self._queue)

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits and nothing runs."""
        return not self._queue and not self._running_until

    def wait_s(self, rows: int) -> float:
        """Predicted seconds until a request of `rows` rows that arrives now is answered: what runs, what waits, and itself."""
        starts_s, factor = self._turn()
        return starts_s + self._cost_s(rows) * factor

    async def run(
        self,
        inputs: Mapping[str, Array],
        rows: int,
        key: Hashable,
        deadline: float | None = None,
        priority: int = 0,
        timing: Timing | None = None,
    ) -> dict[str, Array]:
        """`ask`, awaited. Cancelling withdraws the request, before it runs if it still waits."""
        future: asyncio.Future[dict[str, Array]] = self._loop.create_future()

        def answer(outputs: dict[str, Array] | None, error: EdgewardError | None) -> None:
            if future.cancelled():
                return
            if error is not None:
                future.set_exception(error)
            else:
                assert outputs is not None, "an answer is one or the other"
                future.set_result(outputs)

        asked = self.ask(inputs, rows, key, answer, deadline, priority, timing)
        try:
            return await future
        except asyncio.CancelledError:
            self.withdraw(asked)
            raise

    def ask(
        self,
        inputs: Mapping[str, Array],
        rows: int,
        key: Hashable,
        answer: Answer,
        deadline: float | None = None,
        priority: int = 0,
        timing: Timing | None = None,
    ) -> Asked:
        """Queues a request; `answer` is told once, on the event loop and after this has returned. `timing` is filled in before.

        `OverloadedError` at once when the queue is full; `DeadlineExceededError`, here or to `answer`, when `deadline` passes or
        cannot be met.
        """
        size_bytes = sum([value.nbytes for value in inputs.values()])
        if self._queue or deadline is not None:  # an empty queue takes any request that has time
            self._admit(rows, size_bytes, deadline)
        self._arrivals += 1
        asked = Asked(
            inputs, key, rows, time.monotonic(), deadline, size_bytes, (priority, self._arrivals), answer, timing
        )
        queue = self._queue
        if not queue:
            self._is_uniform = deadline is None
        elif deadline is not None or key != queue[-1].key:
            self._is_uniform = False
        if queue and priority < queue[-1].order[0]:
            insort(queue, asked, key=lambda queued: queued.order)
        else:
            queue.append(asked)
        self._queued_rows += rows
        self._queued_bytes += size_bytes
        self._flush_soon()
        if deadline is not None:
            asked.timer = self._loop.call_later(deadline - asked.arrived, self._expire, asked)
        return asked

    def withdraw(self, asked: Asked) -> None:
        """Nobody waits for that request any more: it leaves the queue, and its `answer` is told nothing. Twice is fine."""
        if not asked.is_over:
            self.statistics.cancelled += 1
            self._end(asked)
            self._leave_soon()

    def follow(self, policy: BatchPolicy, max_running: int, executor: Executor) -> None:
        """Gathers batches by another policy from now on, and runs `max_running` at the same time on threads of `executor`."""
        self._policy = policy
        self._max_running = max_running
        self._executor = executor
        self._flush_soon()

    async def drain(self) -> None:
        """Returns once nothing waits and nothing runs."""
        while not self.is_idle:
            self._idle = self._idle or asyncio.Event()
            await self._idle.wait()

    def _turn(self) -> tuple[float, float]:
        """Seconds until a request that arrives now would start, and how much longer batches take for running beside others."""
        now = time.monotonic()
        busy = [until - now for until in self._running_until]
        full, rest = divmod(self._queued_rows, max(self._policy.max_rows, 1))
        slots = max(self._max_running, len(busy))
        factor = self._contention.factor(min(slots, len(busy) + full + (rest > 0) + 1))
        full_s = self._cost_s(self._policy.max_rows) * factor if full else 0.0
        rest_s = self._cost_s(rest) * factor if rest else 0.0
        return starts_in_s(busy, slots, full, full_s, rest_s), factor

    def _admit(self, rows: int, size_bytes: int, deadline: float | None) -> None:
        full = None
        if self._queue and self._queued_rows + rows > self._limits.max_rows:
            full = f"{self._queued_rows} rows wait already, at most {self._limits.max_rows} may"
        elif self._queue and self._queued_bytes + size_bytes > self._limits.max_bytes:
            full = f"{self._queued_bytes} bytes wait already, at most {self._limits.max_bytes} may"
        elif deadline is not None:
            left = deadline - time.monotonic()
            if left <= 0:
                self.statistics.expired += 1
                raise DeadlineExceededError(
                    f"the deadline passed {-left * 1000:.1f} ms before model {self._name!r} got the request; allow more time"
                )
            needed = self.wait_s(rows)
            if needed > left:
                full = f"an answer would take about {needed * 1000:.1f} ms, the deadline leaves {left * 1000:.1f} ms"
        if full is not None:
            self.statistics.rejected += 1
            raise OverloadedError(
                f"model {self._name!r} cannot take the request: {full}; retry later or elsewhere",
                max(self._turn()[0], 0.05),
            )

    def _flush_soon(self) -> None:
        if not self._is_flush_due:
            self._is_flush_due = True
            self._loop.call_soon(self._gather, 0)

    def _gather(self, turns: int) -> None:
        """Lets what is on its way arrive, for some turns of the loop, then flushes; see `Patience`."""
        waiting, most_rows = len(self._queue), self._policy.max_rows
        if waiting and most_rows > 1 and not self._is_busy():
            if self._queued_rows < most_rows and not self._patience.is_enough(waiting, turns) and self._is_young():
                self._loop.call_soon(self._gather, turns + 1)
                return
            self._patience.learn(waiting)
        self._flush()

    def _is_busy(self) -> bool:
        return len(self._running_until) >= self._max_running

    def _is_young(self) -> bool:
        limit_s = GATHER_LIMIT_S if self._is_uniform else URGENT_GATHER_LIMIT_S
        return time.monotonic() - self._queue[0].arrived < limit_s

    def _flush(self) -> None:
        """Cuts and starts the next batch; comes back by itself while requests wait."""
        self._is_flush_due = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._sweep()
        if self._is_busy():
            return
        now = time.monotonic()
        if not self._runner.keeps_rows_apart:
            self._policy = BatchPolicy()
        if self._is_all_one_batch():
            self._start(self._take_all(), now)
            return
        decision = cut(self._queue, now, self._policy, self._cost_s)
        for index in decision.expired:
            self._expire(self._queue[index])
        taken = [self._queue[index] for index in decision.take]
        self._leave_queue({*decision.take, *decision.expired})
        if taken:
            self._start(taken, now)
            if self._queue:
                self._flush_soon()
        elif decision.wait_until is not None:
            self._timer = self._loop.call_later(max(decision.wait_until - now, 0.0), self._flush_soon)
        self._note_idle()

    def _is_all_one_batch(self) -> bool:
        """Whether `cut` would take all that waits, and nothing of it could expire: asked first, at a fraction of its price."""
        policy, waiting = self._policy, len(self._queue)
        if not waiting or not self._is_uniform or policy.max_delay_s > 0:
            return False
        return waiting == 1 or self._queued_rows <= policy.max_rows

    def _sweep(self) -> None:
        """Takes requests that were answered or cancelled while they waited out of the queue."""
        if self._has_withdrawn:
            self._has_withdrawn = False
            self._leave_queue({index for index, item in enumerate(self._queue) if item.is_over})

    def _take_all(self) -> list[Asked]:
        items, self._queue = self._queue, []
        self._queued_rows = self._queued_bytes = 0
        return items

    def _leave_queue(self, indices: set[int]) -> None:
        for index in indices:
            self._queued_rows -= self._queue[index].rows
            self._queued_bytes -= self._queue[index].size_bytes
        if len(indices) == len(self._queue):
            self._queue = []
        elif indices:
            self._queue = [item for index, item in enumerate(self._queue) if index not in indices]

    def _expire(self, item: Asked) -> None:
        """Ends a request whose deadline passed or cannot be met; if it waits, it leaves the queue at the next flush."""
        if not item.is_over:
            waited_s = time.monotonic() - item.arrived
            self.statistics.expired += 1
            self.statistics.failed_ns += int(waited_s * 1e9)
            late = DeadlineExceededError(
                f"model {self._name!r} could not answer within the deadline; the request waited {waited_s * 1e3:.1f} ms"
            )
            self._tell(item, None, late)
            self._leave_soon()

    def _tell(self, item: Asked, outputs: dict[str, Array] | None, error: EdgewardError | None) -> None:
        """The last word on a request. Whatever the one who hears it does wrong, the others of its batch get theirs."""
        self._end(item)
        try:
            item.answer(outputs, error)
        except Exception:
            log.exception("model %s: an answer could not be handed over", self._name)

    def _end(self, item: Asked) -> None:
        item.is_over = True
        if item.timer is not None:
            item.timer.cancel()

    def _leave_soon(self) -> None:
        self._has_withdrawn = True
        self._flush_soon()

    def _start(self, items: list[Asked], now: float) -> None:
        inputs, rows = [item.inputs for item in items], [item.rows for item in items]
        cost_s = self._cost_s(sum(rows))
        if cost_s <= INLINE_LIMIT_S:
            try:
                answers, took = self._runner.run(self._predict_at_once, inputs, rows)
            except BackendUnavailableError:  # its device is gone: to open what takes over takes seconds
                log.info("model %s: a batch leaves the event loop, for something else has to take over", self._name)
            except Exception as error:  # whatever it is, nobody may wait for ever
                self._finish(items, [error] * len(items), (0, 0, 0))
                return
            else:
                self._finish(items, answers, took)
                return
        running = len(self._running_until) + 1
        until = now + cost_s * self._contention.factor(running)
        try:
            job = self._loop.run_in_executor(self._executor, self._runner.run, self._predict, inputs, rows)
        except RuntimeError as error:  # the threads were shut down while this waited
            self._finish(items, [error] * len(items), (0, 0, 0))
            return
        self._running_until.append(until)
        if self._hold is not None:
            self._hold.again()
        job.add_done_callback(lambda done: self._on_worker_done(items, until, running, cost_s, done))

    def _on_worker_done(
        self,
        items: list[Asked],
        until: float,
        running: int,
        cost_s: float,
        done: asyncio.Future[tuple[Answers, Took]],
    ) -> None:
        self._running_until.remove(until)
        if (error := done.exception()) is not None:
            self._finish(items, [error] * len(items), (0, 0, 0))
        else:
            answers, took = done.result()
            self._contention.learn(running, took[1] / 1e9, cost_s)
            self._finish(items, answers, took)
        if self._hold is not None:
            self._hold.end()
        self._flush_soon()

    def _finish(self, items: list[Asked], answers: Answers, took: Took) -> None:
        totals, now = self.statistics, time.monotonic()
        took_ns = took[0] + took[1] + took[2]
        rows = sum([item.rows for item in items])
        totals.count_batch(rows, took)
        latencies, batch_ns = totals.latencies, took[0] + took[2]
        answered = answered_rows = all_request_ns = all_queue_ns = 0
        for item, answer in zip(items, answers, strict=True):
            if item.is_over:
                continue  # expired or withdrawn while it ran, and counted as that
            request_ns = int((now - item.arrived) * 1e9)
            if isinstance(answer, BaseException):
                totals.failures += 1
                totals.failed_ns += request_ns
                self._tell(item, None, as_ours(self._name, answer))
                continue
            queue_ns = request_ns - took_ns if request_ns > took_ns else 0
            answered += 1
            answered_rows += item.rows
            all_request_ns += request_ns
            all_queue_ns += queue_ns
            if latencies is not None:
                latencies.pending.append((request_ns, queue_ns, batch_ns, took[1]))
            if (timing := item.timing) is not None:
                timing.queue_ns, timing.batch_ns = queue_ns, batch_ns
                timing.execute_ns, timing.batch_rows = took[1], rows
            self._tell(item, answer, None)
        totals.count_answers(answered, answered_rows, all_request_ns, all_queue_ns, took)
        if latencies is not None:
            latencies.pending_rows.append(rows)
            if len(latencies.pending) >= MAX_PENDING or len(latencies.pending_rows) >= MAX_PENDING:
                latencies.sorted_in()
        # An error leads by its traceback to the frames that hold this list: it goes with its request, and is left to no collector.
        answers.clear()
        self._note_idle()

    def _note_idle(self) -> None:
        if self._idle is not None and self.is_idle:
            self._idle.set()
            self._idle = None
