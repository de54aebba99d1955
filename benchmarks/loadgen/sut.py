"""The system under test, in a process of its own: LoadGen asks, threads pass its queries to a target.

    python -m benchmarks.loadgen.sut < order.json

LoadGen keeps global state, so a process runs one scenario. It calls `issue` when a query is due: that only enqueues, because
the time it takes is LoadGen's. The last line of stdout is `done` or `failed`, as JSON; the results are LoadGen's own logs.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from queue import SimpleQueue
from typing import Any

import numpy as np

from benchmarks.load import code_of
from benchmarks.loadgen.plan import Mode, Order
from benchmarks.scenarios import Kind
from benchmarks.target import Origin, Target
from benchmarks.targets import make_target, rows_of
from runtime.errors import EdgewardError, WrongUseError
from runtime.selection.rows import Rows
from runtime.tensors import Array

USER_CONF = "user.conf"
WARM_UP_CALLS = 20
# LoadGen plans twice the queries that it expects to need: a target that is faster than that would run out of them.
FASTER_FACTOR = 4.0


class Pool:
    """Threads that take LoadGen's queries from a queue, ask the target and hand the answers back."""

    def __init__(self, loadgen: Any, target: Target, rows: Rows, order: Order) -> None:
        self.errors: dict[str, int] = {}
        self.origins: set[Origin] = set()
        self._loadgen = loadgen
        self._target = target
        self._rows = rows
        self._order = order
        self._size = order.rules.rows(order.kind)
        self._wants_answers = order.mode is Mode.ACCURACY
        self._queue: SimpleQueue[Sequence[Any] | None] = SimpleQueue()
        self._names = threading.Lock()
        self._failure: BaseException | None = None
        self._threads = [
            threading.Thread(target=self._work, daemon=True) for _ in range(order.rules.workers(order.kind))
        ]
        for thread in self._threads:
            thread.start()

    def issue(self, samples: Sequence[Any]) -> None:
        """LoadGen's IssueQuery: cuts a query into requests and enqueues them, nothing else."""
        for start in range(0, len(samples), self._size):
            self._queue.put(samples[start : start + self._size])

    def close(self) -> None:
        """Ends the threads; raises what one of them raised that is no error of a request."""
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join()
        if self._failure is not None:
            raise self._failure

    def _work(self) -> None:
        while (samples := self._queue.get()) is not None:
            answers: list[int] = []
            try:
                answer = self._target.infer(pick(self._rows, [sample.index for sample in samples]))
                self.origins.add(answer.origin)
                answers = classes_of(answer.outputs) if self._wants_answers else []
            except EdgewardError as error:
                with self._names:
                    name = code_of(error)
                    self.errors[name] = self.errors.get(name, 0) + 1
            except BaseException as error:  # the outermost loop of a thread: `close` raises it
                self._failure = error
            self._complete(samples, answers)

    def _complete(self, samples: Sequence[Any], answers: Sequence[int]) -> None:
        """Every query is completed, also a failed one: LoadGen waits for it. Its answer is then the class -1."""
        response = self._loadgen.QuerySampleResponse
        if not self._wants_answers:
            self._loadgen.QuerySamplesComplete([response(sample.id, 0, 0) for sample in samples])
            return
        data = array("i", answers or [-1] * len(samples))
        address, _ = data.buffer_info()  # LoadGen copies it before the call returns
        self._loadgen.QuerySamplesComplete(
            [
                response(sample.id, address + place * data.itemsize, data.itemsize)
                for place, sample in enumerate(samples)
            ]
        )


def pick(rows: Rows, indices: Sequence[int]) -> dict[str, Array]:
    """Inputs of one request with these rows."""
    if not rows.is_batched:
        raise WrongUseError("the model takes no batch; LoadGen's samples are rows of one")
    batched = {spec.name for spec in rows.specs if spec.is_batched}
    return {
        name: np.ascontiguousarray(value[list(indices)]) if name in batched else value
        for name, value in rows.inputs.items()
    }


def classes_of(outputs: Mapping[str, Array]) -> list[int]:
    """The most likely class of each row, from the first output."""
    first = next(iter(outputs.values()))
    return [int(number) for number in first.reshape(len(first), -1).argmax(axis=1)]


