"""Candidates tried and timed in this process."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from runtime.backends.opened import OpenedVariant, open_variant
from runtime.bundle.bundle import Bundle
from runtime.bundle.manifest import Task
from runtime.hardware import Host
from runtime.hardware.nvidia import read_used_gpu_bytes
from runtime.selection.bench import LEAST_CHECKED_ROWS, MIN_GUARD_ROWS, CandidateFailedError, Timed, Trial
from runtime.selection.candidates import CPU, CUDA, Candidate
from runtime.selection.guard import GuardResult, check_answers
from runtime.selection.library import load_library
from runtime.selection.memory_use import MemoryUse
from runtime.selection.open_sessions import OpenSessions
from runtime.selection.rows import Rows, rows_for
from runtime.selection.rss import GpuMemoryGrowth, MemoryGrowth
from runtime.tensors import Array

GUARD_BATCHES: Final = (8, 32)
"""The first call's rows, and the others': batches whose memory is seen on the way, as a queue will make them."""
ROUGH_CALLS: Final = 100
"""Of a small model 20 are over within a millisecond or two, in which worker threads still wake: the best of 20 was 2.5 times the
fastest candidate's, and so its end, in 34 of 400 openings of the digits' and MNIST's variants, the best of 100 in 15."""
ROUGH_TIME_S: Final = 0.02
FIRST_CALL_S: Final = 1.0
"""A first call that takes longer is not followed by a second, to see whether it was only the first."""
HOPELESS: Final = 10.0
"""Who took so many times the fastest one's time with one row is hardly measured again, by whatever objective."""
WARM_UP_CALLS: Final = 3
WARM_UP_TIME_S: Final = 0.01
"""Worker threads sleep and caches are cold at the start of a turn: the first calls are not counted."""

# A session that spins between calls burns a core for about 30 ms after its last one and slows its neighbour (ONNX
# Runtime 1.32, 2 cores, 2026-11: 1.2 to 1.4 times). Waiting until the process takes no time works for every engine.
QUIET_STEP_S: Final = 0.002
QUIET_SHARE: Final = 0.25
MAX_SETTLE_S: Final = 0.1


def _used_gpu_bytes() -> int | None:
    return read_used_gpu_bytes(Host.this_machine())


