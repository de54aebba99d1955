"""A measurement on a bench that exists only here: what is tried, timed, swept, and lost when something fails."""

from collections.abc import Callable

import pytest

from runtime.backends.base import RunOptions
from runtime.selection.bench import Bench, CandidateFailedError, Trial
from runtime.selection.candidates import Candidate
from runtime.selection.decide import Goal
from runtime.selection.guard import GuardResult
from runtime.selection.measure import Measurement, measure
from runtime.selection.memory_use import MemoryUse
from runtime.selection.settings import Objective
from tests.runtime.selection.fakes import FakeBackend, candidate


class FakeBench:
    """Latencies by variant name, on a clock of its own."""

    def __init__(self, ms: dict[str, float], accuracy: dict[str, float] | None = None) -> None:
        self.now = 0.0
        self.log: list[tuple[str, str, int]] = []
        self.references: list[str | None] = []
        self.fails: Callable[[str, Candidate, int], CandidateFailedError | None] = lambda what, who, rows: None
        self.ms = ms
        self.memory: tuple[MemoryUse, ...] = (MemoryUse(1, 5.0),)
        self._accuracy = accuracy or {}

    def try_out(self, candidate: Candidate, reference: Candidate | None, rows: int) -> Trial:
        self._enter("try", candidate, rows)
        self.references.append(reference.variant.name if reference else None)
        self.now += 0.05
        guard = GuardResult(10, self._accuracy.get(candidate.variant.name, 1.0), 1.0)
        latencies = tuple((size, (self._cost(candidate, size) * 1.3,) * 3) for size in sorted({1, rows}))
        return Trial(guard, True, self.memory, latencies, (1, 8, 32))

    def time(self, candidate: Candidate, rows: int, duration_s: float) -> list[float]:
        self._enter("time", candidate, rows)
        ms = self._cost(candidate, rows)
        calls = max(1, int(1000 * duration_s / ms))
        self.now += calls * ms / 1000
        return [ms] * calls

    def close(self) -> None:
        pass

    def _enter(self, what: str, candidate: Candidate, rows: int) -> None:
        self.log.append((what, candidate.variant.name, rows))
        if (error := self.fails(what, candidate, rows)) is not None:
            raise error

    def _cost(self, candidate: Candidate, rows: int) -> float:
        return self.ms[candidate.variant.name] * rows**0.8


def run(bench: FakeBench, names: list[str], goal: Goal | None = None, budget_s: float = 3.0) -> Measurement:
    candidates = [candidate(name) for name in names]
    checked: Bench = bench
    return measure(
        checked, candidates, names[0], goal or Goal(), budget_s, 0, lambda: bench.now, lambda what, share: None
    )


def test_the_promising_are_timed_and_the_two_best_swept_over_batch_sizes() -> None:
    bench = FakeBench({"a": 1.0, "b": 1.5, "c": 2.0, "far": 9.0})
    result = run(bench, ["a", "b", "c", "far"])
    by_name = {m.candidate.variant.name: m for m in result.measured}
    assert by_name["a"].latency.median_ms == 1.0  # measured, no longer the trial's figure
    assert by_name["far"].latency.median_ms == pytest.approx(11.7)
    assert by_name["far"].rounds == 0
    assert [rows for rows, _ in by_name["a"].latencies] == [1, 8, 32]
    assert [rows for rows, _ in by_name["b"].latencies] == [1, 8, 32]
    assert [rows for rows, _ in by_name["c"].latencies] == [1]
    assert ("time", "far", 1) not in bench.log
    assert result.trial_s == pytest.approx(0.2)
    assert 0 < result.measuring_s <= 3.1


def test_the_reference_is_tried_first_and_then_compared_with() -> None:
    bench = FakeBench({"ref": 1.0, "b": 1.0})
    candidates = [candidate("b"), candidate("ref")]
    measure(bench, candidates, "ref", Goal(), 0.2, 0, lambda: bench.now, lambda what, share: None)
    assert bench.log[:2] == [("try", "ref", 1), ("try", "b", 1)]
    assert bench.references == ["ref", "ref"]


def test_a_reference_that_fails_is_replaced_by_its_next_way_to_run_or_by_none() -> None:
    bench = FakeBench({"ref": 1.0, "b": 1.0})
    bench.fails = lambda what, who, rows: (
        CandidateFailedError("no") if who.options.threads == 1 and "ref" in who.key else None
    )
    candidates = [candidate("ref", 1), candidate("ref", 2), candidate("b")]
    measure(bench, candidates, "ref", Goal(), 0.2, 0, lambda: bench.now, lambda what, share: None)
    assert bench.references == ["ref", "ref"]
    bench = FakeBench({"ref": 1.0, "b": 1.0})
    bench.fails = lambda what, who, rows: CandidateFailedError("no") if "ref" in who.key else None
    measure(bench, candidates, "ref", Goal(), 0.2, 0, lambda: bench.now, lambda what, share: None)
    assert bench.references == [None]


