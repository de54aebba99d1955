"""Statistics of what is served: takes requests off the event loop into a bounded queue, and counts them on a thread of its own.

The prediction path pays for one call that appends references to a queue; whatever fails behind it is counted and logged,
and never reaches an answer.
"""

from __future__ import annotations

import logging
import math
import random
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from runtime.engine.model import Model
from runtime.serving.observing.settings import StatisticsSettings
from runtime.telemetry.elapsed import elapsed_s
from runtime.tensors import Array
from runtime.wire.values import InferenceRequest

if TYPE_CHECKING:
    from runtime.monitoring.monitor import Window
    from runtime.monitoring.verdict import Verdict
    from runtime.monitoring.window_numbers import WindowNumbers
    from runtime.serving.observing.watched import WatchedStatistics


log = logging.getLogger(__name__)

QUEUE_ROWS: Final = 4096
QUEUE_BYTES: Final = 32 << 20
BLOCK_ROWS: Final = 512
"""Counted together: numpy's cost a call is then small beside its cost a row."""
PAUSE_S: Final = 0.5
COUNT_EVERY_S: Final = 2.0
"""Rows that do not fill a block wait so long: 25 rows take 2.6 ms of a processor and 256 take 4.0 (22 features, November 2026)."""
MAX_WINDOW_ROWS: Final = 2048
GAP_S: Final = 10.0
"""Where nothing was counted for so long the machine slept, or stood still: rows of before and after are no one window."""
MAX_MODELS: Final = 32


@dataclass(slots=True)  # nobody changes it; frozen, it would cost each request 0.9 µs of 2.4 (November 2026)
class _Taken:
    model: Model
    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]
    rows: int
    size_bytes: int
    is_private: bool


_Key = tuple[str, int, str, str]
"""Model, version, digest of the bundle, what answers: rows of another of these are not to be mixed with its own."""