class LocalBench:
    """A bench in this process: a crash here ends the process. See `Bench`."""

    def __init__(
        self,
        bundle: Bundle,
        seed: int = 0,
        used_gpu_bytes: Callable[[], int | None] = _used_gpu_bytes,
        after_loading: Callable[[], None] = lambda: None,
    ) -> None:
        """`after_loading` is called whenever an engine was loaded, before anything of it is kept open."""
        self._bundle = bundle
        self._seed = seed
        self._rows: Rows | None = None
        self._guards: dict[tuple[str, str, tuple[tuple[str, str], ...]], tuple[GuardResult, tuple[MemoryUse, ...]]] = {}
        """By what is computed: the number of threads changes neither answers nor, by much, what large calls take."""
        self._reference: dict[str, Array] = {}
        self._is_reference_whole = False
        self._warm_backends: set[str] = set()
        self._open = OpenSessions()
        self._row_s: dict[str, float] = {}
        """What a call with one row took in the trial."""
        self._memory_mb: dict[str, float] = {}
        """Of sessions that may be kept open: the peak of the largest calls."""
        self._last: str | None = None
        self._used_gpu_bytes = used_gpu_bytes
        self._after_loading = after_loading

    def try_out(self, candidate: Candidate, reference: Candidate | None, rows: int, check_s: float) -> Trial:
        """See `Bench.try_out`. The session stays open, for who is measured next; its threads have come to rest by then."""
        began = time.monotonic()
        loading_s = 0.0
        try:
            is_first = candidate.backend.name not in self._warm_backends
            if is_first:
                load_library(candidate, lambda: self._opened(candidate), lambda o: o.predict(self._rows_of(o).take(1)))
                self._after_loading()
                self._warm_backends.add(candidate.backend.name)
                loading_s = time.monotonic() - began
            charged = _Charge(candidate)
            if reference is not None and reference.key != candidate.key:
                self._learn_reference(reference, check_s)
            self._settle(candidate)
            meter = _Meter(GpuMemoryGrowth(self._used_gpu_bytes) if candidate.backend.device == CUDA else None)
            opening = _Charge(candidate)
            opened = self._session(candidate)
            if is_first:  # the rest of its library comes with it, and what that takes cannot be told apart
                loading_s += charged.leave_out(opening)
            inputs = self._rows_of(opened)
            sizes = tuple(sorted({1, rows} & set(inputs.batch_sizes)))
            latencies = tuple((size, tuple(_time_some(opened, inputs.take(size)))) for size in sizes)
            meter.read(sizes[-1])
            row_s = self._row_s[candidate.key] = min(latencies[0][1]) / 1000
            if candidate.computes not in self._guards:
                answers = _answers(opened, inputs, check_s, meter, row_s=row_s)
                if reference is not None and reference.key == candidate.key:
                    self._reference = self._reference or answers
                guard = self._compare(opened, inputs, answers)
                self._guards[candidate.computes] = guard, tuple(meter.uses)
            guard, uses = self._guards[candidate.computes]
            meter.take_over(uses)
        except Exception as error:
            self._open.close(candidate.key)
            raise CandidateFailedError(reason_of(error)) from error
        most = meter.uses[-1]
        self._memory_mb[candidate.key] = most.mb if most.gpu_mb is None else most.gpu_mb
        self._open.weigh(candidate.key, self._memory_mb[candidate.key])
        self._close_if_hopeless(candidate.key, row_s)
        uses, effort_s = tuple(meter.uses), charged.so_far_s()
        return Trial(guard, not inputs.is_random, uses, latencies, inputs.batch_sizes, loading_s, effort_s)

    def check(self, candidate: Candidate, reference: Candidate | None, within_s: float) -> GuardResult:
        """See `Bench.check`."""
        try:
            self._learn_reference(reference, within_s, LEAST_CHECKED_ROWS)
            opened = self._session(candidate)
            inputs = self._rows_of(opened)
            row_s = self._row_s.get(candidate.key, 0.0)
            answers = _answers(opened, inputs, within_s, None, LEAST_CHECKED_ROWS, row_s)
        except Exception as error:
            self._open.close(candidate.key)
            raise CandidateFailedError(reason_of(error)) from error
        return self._compare(opened, inputs, answers)

    def time(self, candidate: Candidate, rows: int, duration_s: float) -> Timed:
        """See `Bench.time`. The session stays open for its next turn; those beside it have come to rest by then."""
        try:
            opened = self._session(candidate)
            inputs = self._rows_of(opened).take(rows)
            self._settle(candidate)
            _call_for(opened, inputs, WARM_UP_TIME_S, WARM_UP_CALLS)
            began_s = time.process_time()
            latencies_ms = _call_for(opened, inputs, duration_s)
            busy_s = time.process_time() - began_s
        except Exception as error:
            self._open.close(candidate.key)
            raise CandidateFailedError(reason_of(error)) from error
        taken_ms = 1000 * busy_s if candidate.backend.device == CPU else sum(latencies_ms)
        return Timed(tuple(latencies_ms), taken_ms / len(latencies_ms))

    def close(self) -> None:
        """Closes every session."""
        self._open.close_all()

    def _session(self, candidate: Candidate) -> OpenedVariant:
        opened = self._open.get(candidate.key)
        if opened is None:
            needed_mb, is_on_gpu = self._memory_mb.get(candidate.key, 0.0), candidate.backend.device == CUDA
            self._open.make_room(needed_mb, is_on_gpu)
            opened = self._opened(candidate)
            self._open.keep(candidate.key, opened, needed_mb, is_on_gpu)
        return opened

    def _opened(self, candidate: Candidate) -> OpenedVariant:
        return open_variant(self._bundle, candidate.variant, candidate.backend, candidate.options)

    def _close_if_hopeless(self, key: str, row_s: float) -> None:
        """Its memory is for those who may have another turn. Opened again should it have one after all."""
        if row_s > HOPELESS * min(self._row_s.values()):
            self._open.close(key)

    def _rows_of(self, opened: OpenedVariant) -> Rows:
        if self._rows is None:
            self._rows = rows_for(self._bundle, opened.inputs, self._seed)
        return self._rows

    def _settle(self, candidate: Candidate) -> None:
        """Waits until those beside `candidate` are at rest."""
        if self._last not in (None, candidate.key):
            _wait_until_quiet()
        self._last = candidate.key

    def _learn_reference(self, reference: Candidate | None, duration_s: float, least: int = 1) -> None:
        """The reference's outputs on the rows used here, where the bundle brings none; again where more are asked for."""
        if reference is None or (self._rows is not None and self._rows.outputs):
            return
        if self._reference and (least == 1 or self._is_reference_whole):
            return
        opened = self._session(reference)
        inputs = self._rows_of(opened)
        if not inputs.outputs:
            self._reference = _answers(opened, inputs, duration_s, None, least)
            self._is_reference_whole = least > 1

    def _compare(self, opened: OpenedVariant, inputs: Rows, outputs: dict[str, Array]) -> GuardResult:
        names = [spec.name for spec in opened.outputs]
        reference = dict(inputs.outputs or self._reference)
        # Either side may have been cut short by the time limit.
        rows = min((len(value) for value in (*outputs.values(), *reference.values()) if value.ndim), default=1)
        reference = {name: _first(value, rows) for name, value in reference.items()}
        outputs = {name: _first(value, rows) for name, value in outputs.items()}
        labels = None if inputs.labels is None else inputs.labels[:rows]
        task = self._bundle.manifest.task if self._bundle.manifest is not None else Task.GENERIC
        result = check_answers(task, names, outputs, reference, labels)
        return replace(result, is_partial=inputs.is_batched and rows < min(len(inputs), MIN_GUARD_ROWS))


