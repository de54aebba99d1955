"""The other version beside the one that has the callers: the same requests on a thread of its own, off the way of every request.

Beside stable the candidate is asked too, or stable beside a candidate that has all of the traffic (`beside` runs and compares).
`offer` costs a request a look at a queue's length; what does not fit is dropped and counted. The thread is less important than
others (`nice`, where threads have that), gathers what came within a tenth of a second, or a full batch, and has that run at once,
so that it takes the event loop's place seldom. What was run is there to be taken as soon as it was.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections import deque
from collections.abc import Hashable, Mapping
from contextlib import suppress
from typing import Final

from cloud_gateway.guards import Arm
from cloud_gateway.release.beside import Beside
from cloud_gateway.release.mirrored import Mirrored, Offered
from runtime.engine.before_exit import end_before_exit
from runtime.engine.model import Model
from runtime.errors import ModelNotReadyError
from runtime.tensors import Array

log = logging.getLogger(__name__)

# Ten times a second one request in some may meet the thread at work; at 300 requests a second that is a batch of 30.
GATHER_S: Final = 0.1
MAX_BATCH_ROWS: Final = 32
MAX_QUEUED_BYTES: Final = 64 << 20
# No idle priority (SCHED_IDLE): a thread that holds the interpreter's lock and gets 3 shares where others have 1,024 each holds up
# the event loop for as long as another program is busy.
NICENESS: Final = 10
# How long `close` waits for a run that is under way.
CLOSE_S: Final = 10.0
# Results that nobody has taken yet; at more the thread rests, and the queue fills and drops, which is counted.
MAX_UNTAKEN: Final = 4096


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
        self._beside = Beside(stable, candidate, twice_every, times_candidate=times_candidate, has_copy=has_copy)
        self._max_queued = max_queued
        self._queue: deque[Offered] = deque()
        self._queued_bytes = 0
        self._released_bytes = 0
        self._under_way: list[Offered] = []
        """Taken from the queue, with no result yet."""
        self._done: deque[Mirrored] = deque()
        self._full_at = max(min(MAX_BATCH_ROWS, max_queued // 2), 1)
        """Requests that wait for no others."""
        self._is_full = threading.Event()
        self._is_open = self._is_refused = False
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
        """Takes a request that `answered` has answered, or, with `failure`, that the candidate failed.

        False: it is dropped, for there is no room, or no thread, or this has ended.
        `outputs`: None where there is nothing to compare.
        """
        self.offered += 1
        if not (self._is_open or self._begin()):
            self.dropped += 1
            return False
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
        # What `Offered(...)` does, without its call of Python.
        about_it = (inputs, outputs, answered, failure, self.offered, size_bytes, segment, request_id, about)
        queue.append(tuple.__new__(Offered, about_it))
        if len(queue) == self._full_at or waiting > MAX_QUEUED_BYTES // 2:
            self._is_full.set()
        return True

    def _begin(self) -> bool:
        """Whether there is a thread from now on. Where the machine has none left, the next request tries again."""
        if self._closing.is_set():
            return False
        try:
            self._thread.start()
        except RuntimeError as error:
            if not self._is_refused:
                log.error("%s cannot be started, and what it would be given is dropped: %s", self._thread.name, error)
            self._is_refused = True
            return False
        self._is_open = True
        end_before_exit(self.close)
        return True

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
        return self._beside.noise_from

    def close(self) -> None:
        """Ends the thread; what was not run by then is there for `left`.

        Blocks for as long as what is under way takes: a batch, or one request on both, with the load of stable's second copy.
        """
        self._closing.set()
        self._is_open = False
        self._is_full.set()
        if self._thread.ident is not None:
            self._thread.join(CLOSE_S)

    def left(self) -> list[object]:
        """What those are known by that were taken and not run; once, after `close`."""
        items = [*self._under_way, *self._queue]
        self._under_way = []
        self._queue.clear()
        return [item.about for item in items]

    def _work(self) -> None:
        _be_nice()
        try:
            self._answer()
        finally:
            self._beside.close()

    def _answer(self) -> None:
        while not self._closing.is_set():
            self._is_full.wait(GATHER_S)
            self._is_full.clear()
            while self._queue and len(self._done) < MAX_UNTAKEN and not self._closing.is_set():
                taken = self._under_way = self._next()
                try:
                    for at, mirrored in enumerate(self._beside.results(taken), 1):
                        self._done.append(mirrored)
                        self._under_way = taken[at:]
                        if self._closing.is_set():
                            return
                except ModelNotReadyError:  # one of the two is being unloaded: the release has ended
                    self._closing.set()
                    self._is_open = False
                    return
                finally:
                    self._released_bytes += sum(item.size_bytes for item in taken)

    def _next(self) -> list[Offered]:
        """Requests for one run, the oldest first, behind those between them that are run alone."""
        taken: list[Offered] = []
        key: Hashable = None
        rows = 0
        while self._queue and len(taken) < MAX_BATCH_ROWS:
            item = self._queue[0]
            if not self._beside.is_alone(item):
                own = self._beside.key(item)
                if key is not None and (own != key or rows + item.rows > MAX_BATCH_ROWS):
                    break
                key, rows = own, rows + item.rows
            taken.append(self._queue.popleft())
            if not self._beside.is_batchable:
                break
        return sorted(taken, key=self._beside.is_alone, reverse=True)


def _be_nice() -> None:
    """On Linux a thread has a niceness of its own; elsewhere it would be the whole process's."""
    if sys.platform == "linux":
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
