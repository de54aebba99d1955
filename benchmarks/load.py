"""The load itself: threads that ask a target when requests are due, and write down when what happened.

Open loop, leader and followers: one idle thread holds the turn, sleeps until the next request is due, passes the turn on
and sends the request itself, so nothing is handed over between the decision and the sending. While all threads wait for
answers requests become overdue; their latency counts from the time they were due, not from when they were sent.
"""

from __future__ import annotations

import math
import threading
import time
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from benchmarks.arrivals import Times
from benchmarks.samples import OK, Nanoseconds, Samples
from benchmarks.scenarios import Scenario
from benchmarks.target import Answer, Origin
from runtime.errors import EdgewardError
from runtime.tensors import Array
from runtime.wire.status import status_of

Infer = Callable[[Mapping[str, Array]], Answer]
Call = tuple[Mapping[str, Array], int]
"""Inputs of one request and their rows."""

# Sleeping in pieces lets a stop be seen; the last piece is the exact one.
_LONGEST_SLEEP_S = 0.05
# Time for the threads to start before the first request is due.
_HEAD_START_NS = 50_000_000
_COLUMNS = 9
_NO_ANSWER = (-1, -1, -1)


@dataclass(frozen=True, slots=True)
class Load:
    """What the threads saw."""

    samples: Samples
    statuses: tuple[str, ...]
    origins: tuple[Origin, ...]
    offered_qps: float | None
    error_texts: Mapping[str, str] = field(default_factory=dict)
    """Of each status but "ok", what the first one said."""
    has_fallen_behind: bool = False
    """It stopped early, because the target was further behind than `Scenario.give_up_s`."""