class StatisticsRecorder:
    """An observer (`observers.Observer`). `start` begins its thread, `close` ends it and counts what waits."""

    def __init__(
        self, settings: StatisticsSettings = StatisticsSettings(), clock: Callable[[], float] = elapsed_s
    ) -> None:
        self.on_window: Callable[[Window], None] | None = None
        """Told of every window, on the recorder's thread, without the rows of private requests."""
        self.is_private: Callable[[InferenceRequest], bool] = lambda _: False
        """Whether the rows of a request are counted for this machine alone; asked on the loop."""
        self._settings = settings
        self._clock = clock
        self._queue: deque[_Taken] = deque()
        # Each written by one thread alone, so that no update is lost: what was put in by the loop, what was taken out here.
        self._put = [0, 0]
        self._done = [0, 0]
        self._random = random.Random()  # noqa: S311  (a sample, no secret)
        self._share = settings.sample
        self._put_before = self._put_at_look = 0
        """Rows put in before the last two looks, and before the last one: those since are capped until the share has followed."""
        self._most = _most(settings)
        self._second_began = clock()
        self._counted_at = clock()
        self._rows_before = 0
        self._counts = dict.fromkeys(("rows", "passed_rows", "sampled_rows", "dropped_rows", "failures"), 0)
        self._lock = threading.Lock()
        """Around everything that the thread counts and a document reads; `observe` never takes it."""
        self._watched: dict[_Key, WatchedStatistics] = {}
        self._wake = threading.Event()
        self._is_closing = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begins to count."""
        self._thread = threading.Thread(target=self._run, name="edgeward-monitor", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Counts what waits and ends the thread."""
        self._is_closing = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(10)

    def observe(self, model: Model, request: InferenceRequest, outputs: Mapping[str, Array], rows: int) -> None:
        """Takes a random share of the requests into the queue; a full queue drops, and counts that.

        Of a burst that alone has more rows than may be counted in a second the first are taken: the share follows in half a second.
        """
        counts = self._counts
        counts["rows"] += rows
        put, done = self._put, self._done
        is_chosen = self._share >= 1.0 or self._random.random() < self._share
        if not is_chosen or put[0] - self._put_before >= self._most:
            counts["passed_rows"] += rows
            return
        size_bytes = sum([value.nbytes for value in request.inputs.values()])
        if put[0] - done[0] + rows > QUEUE_ROWS or put[1] - done[1] + size_bytes > QUEUE_BYTES:
            counts["dropped_rows"] += rows
            return
        counts["sampled_rows"] += rows
        put[0] += rows
        put[1] += size_bytes
        self._queue.append(_Taken(model, request.inputs, outputs, rows, size_bytes, self.is_private(request)))

    @property
    def counts(self) -> Mapping[str, int]:
        """Rows it was told of, those it took, those a full queue dropped, and what failed: since the program began."""
        return self._counts

    def document(self) -> dict[str, Any]:
        """What is known of every model, and what the recorder itself did, as JSON."""
        with self._lock:
            models = [watched.document() for watched in self._watched.values()]
        return {
            "recorder": {**self._counts, "queued_rows": self._put[0] - self._done[0], "share": self._share},
            "models": models,
        }

    def verdicts(self) -> dict[tuple[str, int], tuple[Verdict, ...]]:
        """What drifts now, by model and version; one that nobody could look at yet is not in it."""
        with self._lock:
            known = [(watched.model_version, watched.verdicts()) for watched in self._watched.values()]
        return {place: found for place, found in known if found is not None}

    def newest_numbers(self) -> dict[tuple[str, int], WindowNumbers]:
        """Statistics of the last window that was closed, by model and version."""
        with self._lock:
            known = [(watched.model_version, watched.numbers) for watched in self._watched.values()]
        return {place: numbers for place, numbers in known if numbers is not None}

    def count_now(self) -> None:
        """Counts what waits, on the caller's thread. The recorder's own does this for full blocks, and every other second."""
        now = self._clock()
        if now - self._counted_at >= GAP_S:
            self._close_windows(self._counted_at)
        self._counted_at = now
        self._adapt(now)
        by_model: dict[Model, list[_Taken]] = {}
        while self._queue:
            taken = self._queue.popleft()
            self._done[0] += taken.rows
            self._done[1] += taken.size_bytes
            by_model.setdefault(taken.model, []).append(taken)
        for several in by_model.values():
            self._guarded(lambda several=several: self._count(several))  # type: ignore[misc]
        for watched in list(self._watched.values()):
            if self._is_due(watched, now):
                self._guarded(lambda watched=watched: self._close_window(watched, now))  # type: ignore[misc]

    def _run(self) -> None:
        while not self._is_closing:
            self._wake.wait(PAUSE_S)
            self._guarded(self._count_if_due)
        self._guarded(self.count_now)  # what came between the last look and `close`
        self._close_windows(self._clock())

    def _count_if_due(self) -> None:
        now = self._clock()
        rows, size_bytes = (put - done for put, done in zip(self._put, self._done, strict=True))
        if rows >= BLOCK_ROWS or size_bytes >= QUEUE_BYTES // 4 or now - self._counted_at >= COUNT_EVERY_S:
            self.count_now()
        else:
            self._adapt(now)

    def _guarded(self, job: Callable[[], None]) -> None:
        """The outermost loop: what fails here is counted and said, and the next rows are counted all the same."""
        try:
            job()
        except Exception as error:
            self._counts["failures"] += 1
            if self._counts["failures"] & (self._counts["failures"] - 1) == 0:
                log.warning(
                    "monitoring failed, %d times so far; answers go on", self._counts["failures"], exc_info=error
                )

    def _adapt(self, now: float) -> None:
        passed = now - self._second_began
        if passed >= PAUSE_S:
            rows = self._counts["rows"]
            rate = (rows - self._rows_before) / passed
            self._share = self._settings.sample * min(
                1.0, self._settings.rows_per_s / max(rate * self._settings.sample, 1e-9)
            )
            self._second_began, self._rows_before = now, rows
            self._put_before, self._put_at_look = self._put_at_look, self._put[0]

    def _count(self, several: list[_Taken]) -> None:
        from runtime.serving.observing.watched import WatchedStatistics  # at the first rows: after their answers

        model = several[0].model
        key = (model.name, model.version, model.bundle.digest, model.serving)
        watched = self._watched.get(key)
        if watched is None:
            before = [w for k, w in self._watched.items() if k[:2] == key[:2]]
            watched = WatchedStatistics(model, private_untold=sum(w.private_untold for w in before))
            with self._lock:
                # Another variant or bundle of the same version began to answer: its answers lie otherwise.
                self._watched = {k: w for k, w in self._watched.items() if k[:2] != key[:2]} | {key: watched}
                while len(self._watched) > MAX_MODELS:
                    del self._watched[next(iter(self._watched))]
        for inputs, outputs, is_private in _blocks(several):
            with self._lock:
                if not watched.open_rows:
                    watched.began = self._counted_at
                watched.update(inputs, outputs, is_private=is_private)

    def _is_due(self, watched: WatchedStatistics, now: float) -> bool:
        age_s, rows, settings = now - watched.began, watched.open_rows, self._settings
        is_old = age_s >= settings.window_s and (rows >= settings.window_rows or age_s >= 10 * settings.window_s)
        return is_old or rows >= MAX_WINDOW_ROWS

    def _close_windows(self, ended: float) -> None:
        for watched in list(self._watched.values()):
            self._guarded(lambda watched=watched: self._close_window(watched, ended))  # type: ignore[misc]

    def _close_window(self, watched: WatchedStatistics, ended: float) -> None:
        if not watched.open_rows:
            return
        with self._lock:
            shared = watched.close(ended)
        if self.on_window is not None and shared is not None:
            self.on_window(shared)