def run(order: Order, loadgen: Any) -> dict[str, Any]:
    """Has LoadGen run the order; what is known beside its logs."""
    target = make_target(order.setting, order.rules.timeout_s, order.access)
    try:
        target.open()
        description = target.describe()
        rows = rows_of(order.setting, description.inputs, seed=1)
        if order.mode is Mode.ACCURACY and (rows.is_random or rows.labels is None):
            raise WrongUseError(
                f"the accuracy of {order.setting.model!r} cannot be checked: its bundle has no labelled samples"
            )
        settings = _settings(order, loadgen, warm_up_s(target, rows, order))
        pool = Pool(loadgen, target, rows, order)
        sut = loadgen.ConstructSUT(pool.issue, _nothing)
        qsl = loadgen.ConstructQSL(len(rows), len(rows), _nothing_with, _nothing_with)
        try:
            loadgen.StartTestWithLogSettings(sut, qsl, settings, _log_settings(order, loadgen), "")
        finally:
            loadgen.DestroyQSL(qsl)
            loadgen.DestroySUT(sut)
            pool.close()
    finally:
        target.close()
    return {
        "description": asdict(description) | {"inputs": [f"{spec.name} {spec}" for spec in description.inputs]},
        "errors": pool.errors,
        "backend": "; ".join(sorted(origin.backend for origin in pool.origins if origin.backend)),
        "samples": len(rows),
        "is_input_random": rows.is_random,
    }


def warm_up_s(target: Target, rows: Rows, order: Order) -> float:
    """The least seconds that one request of the scenario took, of a few; errors of the caller show here."""
    size = order.rules.rows(order.kind)
    inputs = pick(rows, [number % len(rows) for number in range(size)])
    fastest = float("inf")
    for _ in range(WARM_UP_CALLS):
        started = time.perf_counter()
        target.infer(inputs)
        fastest = min(fastest, time.perf_counter() - started)
    return fastest


def _settings(order: Order, loadgen: Any, fastest_s: float) -> Any:
    rules = order.rules
    settings = loadgen.TestSettings()
    conf = order.folder / USER_CONF
    conf.write_text(
        "# Seeds and rules are those of the mlperf.conf that LoadGen carries; figures are set by the caller.\n"
    )
    settings.FromConfig(str(conf), "edgeward", order.kind.shape.loadgen_name)
    settings.scenario = getattr(loadgen.TestScenario, order.kind.shape.loadgen_name)
    settings.mode = loadgen.TestMode.AccuracyOnly if order.mode is Mode.ACCURACY else loadgen.TestMode.PerformanceOnly
    settings.min_duration_ms = round(rules.duration_s * 1000)
    settings.min_query_count = rules.min_queries
    settings.single_stream_expected_latency_ns = max(1, round(fastest_s * 1e9 / FASTER_FACTOR))
    settings.multi_stream_expected_latency_ns = settings.single_stream_expected_latency_ns
    settings.multi_stream_samples_per_query = rules.multi_rows
    settings.server_target_qps = rules.qps
    settings.server_target_latency_ns = round(rules.bound_ms * 1e6)
    settings.server_target_latency_percentile = 0.99
    settings.offline_expected_qps = rules.rows(Kind.OFFLINE) * rules.workers(Kind.OFFLINE) / fastest_s
    return settings


def _log_settings(order: Order, loadgen: Any) -> Any:
    log = loadgen.LogSettings()
    log.log_output.outdir = str(order.folder)
    log.log_output.copy_summary_to_stdout = False
    log.enable_trace = order.is_traced
    return log


def _nothing() -> None:
    pass


def _nothing_with(indices: Sequence[int]) -> None:
    """Rows are in memory already: there is nothing to load or unload."""


def main() -> int:
    """Runs the order on stdin; exit code 0 when LoadGen ran to its end."""
    order = Order.from_dict(json.loads(sys.stdin.readline()))
    try:
        import mlperf_loadgen

        done = run(order, mlperf_loadgen)
    except EdgewardError as error:
        print(json.dumps({"event": "failed", "error": type(error).__name__, "text": str(error)}), flush=True)
        return 1
    print(json.dumps({"event": "done", **done}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