class _Charge:
    """What a candidate took since this was made. On a busy machine the others' time is not its own, which the processor's clock
    tells; a device's time is no processor's.
    """

    def __init__(self, candidate: Candidate) -> None:
        self._is_on_cpu = candidate.backend.device == CPU
        self._began_s, self._began_cpu_s = time.monotonic(), time.process_time()

    def leave_out(self, since: _Charge) -> float:
        """Charges nothing of what was taken since `since` was made; the seconds that have passed since then."""
        wall_s = time.monotonic() - since._began_s
        self._began_s += wall_s
        self._began_cpu_s += time.process_time() - since._began_cpu_s
        return wall_s

    def so_far_s(self) -> float:
        """Seconds."""
        wall_s, cpu_s = time.monotonic() - self._began_s, time.process_time() - self._began_cpu_s
        return min(wall_s, cpu_s) if self._is_on_cpu else wall_s


class _Meter:
    """Reads memory after calls of a candidate. Made before it is opened."""

    def __init__(self, gpu: GpuMemoryGrowth | None) -> None:
        self.uses: list[MemoryUse] = []
        self._gpu = gpu
        self._growth = MemoryGrowth()

    def read(self, rows: int) -> None:
        """Notes the peak, after a call with `rows` rows, where that is more rows than ever before."""
        if not self.uses or rows > self.uses[-1].rows:
            gpu_mb = None if self._gpu is None else self._gpu.now_mb()
            self.uses.append(MemoryUse(rows, self._growth.peak_mb(), gpu_mb))

    def take_over(self, uses: Sequence[MemoryUse]) -> None:
        """What the same variant took on the same backend with more rows than were seen here, and no less than here."""
        own = self.uses[-1]
        self.uses += [MemoryUse(use.rows, max(use.mb, own.mb), use.gpu_mb) for use in uses if use.rows > own.rows]


def reason_of(error: BaseException) -> str:
    """An error in one line, for the sentence of a candidate."""
    text = " ".join(str(error).split())
    return text[:500] if text else type(error).__name__


def _answers(
    opened: OpenedVariant, inputs: Rows, duration_s: float, meter: _Meter | None, least: int = 1, row_s: float = 0.0
) -> dict[str, Array]:
    """The outputs for the first rows, at least `least`, and for all where they do not take longer than `duration_s`.

    `row_s`: what a call with one row takes; where even the first batch would take too long it is of one row. Of a check in
    which a large batch would end the time early all are small.
    """
    parts: list[Mapping[str, Array]] = []
    start = time.monotonic()
    first, most = GUARD_BATCHES
    if least > 1 and most * row_s > duration_s / 2:
        most = first
    for rows, chunk in inputs.chunks(most, first if least > 1 or first * row_s <= duration_s else 1):
        began = time.monotonic()
        parts.append(opened.predict(chunk))
        ended = time.monotonic()
        size = rows.stop - rows.start if inputs.is_batched else 1
        if meter is not None:
            meter.read(size)
        next_s = (ended - began) / size * (most if inputs.is_batched else 1)
        if rows.stop >= least and ended - start + next_s > duration_s:
            break
    return {name: _joined([part[name] for part in parts]) for name in parts[0]}


def _joined(values: list[Array]) -> Array:
    return values[0] if len(values) == 1 or not values[0].ndim else np.concatenate(values)


def _first(value: Array, rows: int) -> Array:
    return value[:rows] if value.ndim else value


def _time_some(opened: OpenedVariant, inputs: Mapping[str, Array]) -> list[float]:
    """A few call times. The first call is not among them, nor the second of an engine that spent the first on choosing kernels
    (100 ms for 0.3 ms, cuDNN on an H100), unless it takes longer than all are given, or far longer.
    """
    first = _call_for(opened, inputs, 0.0)
    if first[0] > 1000 * ROUGH_TIME_S:
        again = first if first[0] > 1000 * FIRST_CALL_S else _call_for(opened, inputs, 0.0)
        if again[0] > 1000 * ROUGH_TIME_S:
            return again
    return _call_for(opened, inputs, ROUGH_TIME_S, ROUGH_CALLS)


def _call_for(
    opened: OpenedVariant, inputs: Mapping[str, Array], duration_s: float, most: int | None = None
) -> list[float]:
    """Milliseconds of each call, until the time is up or there are `most` calls; at least one call."""
    latencies_ms: list[float] = []
    end = time.perf_counter_ns() + int(duration_s * 1e9)
    while True:
        start = time.perf_counter_ns()
        opened.predict(inputs)
        stop = time.perf_counter_ns()
        latencies_ms.append((stop - start) / 1e6)
        if stop >= end or len(latencies_ms) == most:
            return latencies_ms


def _wait_until_quiet() -> None:
    """Returns once this process takes next to no processor time, or after `MAX_SETTLE_S`."""
    end = time.monotonic() + MAX_SETTLE_S
    while time.monotonic() < end:
        before, start = time.process_time(), time.monotonic()
        time.sleep(QUIET_STEP_S)
        if time.process_time() - before < QUIET_SHARE * (time.monotonic() - start):
            return