def test_who_is_below_the_floor_is_not_timed() -> None:
    bench = FakeBench({"a": 1.0, "wrong": 0.1}, {"wrong": 0.2})
    result = run(bench, ["a", "wrong"], Goal(accuracy_floor=0.9))
    assert ("time", "wrong", 1) not in bench.log
    assert ("time", "a", 1) in bench.log  # though far slower than the wrong one
    assert len(result.measured) == 2


@pytest.mark.parametrize("what", ["try", "time"])
def test_who_fails_is_out_with_its_reason_and_the_rest_go_on(what: str) -> None:
    bench = FakeBench({"a": 1.0, "bad": 0.5})
    bench.fails = lambda at, who, rows: CandidateFailedError("boom") if at == what and "bad" in who.key else None
    result = run(bench, ["a", "bad"])
    assert [m.candidate.variant.name for m in result.measured] == ["a"]
    assert [str(r) for r in result.rejected] == ["bad on fake-cpu, 1 thread: boom"]


def test_after_a_hang_the_same_pair_is_not_tried_again() -> None:
    bench = FakeBench({"a": 1.0, "b": 1.0})
    bench.fails = lambda what, who, rows: (
        CandidateFailedError("it hung", is_hang=True) if "a" in who.variant.name else None
    )
    candidates = [candidate("a", 1), candidate("a", 2), candidate("a", 1, FakeBackend(name="other")), candidate("b")]
    result = measure(bench, candidates, "b", Goal(), 0.2, 0, lambda: bench.now, lambda what, share: None)
    assert [str(r) for r in result.rejected] == [
        "a on fake-cpu, 1 thread: it hung",
        "a on fake-cpu, 2 threads: not tried, since 1 thread hung",
        "a on other, 1 thread: it hung",
    ]


def test_a_failure_in_the_sweep_costs_only_that_point() -> None:
    bench = FakeBench({"a": 1.0})
    bench.fails = lambda what, who, rows: CandidateFailedError("too large") if what == "time" and rows == 32 else None
    result = run(bench, ["a"])
    assert [rows for rows, _ in result.measured[0].latencies] == [1, 8]


def test_batches_that_do_not_fit_into_the_budget_are_left_out() -> None:
    bench = FakeBench({"a": 200.0})
    result = run(bench, ["a"])
    assert [rows for rows, _ in result.measured[0].latencies] == [1]
    assert bench.now < 3.5


def test_batches_above_the_memory_cap_are_not_measured() -> None:
    bench = FakeBench({"a": 1.0})
    bench.memory = (MemoryUse(1, 65.0), MemoryUse(8, 90.0), MemoryUse(32, 529.0))
    result = run(bench, ["a"], Goal(memory_cap_mb=100.0))
    assert [rows for rows, _ in result.measured[0].latencies] == [1, 8]
    assert ("time", "a", 32) not in bench.log


def test_the_best_of_every_device_is_swept_too() -> None:
    bench = FakeBench({"gpu": 1.0, "gpu-2": 1.1, "cpu": 4.0, "cpu-slow": 6.0})
    on_gpu = FakeBackend("fake-gpu", "gpu")
    candidates = [candidate(name, backend=on_gpu if "gpu" in name else None) for name in bench.ms]
    result = measure(bench, candidates, "gpu", Goal(), 3.0, 0, lambda: bench.now, lambda what, share: None)
    swept = {m.candidate.variant.name: [rows for rows, _ in m.latencies] for m in result.measured}
    assert swept == {"gpu": [1, 8, 32], "gpu-2": [1, 8, 32], "cpu": [1, 8, 32], "cpu-slow": [1]}
    (takes_over,) = (m for m in result.measured if m.candidate.variant.name == "cpu")
    assert takes_over.cost.best_batch() == 32


def test_throughput_is_compared_in_large_batches() -> None:
    bench = FakeBench({"a": 1.0, "b": 1.2})
    result = run(bench, ["a", "b"], Goal(objective=Objective.THROUGHPUT))
    assert all(m.rows == 32 for m in result.measured)
    assert next(entry for entry in bench.log if entry[0] == "time")[2] == 32
    assert [rows for rows, _ in result.measured[0].latencies] == [1, 8, 32]


def test_nothing_to_try_is_an_empty_measurement() -> None:
    bench = FakeBench({})
    result = measure(bench, [], "a", Goal(), 1.0, 0, lambda: bench.now, lambda what, share: None)
    assert (result.measured, result.rejected) == ((), ())


def test_options_are_kept() -> None:
    bench = FakeBench({"a": 1.0})
    given = Candidate(candidate("a").variant, FakeBackend(), RunOptions(2, {"spinning": "0"}))
    result = measure(bench, [given], "a", Goal(), 0.1, 0, lambda: bench.now, lambda what, share: None)
    assert result.measured[0].candidate is given
