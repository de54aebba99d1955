"""A measurement on a bench that exists only here: what is timed, swept, and lost when something fails."""

import random
from dataclasses import replace

import pytest

from runtime.backends.base import RunOptions
from runtime.bundle.manifest import Targets
from runtime.selection.bench import CandidateFailedError
from runtime.selection.candidates import Candidate
from runtime.selection.decide import rank
from runtime.selection.goal import Goal
from runtime.selection.latency import quantile
from runtime.selection.measure import Measurement, measure
from runtime.selection.memory_use import MemoryUse
from runtime.selection.settings import Objective
from tests.runtime.selection.fake_bench import FakeBench, Moments, SlowOnce, rows_checked_s, run
from tests.runtime.selection.fakes import FakeBackend, candidate


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
    assert result.trial_s == pytest.approx(0.2 + rows_checked_s(1.0 + 1.5 + 2.0 + 9.0, 9.0))
    assert 0 < result.measuring_s <= 3.1 - result.trial_s


@pytest.mark.parametrize("usual_s", [0.3, 1.0])
@pytest.mark.parametrize("p95_ms", [None, 0.8])
def test_on_a_machine_of_moments_who_was_dropped_early_is_not_chosen_for_its_quiet_ones(
    usual_s: float, p95_ms: float | None
) -> None:
    """Nine candidates 6 % apart; a p95 target that is met in quiet moments alone."""
    goal = Goal(targets=Targets(p95_latency_ms=p95_ms))
    dropped, off = 0, list[float]()
    for seed in range(16):
        names = [f"c{i}" for i in range(9)]
        random.Random(seed).shuffle(names)
        bench = FakeBench({name: 0.5 * 1.06 ** int(name[1]) for name in names})
        bench.moments = Moments(seed, usual_s)
        result = run(bench, names, goal)
        chosen, *others = rank(list(result.measured), goal)[0]
        dropped += chosen.rounds < max(m.rounds for m in others)
        assert chosen.candidate.variant.name in ("c0", "c1")
        for m in others:
            ratio = m.latency.median_ms / chosen.latency.median_ms
            truth = bench.ms[m.candidate.variant.name] / bench.ms[chosen.candidate.variant.name]
            off.append(abs(ratio / truth - 1))
    assert dropped <= 1, "of 16, and then for what the passes show that all of them shared"
    assert quantile(sorted(off), 0.8) < 0.05, "of a turn or three some stay wrong"


@pytest.mark.parametrize("seed", range(8))
def test_two_threads_that_are_faster_in_every_moment_are_not_tied_with_one(seed: int) -> None:
    bench = FakeBench({"two": 1.0, "one": 1.028})
    bench.moments = Moments(seed, 0.3)
    candidates = [candidate("two", 2), candidate("one", 1)]
    result = measure(bench, candidates, "two", Goal(), 3.0, seed, lambda: bench.now, lambda what, share: None)
    assert rank(list(result.measured), Goal())[0][0].candidate.variant.name == "two"


def test_who_would_win_is_checked_in_full_and_who_then_fails_does_not() -> None:
    bench = FakeBench(
        {"ref": 3.0, "lucky": 1.0, "unlucky": 2.0, "slow": 9.0}, {"lucky": 0.7, "unlucky": 0.95, "slow": 0.95}
    )
    bench.luck = {"lucky": 1.0, "unlucky": 0.875, "slow": 1.0}
    result = run(bench, ["ref", "lucky", "unlucky", "slow"], Goal(accuracy_floor=0.9))
    assert [entry[1] for entry in bench.log if entry[0] == "check"] == ["lucky", "unlucky"]
    guards = {m.candidate.variant.name: (m.guard.accuracy, m.guard.is_partial) for m in result.measured}
    assert guards == {"ref": (1.0, False), "lucky": (0.7, False), "unlucky": (0.95, False), "slow": (1.0, True)}


def test_a_candidate_that_fails_its_check_is_out() -> None:
    bench = FakeBench({"ref": 3.0, "bad": 1.0})
    bench.luck = {"bad": 1.0}
    bench.fails = lambda what, who, rows: CandidateFailedError("boom") if what == "check" else None
    result = run(bench, ["ref", "bad"])
    assert [m.candidate.variant.name for m in result.measured] == ["ref"]
    assert [str(r) for r in result.rejected] == ["bad on fake-cpu, 1 thread: boom"]


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


def test_who_wins_by_memory_is_timed_however_far_behind() -> None:
    bench = FakeBench({"fast": 1.0, "faster": 0.9, "small": 9.0})
    bench.memory_of = {"fast": 80.0, "faster": 90.0, "small": 5.0}
    result = run(bench, ["fast", "faster", "small"], Goal(objective=Objective.MEMORY))
    (small,) = (m for m in result.measured if m.candidate.variant.name == "small")
    assert small.latency.median_ms == 9.0, "and not the trial's 11.7"
    assert small.rounds == 1
    assert small.latency.turns >= 4


@pytest.mark.parametrize("p95_ms", [None, 12.0])
def test_who_is_timed_after_the_rounds_is_told_by_their_moments(p95_ms: float | None) -> None:
    """The machine takes 1.9 times as long from then on, which no figure of the rounds knows, and no target should."""
    bench = FakeBench({"fast": 1.0, "faster": 0.9, "small": 9.0})
    bench.memory_of = {"fast": 80.0, "faster": 90.0, "small": 5.0}
    bench.moments = slow_once = SlowOnce()
    bench.fails = lambda what, who, rows: slow_once.begin() if (what, who.variant.name) == ("time", "small") else None
    goal = Goal(objective=Objective.MEMORY, targets=Targets(p95_latency_ms=p95_ms))
    result = run(bench, ["fast", "faster", "small"], goal)
    best = rank(list(result.measured), goal)[0][0]
    assert best.candidate.variant.name == "small"
    assert best.latency.median_ms == pytest.approx(9.0)
    assert best.latency.p95_ms == pytest.approx(9.0)