class LoadGenerator:
    """Runs one scenario against `infer`. `stop` may be called from any thread, and keeps what was measured."""

    def __init__(self, infer: Infer, calls: Sequence[Call], scenario: Scenario) -> None:
        self._infer = infer
        self._calls = calls
        self._scenario = scenario
        self._due: Times | None = None
        if scenario.arrivals is not None:
            self._due = scenario.arrivals.times(scenario.duration_s, scenario.seed)[: scenario.requests]
        self._turn = threading.Lock()
        self._names = threading.Lock()
        self._next = 0
        self._start_ns = 0
        self._is_stopped = False
        self._has_fallen_behind = False
        self._over = 0
        self._failure: BaseException | None = None
        self._statuses: dict[str, int] = {OK: 0}
        self._texts: dict[str, str] = {}
        self._origins: dict[Origin, int] = {}
        self._threads: list[threading.Thread] = []

    @property
    def progress(self) -> float:
        """How much of the scenario is done, 0 to 1."""
        elapsed_s = (time.perf_counter_ns() - self._start_ns) / 1e9 if self._start_ns else 0.0
        if self._due is not None:
            # Time alone would say that all is done while a target that is behind has its backlog before it.
            planned_s = max(int(self._due[-1]) / 1e9, 1e-9)
            share = min(elapsed_s / planned_s, self._next / len(self._due))
        else:
            share = max(elapsed_s / self._scenario.duration_s, self._next / (self._scenario.requests or math.inf))
        return min(max(share, 0.0), 1.0)

    def start(self) -> None:
        """Starts the threads and returns."""
        self._start_ns = time.perf_counter_ns() + _HEAD_START_NS
        self._records = [array("q") for _ in range(self._scenario.in_flight)]
        self._threads = [
            threading.Thread(target=self._work, args=(record,), name=f"load-{i}", daemon=True)
            for i, record in enumerate(self._records)
        ]
        for thread in self._threads:
            thread.start()

    def wait(self, timeout_s: float) -> bool:
        """Whether all threads have ended, within `timeout_s`."""
        until = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(until - time.monotonic(), 0))
        return not any(thread.is_alive() for thread in self._threads)

    def stop(self) -> None:
        """Sends nothing more; requests under way are still waited for."""
        self._is_stopped = True

    def result(self) -> Load:
        """What was measured, after `wait`; raises what a thread raised that is no error of a request."""
        if self._failure is not None:
            raise self._failure
        table = np.concatenate([np.frombuffer(record, np.int64) for record in self._records]).reshape(-1, _COLUMNS)
        table = table[np.lexsort((table[:, 1], table[:, 0]))]
        columns: list[Nanoseconds] = [np.ascontiguousarray(column) for column in table.T]
        # A server that was not asked, or does not know, where the time went.
        samples = Samples(*columns) if (columns[-1] >= 0).any() else Samples(*columns[:-3])
        offered = None
        if self._due is not None and len(samples):
            # Of the part that was reached: the whole plan, unless it was stopped or `requests` ended it.
            is_whole = self._next >= len(self._due) and len(self._due) != self._scenario.requests
            reached_s = self._scenario.duration_s if is_whole else samples.planned_ns[-1] / 1e9
            offered = len(samples) / reached_s if reached_s > 0 else None
        return Load(samples, tuple(self._statuses), tuple(self._origins), offered, self._texts, self._has_fallen_behind)

    def _work(self, record: array[int]) -> None:
        try:
            while (turn := self._take_turn()) is not None:
                self._ask(record, *turn)
        except BaseException as error:  # the outermost loop of a thread: `result` raises it
            self._failure = error
            self._is_stopped = True

    def _take_turn(self) -> tuple[int, int | None] | None:
        """The number of the next request and when it is due, at that moment; None when there is none left."""
        with self._turn:
            number = self._next
            due_ns = None
            if self._due is not None:
                if number >= len(self._due):
                    return None
                due_ns = int(self._due[number])
                self._sleep_until(due_ns)
                give_up_s = self._scenario.give_up_s
                if give_up_s is not None and self._now_ns() - due_ns > give_up_s * 1e9:
                    self._has_fallen_behind = self._is_stopped = True
            elif self._now_ns() >= self._scenario.duration_s * 1e9 or number == self._scenario.requests:
                return None
            else:
                self._sleep_until(0)
            if self._is_stopped:
                return None
            self._next = number + 1
            return number, due_ns

    def _ask(self, record: array[int], number: int, due_ns: int | None) -> None:
        inputs, rows = self._calls[number % len(self._calls)]
        origin: Origin | None = None
        spent = _NO_ANSWER
        sent_ns = self._now_ns()
        try:
            answer = self._infer(inputs)
            origin, spent = answer.origin, (answer.queue_ns, answer.batch_ns, answer.execute_ns)
            status = OK
        except EdgewardError as error:
            status = code_of(error)
            self._texts.setdefault(status, str(error))
        done_ns = self._now_ns()
        planned_ns = sent_ns if due_ns is None else due_ns
        bound_ms = self._scenario.bound_ms
        if bound_ms is not None and (status != OK or done_ns - planned_ns > bound_ms * 1e6):
            self._count_over()
        record.extend((planned_ns, sent_ns, done_ns, rows, self._status(status), self._origin(origin), *spent))

    def _count_over(self) -> None:
        """One more that took too long or failed; ends the load where they are too many."""
        with self._names:
            self._over += 1
            self._is_stopped = self._is_stopped or self._over > self._scenario.most_over

    def _now_ns(self) -> int:
        return time.perf_counter_ns() - self._start_ns

    def _sleep_until(self, due_ns: int) -> None:
        while not self._is_stopped and (left_s := (due_ns - self._now_ns()) / 1e9) > 0:
            time.sleep(min(left_s, _LONGEST_SLEEP_S))

    def _status(self, name: str) -> int:
        index = self._statuses.get(name)
        if index is None:
            with self._names:
                index = self._statuses.setdefault(name, len(self._statuses))
        return index

    def _origin(self, origin: Origin | None) -> int:
        """Index of an origin; -1 for a request that nobody answered."""
        if origin is None:
            return -1
        index = self._origins.get(origin)
        if index is None:
            with self._names:
                index = self._origins.setdefault(origin, len(self._origins))
        return index


def code_of(error: EdgewardError) -> str:
    """How both protocols name a failure, HTTP's code first: "503 UNAVAILABLE"; the same on every target."""
    status = status_of(error)
    return f"{status.http} {status.grpc}"
