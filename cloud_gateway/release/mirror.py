"""The other version beside the one that has the callers: the same requests on a thread of its own, off the way of every request.

Beside stable the candidate is asked too, or stable beside a candidate that has all of the traffic.
`offer` costs a request a look at a queue's length; what does not fit is dropped and counted. The thread is less important than
others (`nice`, where threads have that), gathers what came within a tenth of a second, or a full batch, and runs and compares that
at once, so that it takes the event loop's place seldom. One request of so many is run alone, on the candidate and on a second copy
of stable, in turns: that gives both latencies alike, and the noise floor.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from cloud_gateway.guards import Arm
from cloud_gateway.release.comparison import Comparison, compare, compare_all
from cloud_gateway.release.second_copy import SecondCopy
from runtime.batching.rows import batch_key, has_one_key, is_batchable, join, split
from runtime.bundle.manifest import Task
from runtime.engine.before_exit import end_before_exit
from runtime.engine.model import Model
from runtime.errors import EdgewardError, ModelNotReadyError
from runtime.tensors import Array

log = logging.getLogger(__name__)

# Ten times a second one request in some may meet the thread at work; at 300 requests a second that is a batch of 30.
GATHER_S: Final = 0.1
MAX_BATCH_ROWS: Final = 32
MAX_QUEUED_BYTES: Final = 64 << 20
NICENESS: Final = 10
# No idle priority (SCHED_IDLE): a thread that holds the interpreter's lock and gets 3 shares where others have 1,024 each holds up
# the event loop for as long as another program is busy.
# How long `close` waits for a run that is under way.
CLOSE_S: Final = 10.0
# Results that nobody has taken yet; at more the thread rests, and the queue fills and drops, which is counted.
MAX_UNTAKEN: Final = 4096


@dataclass(frozen=True, slots=True)
class Mirrored:
    """A request that both versions were given."""

    request_id: str
    segment: str
    comparison: Comparison | None
    """None: one of them failed, or there was nothing to compare."""
    stable_outputs: Mapping[str, Array] | None
    candidate_outputs: Mapping[str, Array] | None
    error: str | None = None
    """How the candidate failed."""
    stable_error: str | None = None
    answered: Arm = Arm.STABLE
    """Which had the caller; the other one was asked here."""
    timed: tuple[float, float] | None = None
    """Seconds of stable and of the candidate, each alone; None: it ran in a batch."""
    noise: Comparison | None = None
    """Stable against a second copy of it."""
    about: object = None
    """What whoever offered the request wants to know it by."""


class _Item(NamedTuple):
    """As it was offered: made on the way of a request, so all that can be is worked out on the thread."""

    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array] | None
    answered: Arm
    failure: str
    number: int
    """Among those offered, from 1."""
    size_bytes: int
    segment: str
    request_id: str
    about: object

    @property
    def rows(self) -> int:
        return next((len(value) for value in self.inputs.values() if value.ndim), 1)


class Mirror:
    """One release's queue and thread, which begins with the first request. `offer` and `take` are called on the event loop."""

    def __init__(
        self,
        stable: Model,
        candidate: Model,
        max_queued: int,
        twice_every: int,
        *,
        times_candidate: bool = False,
        has_copy: bool = True,
    ) -> None:
        """`twice_every`: one request that stable answered of so many is run on stable again; 0: none, 1: all.

        `times_candidate`: those that the candidate answered are all run on both, one after the other, for their latencies.
        `has_copy`: whether a second copy of stable is loaded for what is run on it again.
        """
        self.offered = 0
        self.dropped = 0
        self._stable = stable
        self._second = SecondCopy(stable, is_wanted=has_copy)
        self._candidate = candidate
        self._task = Task.GENERIC if candidate.bundle.manifest is None else candidate.bundle.manifest.task
        self._names = [spec.name for spec in candidate.outputs]
        self._is_batchable = is_batchable(candidate.inputs, candidate.outputs)
        self._has_one_key = has_one_key(candidate.inputs)
        self._max_queued = max_queued
        self._twice_every = twice_every
        self._times_candidate = times_candidate
        self._queue: deque[_Item] = deque()
        self._queued_bytes = 0
        self._released_bytes = 0
        self._done: deque[Mirrored] = deque()
        self._is_odd = False
        """Whether the candidate went first, of the last request that was run on both."""
        self._full_at = max(min(MAX_BATCH_ROWS, max_queued // 2), 1)
        """Requests that wait for no others."""
        self._is_full = threading.Event()
        self._is_begun = False
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name=f"edgeward-mirror-{candidate.name}", daemon=True)

    def offer(
        self,
        inputs: Mapping[str, Array],
        outputs: Mapping[str, Array] | None,
        segment: str,
        request_id: str,
        answered: Arm = Arm.STABLE,
        failure: str = "",
        about: object = None,
    ) -> bool:
        """Takes a request that `answered` has answered, or, with `failure`, that the candidate failed. False: no room.

        `outputs`: None where there is nothing to compare.
        """
        if not self._is_begun:
            self._begin()
        self.offered += 1
        size_bytes = 0
        for value in inputs.values():
            size_bytes += value.nbytes
        if outputs is not None:
            for value in outputs.values():
                size_bytes += value.nbytes
        queue = self._queue
        waiting = self._queued_bytes - self._released_bytes + size_bytes
        if len(queue) >= self._max_queued or waiting > MAX_QUEUED_BYTES:
            self.dropped += 1
            return False
        self._queued_bytes += size_bytes
        queue.append(_Item(inputs, outputs, answered, failure, self.offered, size_bytes, segment, request_id, about))
        if len(queue) == self._full_at or waiting > MAX_QUEUED_BYTES // 2:
            self._is_full.set()
        return True

    def _begin(self) -> None:
        self._is_begun = True
        self._thread.start()
        end_before_exit(self.close)

    def take(self, at_most: int) -> list[Mirrored]:
        """What was run since the last call, oldest first."""
        found: list[Mirrored] = []
        while len(found) < at_most:
            try:
                found.append(self._done.popleft())
            except IndexError:
                break
        return found

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return len(self._queue)

    @property
    def noise_from(self) -> str:
        """What stable is compared with for the noise floor."""
        return self._second.noise_from

    def close(self) -> None:
        """Ends the thread; what waits is forgotten. Blocks for as long as one run takes."""
        self._closing.set()
        self._is_full.set()
        if self._is_begun:
            self._thread.join(CLOSE_S)

    def _work(self) -> None:
        _be_nice()
        try:
            self._answer()
        finally:
            self._second.close()

    def _answer(self) -> None:
        while not self._closing.is_set():
            self._is_full.wait(GATHER_S)
            self._is_full.clear()
            while self._queue and len(self._done) < MAX_UNTAKEN and not self._closing.is_set():
                taken = self._next()
                try:
                    self._done.extend(self._results(taken))
                except ModelNotReadyError:
                    return  # one of the two is being unloaded: the release has ended
                finally:
                    self._released_bytes += sum(item.size_bytes for item in taken)

    def _next(self) -> list[_Item]:
        """Requests for one run, the oldest first, and those between them that are run alone."""
        taken: list[_Item] = []
        key: Hashable = None
        rows = 0
        while self._queue and len(taken) < MAX_BATCH_ROWS:
            item = self._queue[0]
            if not self._is_alone(item):
                own = self._key(item)
                if key is not None and (own != key or rows + item.rows > MAX_BATCH_ROWS):
                    break
                key, rows = own, rows + item.rows
            taken.append(self._queue.popleft())
            if not self._is_batchable:
                break
        return taken

    def _is_alone(self, item: _Item) -> bool:
        """Whether it is run on both versions, for their latencies and the noise floor."""
        if item.answered is Arm.STABLE:
            return self._twice_every > 0 and item.number % self._twice_every == 0
        return self._times_candidate and not item.failure

    def _key(self, item: _Item) -> Hashable:
        return item.answered, None if self._has_one_key else batch_key(item.inputs)

    def _results(self, taken: list[_Item]) -> list[Mirrored]:
        """Of each, in order."""
        together = iter(self._attempt(self._run, [item for item in taken if not self._is_alone(item)]))
        return [self._attempt(self._run_twice, [item])[0] if self._is_alone(item) else next(together) for item in taken]

    def _attempt(self, run: Callable[[list[_Item]], list[Mirrored]], items: list[_Item]) -> list[Mirrored]:
        try:
            return run(items)
        except ModelNotReadyError:
            raise
        except Exception as error:  # outermost loop of a thread; the request's caller has its answer
            log.error(
                "a mirrored request of model %s failed in an unforeseen way", self._candidate.name, exc_info=error
            )
            return [_failed(item, repr(error)) for item in items]

    def _run(self, batch: list[_Item]) -> list[Mirrored]:
        if len(batch) > 1:
            try:
                joined = self._asked(batch[0]).predict(join([item.inputs for item in batch]))
                answers = split(joined, [item.rows for item in batch])
            except ModelNotReadyError:
                raise
            except EdgewardError:
                answers = None  # one of them may be at fault: each alone
            if answers is not None:
                return self._compared(batch, answers)
        return [self._run_alone(item) for item in batch]

    def _asked(self, item: _Item) -> Model:
        """The version that did not have the caller."""
        return self._candidate if item.answered is Arm.STABLE else self._stable

    def _run_alone(self, item: _Item) -> Mirrored:
        try:
            return self._compared([item], [self._asked(item).predict(item.inputs)])[0]
        except ModelNotReadyError:
            raise
        except EdgewardError as error:
            return _failed(item, str(error))

    def _run_twice(self, items: list[_Item]) -> list[Mirrored]:
        """The one item, on both."""
        (item,) = items
        self._is_odd = not self._is_odd
        took: dict[bool, float] = {}
        answers: dict[bool, Mapping[str, Array]] = {}
        stable = self._second.model() if item.answered is Arm.STABLE else self._stable
        for is_candidate in (True, False) if self._is_odd else (False, True):
            began = time.perf_counter()
            try:
                answers[is_candidate] = (self._candidate if is_candidate else stable).predict(item.inputs)
            except ModelNotReadyError:
                raise
            except EdgewardError as error:
                if is_candidate is (item.answered is Arm.STABLE):
                    return [_failed(item, str(error))]
                return [self._run_alone(item)]  # who had the caller failed this time: there is no second answer
            took[is_candidate] = time.perf_counter() - began
        [compared] = self._compared(items, [answers[item.answered is Arm.STABLE]])
        noise = None
        if item.answered is Arm.STABLE and item.outputs is not None:
            noise = compare(self._task, self._names, item.outputs, answers[False])
        return [replace(compared, timed=(took[False], took[True]), noise=noise)]

    def _compared(self, items: list[_Item], answers: Sequence[Mapping[str, Array]]) -> list[Mirrored]:
        """Each with what the version said to it that did not have the caller."""
        pairs = [
            None
            if item.outputs is None
            else ((item.outputs, said) if item.answered is Arm.STABLE else (said, item.outputs))
            for item, said in zip(items, answers, strict=True)
        ]
        found = iter(compare_all(self._task, self._names, [pair for pair in pairs if pair is not None]))
        return [
            Mirrored(
                item.request_id,
                item.segment,
                None if item.outputs is None else next(found),
                item.outputs if item.answered is Arm.STABLE else said,
                said if item.answered is Arm.STABLE else item.outputs,
                item.failure or None,
                answered=item.answered,
                about=item.about,
            )
            for item, said in zip(items, answers, strict=True)
        ]


def _failed(item: _Item, error: str) -> Mirrored:
    """Whoever was asked here failed."""
    if item.answered is Arm.STABLE:
        return Mirrored(item.request_id, item.segment, None, item.outputs, None, error, about=item.about)
    failure = item.failure or None
    return Mirrored(
        item.request_id,
        item.segment,
        None,
        None,
        item.outputs,
        failure,
        error,
        answered=item.answered,
        about=item.about,
    )


def _be_nice() -> None:
    """On Linux a thread has a niceness of its own; elsewhere it would be the whole process's."""
    if sys.platform == "linux":
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