def _most(settings: StatisticsSettings) -> float:
    """Rows put in within two looks of the recorder's thread, which are a second, before requests are passed by.

    A second's rows that all come at once are taken, and what a random share takes is seldom more: two standard errors of the
    number itself.
    """
    expected = 2 * PAUSE_S * settings.rows_per_s
    return expected + 2 * math.sqrt(expected)


def _blocks(several: list[_Taken]) -> Iterator[tuple[dict[str, Array], dict[str, Array], bool]]:
    """Inputs and outputs of requests joined to some hundred rows, and whether those are private, which stand apart."""
    for chunk in _chunks(several):
        try:
            parts = [(chunk, *_both(chunk))]
        except (TypeError, ValueError):
            # Not of one shape, which is seldom; to ask each for its own first costs more than to join them.
            parts = [(part, *_both(part)) for part in (list(group) for _, group in groupby(chunk, _shape))]
        for part, inputs, outputs in parts:
            yield inputs, outputs, part[0].is_private


def _chunks(several: list[_Taken]) -> Iterator[list[_Taken]]:
    chunk, rows = [several[0]], several[0].rows
    for taken in several[1:]:
        if taken.is_private is chunk[0].is_private and rows + taken.rows <= BLOCK_ROWS:
            chunk.append(taken)
            rows += taken.rows
        else:
            yield chunk
            chunk, rows = [taken], taken.rows
    yield chunk


def _shape(taken: _Taken) -> list[tuple[str, tuple[int, ...], str]]:
    return [(n, v.shape[1:], v.dtype.str) for part in (taken.inputs, taken.outputs) for n, v in part.items()]


def _both(chunk: list[_Taken]) -> tuple[dict[str, Array], dict[str, Array]]:
    return _join([taken.inputs for taken in chunk]), _join([taken.outputs for taken in chunk])


def _join(parts: list[Mapping[str, Array]]) -> dict[str, Array]:
    """`TypeError` or `ValueError` for arrays of several dtypes or shapes."""
    first = parts[0]
    if len(parts) == 1:
        return dict(first)
    return {
        name: np.concatenate([part[name] for part in parts], dtype=value.dtype, casting="no")
        for name, value in first.items()
        if value.ndim
    }
