"""The queue before a model: right rows to the right caller, deadlines, overload, cancellation, drain."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest

from runtime.batching.cut import BatchPolicy
from runtime.errors import DeadlineExceededError, ExecutionError, OverloadedError
from runtime.serving.limits import QueueLimits
from runtime.serving.scheduler import Scheduler
from runtime.serving.timing import Timing
from runtime.tensors import Array

# A cost above the scheduler's limit for running inline, yet small beside every deadline here.
ON_A_WORKER_S = 0.002


@pytest.fixture
def workers() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


class Doubler:
    """A model that doubles its rows and remembers how many came at a time; it can be held up and made to fail."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.threads: set[int] = set()
        self.gate = threading.Event()
        self.gate.set()
        self.poison: float | None = None

    def __call__(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        assert self.gate.wait(10)
        x = inputs["x"]
        self.batches.append(len(x))
        self.threads.add(threading.get_ident())
        if self.poison is not None and (x == self.poison).any():
            raise ExecutionError("a poisoned row")
        return {"y": x * 2}


def scheduler(
    model: Callable[[Mapping[str, Array]], dict[str, Array]],
    workers: ThreadPoolExecutor,
    cost_s: float = 0.0,
    policy: BatchPolicy = BatchPolicy(max_rows=8),  # noqa: B008
    limits: QueueLimits = QueueLimits(),
) -> Scheduler:
    return Scheduler("doubler", model, lambda rows: cost_s, policy, workers, limits)


async def ask(queue: Scheduler, value: float, rows: int = 1, **more: object) -> Array:
    outputs = await queue.run({"x": np.full((rows, 2), value, np.float32)}, rows, None, **more)  # type: ignore[arg-type]
    return outputs["y"]


@pytest.mark.parametrize("cost_s", [0.0, 10.0], ids=["inline", "on a worker"])
async def test_every_caller_gets_its_own_rows(workers: ThreadPoolExecutor, cost_s: float) -> None:
    model = Doubler()
    queue = scheduler(model, workers, cost_s)
    answers = await asyncio.gather(*(ask(queue, i, rows=i % 3 + 1) for i in range(50)))
    for i, answer in enumerate(answers):
        np.testing.assert_array_equal(answer, np.full((i % 3 + 1, 2), 2 * i, np.float32))
    assert sum(model.batches) == sum(i % 3 + 1 for i in range(50))
    assert max(model.batches) <= 8
    assert len(model.batches) < 50, "requests that wait together run together"


async def test_a_fast_model_runs_on_the_loop_and_a_slow_one_does_not(workers: ThreadPoolExecutor) -> None:
    fast, slow = Doubler(), Doubler()
    await ask(scheduler(fast, workers, 0.0), 1)
    await ask(scheduler(slow, workers, 1.0), 1)
    assert fast.threads == {threading.get_ident()}
    assert threading.get_ident() not in slow.threads


async def test_only_the_culprit_of_a_batch_fails(workers: ThreadPoolExecutor) -> None:
    model = Doubler()
    model.poison = 3.0
    queue = scheduler(model, workers)
    answers = await asyncio.gather(*(ask(queue, i) for i in range(6)), return_exceptions=True)
    assert [isinstance(answer, ExecutionError) for answer in answers] == [i == 3 for i in range(6)]
    assert queue.statistics.failures == 1
    assert queue.statistics.requests == 5


async def test_an_unforeseen_exception_becomes_an_execution_error_with_its_cause(workers: ThreadPoolExecutor) -> None:
    def broken(inputs: Mapping[str, Array]) -> dict[str, Array]:
        raise ZeroDivisionError

    with pytest.raises(ExecutionError, match="ZeroDivisionError") as caught:
        await ask(scheduler(broken, workers), 1)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


async def test_a_model_that_mixes_rows_up_is_run_one_by_one(workers: ThreadPoolExecutor) -> None:
    def total(inputs: Mapping[str, Array]) -> dict[str, Array]:
        return {"y": inputs["x"].sum(axis=0, keepdims=True)}

    queue = scheduler(total, workers)
    answers = await asyncio.gather(*(ask(queue, i) for i in range(4)))
    assert [float(answer[0, 0]) for answer in answers] == [0, 1, 2, 3]


async def test_what_the_queue_cannot_answer_in_time_is_refused_at_once(workers: ThreadPoolExecutor) -> None:
    queue = scheduler(Doubler(), workers, cost_s=500)
    with pytest.raises(OverloadedError, match="deadline leaves"):
        await ask(queue, 1, deadline=time.monotonic() + 100)
    with pytest.raises(DeadlineExceededError, match="passed"):
        await ask(queue, 1, deadline=time.monotonic() - 1)
    assert queue.statistics.executions == 0


async def test_a_full_queue_refuses_and_says_when_to_come_back(workers: ThreadPoolExecutor) -> None:
    model = Doubler()
    model.gate.clear()
    queue = scheduler(model, workers, cost_s=ON_A_WORKER_S, policy=BatchPolicy(1), limits=QueueLimits(max_rows=2))
    first = [asyncio.ensure_future(ask(queue, i)) for i in range(3)]
    await _until(lambda: len(queue._running_until) == 1)
    late = [asyncio.ensure_future(ask(queue, 9))]
    await asyncio.sleep(0)
    with pytest.raises(OverloadedError, match="2 rows wait already|3 rows wait already"):
        await ask(queue, 10)
    model.gate.set()
    await asyncio.gather(*first, *late, return_exceptions=True)
    assert queue.statistics.rejected >= 1


async def test_a_deadline_that_passes_while_waiting_ends_the_request_unrun(workers: ThreadPoolExecutor) -> None:
    model = Doubler()
    model.gate.clear()
    queue = scheduler(model, workers, cost_s=ON_A_WORKER_S, policy=BatchPolicy(1))
    running = asyncio.ensure_future(ask(queue, 1))
    await _until(lambda: len(queue._running_until) == 1)
    with pytest.raises(DeadlineExceededError, match="waited"):
        await ask(queue, 2, deadline=time.monotonic() + 0.5)
    model.gate.set()
    await running
    await queue.drain()
    assert model.batches == [1], "the expired request never reached the model"


async def test_a_cancelled_request_never_reaches_the_model(workers: ThreadPoolExecutor) -> None:
    model = Doubler()
    model.gate.clear()
    queue = scheduler(model, workers, cost_s=ON_A_WORKER_S, policy=BatchPolicy(1))
    running = asyncio.ensure_future(ask(queue, 1))
    await _until(lambda: len(queue._running_until) == 1)
    gone = asyncio.ensure_future(ask(queue, 2))
    await asyncio.sleep(0)
    gone.cancel()
    model.gate.set()
    await running
    await queue.drain()
    assert model.batches == [1]
    assert queue._queued_rows == 0
    assert queue._queued_bytes == 0


async def test_priority_goes_first_and_equals_keep_their_order(workers: ThreadPoolExecutor) -> None:
    order: list[float] = []
    gate = threading.Event()

    def record(inputs: Mapping[str, Array]) -> dict[str, Array]:
        assert gate.wait(10)
        order.append(float(inputs["x"][0, 0]))
        return {"y": inputs["x"]}

    queue = scheduler(record, workers, cost_s=ON_A_WORKER_S, policy=BatchPolicy(1))
    asked = [
        asyncio.ensure_future(ask(queue, value, priority=priority))
        for value, priority in [(0, 5), (1, 5), (2, 1), (3, 5), (4, 1)]
    ]
    await asyncio.sleep(0)
    gate.set()
    await asyncio.gather(*asked)
    assert order in ([2, 4, 0, 1, 3], [0, 2, 4, 1, 3]), "the first may have started before the others came"


async def test_drain_returns_when_everything_accepted_is_answered(workers: ThreadPoolExecutor) -> None:
    model = Doubler()
    model.gate.clear()
    queue = scheduler(model, workers, cost_s=ON_A_WORKER_S, policy=BatchPolicy(1))
    asked = [asyncio.ensure_future(ask(queue, i)) for i in range(5)]
    await asyncio.sleep(0)
    draining = asyncio.ensure_future(queue.drain())
    await asyncio.sleep(0)
    assert not draining.done()
    model.gate.set()
    await asyncio.wait_for(draining, 10)
    assert len(await asyncio.gather(*asked)) == 5


async def test_the_predicted_wait_grows_with_the_queue(workers: ThreadPoolExecutor) -> None:
    model = Doubler()
    model.gate.clear()
    queue = scheduler(model, workers, cost_s=100, policy=BatchPolicy(1))
    idle = queue.wait_s(1)
    asked = [asyncio.ensure_future(ask(queue, i)) for i in range(5)]
    await asyncio.sleep(0)
    busy = queue.wait_s(1)
    assert idle == pytest.approx(100)
    assert busy > 4 * idle
    model.gate.set()
    await asyncio.gather(*asked)


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110  (the scheduler has no event for it)
            await asyncio.sleep(0.001)


@pytest.mark.parametrize("cost_s", [0.0, 10.0], ids=["inline", "on a worker"])
async def test_who_asks_is_told_where_the_time_went(workers: ThreadPoolExecutor, cost_s: float) -> None:
    model = Doubler()
    queue = scheduler(model, workers, cost_s)
    times = [Timing() for _ in range(4)]
    began = time.perf_counter_ns()
    await asyncio.gather(*(ask(queue, i, rows=2, timing=timing) for i, timing in enumerate(times)))
    took_ns = time.perf_counter_ns() - began
    assert {timing.batch_rows for timing in times} == {8}
    for timing in times:
        assert timing.execute_ns > 0
        assert timing.batch_ns > 0
        assert 0 < timing.queue_ns + timing.batch_ns + timing.execute_ns <= took_ns


async def test_a_request_that_failed_has_no_times(workers: ThreadPoolExecutor) -> None:
    model = Doubler()
    model.poison = 1
    timing = Timing()
    with pytest.raises(ExecutionError):
        await ask(scheduler(model, workers), 1, timing=timing)
    assert timing == Timing()


async def test_a_batch_whose_threads_were_shut_down_is_told_and_drain_ends() -> None:
    workers = ThreadPoolExecutor(1)
    queue = scheduler(Doubler(), workers, cost_s=ON_A_WORKER_S)
    workers.shutdown()
    with pytest.raises(ExecutionError):
        await queue.run({"x": np.zeros((1, 2), np.float32)}, 1, None)
    await asyncio.wait_for(queue.drain(), 5)


async def test_a_model_stays_in_use_while_a_batch_runs_that_nobody_waits_for(workers: ThreadPoolExecutor) -> None:
    begun, gate, uses = threading.Event(), threading.Event(), [0]

    class Held:
        def again(self) -> None:
            uses[0] += 1

        def end(self) -> None:
            uses[0] -= 1

    def run(inputs: Mapping[str, Array]) -> dict[str, Array]:
        begun.set()
        assert gate.wait(10)
        return {"y": inputs["x"]}

    queue = Scheduler("m", run, lambda rows: ON_A_WORKER_S, BatchPolicy(), workers, hold=Held())
    asking = asyncio.create_task(ask(queue, 1.0))
    await asyncio.to_thread(begun.wait, 10)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert uses == [1], "its client has left, its batch runs on"
    gate.set()
    await asyncio.wait_for(queue.drain(), 10)
    assert uses == [0]


@pytest.mark.parametrize(
    ("deadline", "batches"), [(None, [3, 3]), (100.0, [3, 2, 1])], ids=["in no hurry", "in a hurry"]
)
async def test_those_who_came_together_last_time_are_waited_for_while_the_loop_is_busy(
    workers: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch, deadline: float | None, batches: list[int]
) -> None:
    """Each turn takes two milliseconds, and brings one of the three."""
    now = 0.0
    monkeypatch.setattr("runtime.serving.scheduler.time", SimpleNamespace(monotonic=lambda: now))
    model, loop, answered = Doubler(), asyncio.get_running_loop(), asyncio.Semaphore(0)
    queue = scheduler(model, workers)

    def arrive(left: int, turn_s: float) -> None:
        nonlocal now
        now += turn_s
        row = {"x": np.zeros((1, 2), np.float32)}
        queue.ask(row, 1, None, lambda outputs, error: answered.release(), deadline)
        if left > 1:
            loop.call_soon(arrive, left - 1, turn_s)

    for turn_s in (0.0, 0.002):
        arrive(3, turn_s)
        for _ in range(3):
            await asyncio.wait_for(answered.acquire(), 10)
    assert model.batches == batches