def test_a_target_is_held_against_what_was_timed() -> None:
    bench = FakeBench({"large": 1.0, "small": 30.0, "tiny": 60.0})
    bench.trial_ratio = 0.5  # the trial was lucky: 15 ms
    bench.memory_of = {"large": 80.0, "small": 10.0, "tiny": 5.0}
    goal = Goal(objective=Objective.MEMORY, targets=Targets(p95_latency_ms=20))
    result = run(bench, ["large", "small", "tiny"], goal)
    assert rank(list(result.measured), goal)[0][0].candidate.variant.name == "large"
    bench = FakeBench({"large": 1.0, "small": 30.0})
    bench.memory_of = {"large": 80.0, "small": 10.0}
    bench.trial_ratio = 0.5
    bench.fails = lambda what, who, rows: (
        CandidateFailedError("boom") if what == "time" and "small" in who.key else None
    )
    result = run(bench, ["large", "small"], goal)
    assert [str(r) for r in result.rejected] == ["small on fake-cpu, 1 thread: boom"]


def test_throughput_is_compared_in_large_batches() -> None:
    bench = FakeBench({"a": 1.0, "b": 1.2})
    result = run(bench, ["a", "b"], Goal(objective=Objective.THROUGHPUT))
    assert all(m.rows == 32 for m in result.measured)
    assert next(entry for entry in bench.log if entry[0] == "time")[2] == 32
    assert [rows for rows, _ in result.measured[0].latencies] == [1, 8, 32]


EFFICIENCY = Goal(objective=Objective.EFFICIENCY)


def chosen(result: Measurement, goal: Goal) -> str:
    return rank(list(result.measured), goal)[0][0].candidate.variant.name


def test_for_efficiency_those_about_as_fast_as_any_take_turns_in_batches() -> None:
    bench = FakeBench({"two": 0.100, "one": 0.105, "slow": 0.2})
    bench.threads = {"two": 2}
    result = run(bench, ["two", "one", "slow"], EFFICIENCY)
    busy = {m.candidate.variant.name: dict(m.busy) for m in result.measured}
    assert busy["two"][1] == pytest.approx(0.2)
    assert busy["one"][8] == pytest.approx(0.105 * 8**0.8)
    assert 8 not in busy["slow"]
    assert chosen(result, EFFICIENCY) == "one"
    assert chosen(run(bench, ["two", "one", "slow"]), Goal()) == "two"
    assert result.trial_s + result.measuring_s <= 3.1
    assert [rows for rows, _ in result.measured[1].latencies] == [1, 8, 32], "the chosen one is swept as ever"


@pytest.mark.parametrize("usual_s", [0.3, 0.5])
def test_for_efficiency_a_moment_of_the_machine_is_on_nobodys_account(usual_s: float) -> None:
    """On a machine where every call takes 1.9 times as long for a while, which no single thread is to blame for."""
    wrong = 0
    for seed in range(30):
        bench = FakeBench({f"c{at}": 0.100 + 0.005 * at for at in range(6)})
        bench.threads = {f"c{at}": 2 for at in range(5)}
        bench.moments = Moments(seed, usual_s)
        wrong += chosen(run(bench, list(bench.ms), EFFICIENCY), EFFICIENCY) != "c5"
    assert wrong <= 1, "of 30; by the medians of each one's own turns 6 and 3"


def test_for_efficiency_a_large_model_is_decided_upon_without_batches() -> None:
    bench = FakeBench({"two": 60.0, "one": 62.0})
    bench.threads = {"two": 2}
    result = run(bench, ["two", "one"], EFFICIENCY)
    assert {tuple(rows for rows, _ in m.busy) for m in result.measured} == {(1,)}
    assert chosen(result, EFFICIENCY) == "one"


def test_for_efficiency_batches_above_the_memory_cap_are_not_measured() -> None:
    bench = FakeBench({"two": 0.100, "one": 0.105})
    bench.memory = (MemoryUse(1, 65.0), MemoryUse(8, 529.0))
    goal = replace(EFFICIENCY, memory_cap_mb=100.0)
    assert {tuple(rows for rows, _ in m.busy) for m in run(bench, ["two", "one"], goal).measured} == {(1,)}


def test_for_efficiency_who_fails_in_batches_is_out_and_the_others_are_compared() -> None:
    bench = FakeBench({"two": 0.100, "one": 0.105, "frail": 0.102})
    bench.threads = {"two": 2}
    bench.fails = lambda what, who, rows: (
        CandidateFailedError("boom") if (what, who.variant.name, rows) == ("time", "frail", 8) else None
    )
    result = run(bench, ["two", "one", "frail"], EFFICIENCY)
    assert [str(r) for r in result.rejected] == ["frail on fake-cpu, 1 thread: boom"]
    assert all(8 in dict(m.busy) for m in result.measured)
    assert chosen(result, EFFICIENCY) == "one"


def test_nothing_to_try_is_an_empty_measurement() -> None:
    bench = FakeBench({})
    result = measure(bench, [], "a", Goal(), 1.0, 0, lambda: bench.now, lambda what, share: None)
    assert (result.measured, result.rejected) == ((), ())


def test_options_are_kept() -> None:
    bench = FakeBench({"a": 1.0})
    given = Candidate(candidate("a").variant, FakeBackend(), RunOptions(2, {"spinning": "0"}))
    result = measure(bench, [given], "a", Goal(), 0.1, 0, lambda: bench.now, lambda what, share: None)
    assert result.measured[0].candidate is given
