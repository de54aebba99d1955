"""A measurement on a bench that exists only here: what is tried, timed, swept, and lost when something fails."""

import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from runtime.backends.base import RunOptions
from runtime.bundle.manifest import Format, Targets, Variant
from runtime.hardware import Hardware
from runtime.hardware.isa import IsaFeature
from runtime.selection.bench import LEAST_CHECKED_ROWS, Bench, CandidateFailedError, Trial
from runtime.selection.candidates import Candidate
from runtime.selection.decide import rank, refusal
from runtime.selection.goal import Goal
from runtime.selection.guard import GuardResult
from runtime.selection.latency import quantile
from runtime.selection.measure import Measurement, measure
from runtime.selection.memory_use import MemoryUse
from runtime.selection.settings import Objective
from runtime.selection.trying import PROMISE, WITH_INT8_DOT, order_of_trying, promise_on
from tests.runtime.selection.fakes import FakeBackend, candidate, machine


def rows_checked_s(ms: float, check_s: float) -> float:
    """Eight rows, or one where those take too long: what every trial checks."""
    return (8 if 0.008 * ms <= check_s else 1) * ms / 1000


class Moments:
    """A machine that others use: for about `usual_s` at a time every call takes 1.9 times as long, or does not. Seeded."""

    def __init__(self, seed: int, usual_s: float) -> None:
        self._random = random.Random(seed)
        self._usual_s = usual_s
        self._is_busy = self._random.random() < 0.5
        self._until = 0.0

    def turn(self, ms: float, calls: int, now: float) -> list[float]:
        while now >= self._until:
            self._is_busy = not self._is_busy
            self._until += self._random.expovariate(1 / self._usual_s)
        return [ms * (1.9 if self._is_busy else 1.0) * self._random.gauss(1, 0.03) for _ in range(calls)]


class SlowOnce(Moments):
    """A machine of its own until it begins to be slow, and then for good."""

    def __init__(self) -> None:
        super().__init__(0, 1.0)
        self._factor = 1.0

    def begin(self) -> None:
        self._factor = 1.9

    def turn(self, ms: float, calls: int, now: float) -> list[float]:
        return [ms * self._factor] * calls


class FakeBench:
    """Latencies by variant name, on a clock of its own."""

    def __init__(self, ms: dict[str, float], accuracy: dict[str, float] | None = None) -> None:
        self.now = 0.0
        self.log: list[tuple[str, str, int]] = []
        self.references: list[str | None] = []
        self.fails: Callable[[str, Candidate, int], CandidateFailedError | None] = lambda what, who, rows: None
        self.ms = ms
        self.luck: dict[str, float] = {}
        """Accuracy of the first rows, of variants that are not checked on more in their trial."""
        self.loading_s = 0.0
        self.others = 1.0
        """How many times as long trials take by the clock as by the processor's: other programs run beside them."""
        self.memory: tuple[MemoryUse, ...] = (MemoryUse(1, 5.0),)
        self.memory_of: dict[str, float] = {}
        self.trial_ratio = 1.3
        """What calls of a trial take, as a share of those of a turn."""
        self.moments: Moments | None = None
        """Of turns; None: a machine of its own, where every call takes the same."""
        self._accuracy = accuracy or {}

    def try_out(self, candidate: Candidate, reference: Candidate | None, rows: int, check_s: float) -> Trial:
        self._enter("try", candidate, rows)
        self.references.append(reference.variant.name if reference else None)
        effort_s = 0.05 + rows_checked_s(self.ms[candidate.variant.name], check_s)
        self.now += self.loading_s + effort_s * self.others
        seen = self.luck.get(candidate.variant.name, self._accuracy.get(candidate.variant.name, 1.0))
        guard = GuardResult(8, seen, 1.0, is_partial=candidate.variant.name in self.luck)
        latencies = tuple((size, (self._cost(candidate, size) * self.trial_ratio,) * 3) for size in sorted({1, rows}))
        own = self.memory_of.get(candidate.variant.name)
        memory = self.memory if own is None else (MemoryUse(1, own),)
        return Trial(guard, True, memory, latencies, (1, 8, 32), self.loading_s, effort_s)

    def check(self, candidate: Candidate, reference: Candidate | None, within_s: float) -> GuardResult:
        self._enter("check", candidate, 64)
        row_s = self.ms[candidate.variant.name] / 1000
        rows = min(64, max(LEAST_CHECKED_ROWS, int(within_s / row_s)))
        self.now += rows * row_s
        return GuardResult(rows, self._accuracy.get(candidate.variant.name, 1.0), 1.0, is_partial=rows < 64)

    def time(self, candidate: Candidate, rows: int, duration_s: float) -> list[float]:
        self._enter("time", candidate, rows)
        ms = self._cost(candidate, rows)
        calls = max(1, int(1000 * duration_s / ms))
        taken = [ms] * calls if self.moments is None else self.moments.turn(ms, calls, self.now)
        self.now += sum(taken) / 1000
        return taken

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


def test_the_reference_is_tried_first_and_then_compared_with() -> None:
    bench = FakeBench({"ref": 1.0, "b": 1.0})
    candidates = [candidate("b"), candidate("ref")]
    measure(bench, candidates, "ref", Goal(), 0.2, 0, lambda: bench.now, lambda what, share: None)
    assert bench.log[:2] == [("try", "ref", 1), ("try", "b", 1)]
    assert bench.references == ["ref", "ref"]


def test_a_reference_whose_answers_are_known_has_no_precedence() -> None:
    bench = FakeBench({"ref": 1.0, "b": 1.0})
    measure(
        bench, [candidate("b"), candidate("ref")], None, Goal(), 0.2, 0, lambda: bench.now, lambda what, share: None
    )
    assert bench.log[:2] == [("try", "b", 1), ("try", "ref", 1)]
    assert bench.references == [None, None]


def test_a_program_of_pytorch_is_tried_last_unless_the_others_are_compared_with_it() -> None:
    program = candidate("model.pt2")
    program = replace(program, variant=program.variant.model_copy(update={"format": Format.TORCH}))
    slow = candidate("fp16")
    slow = replace(slow, variant=slow.variant.model_copy(update={"precision": "fp16"}))
    three = [program, slow, candidate("fp32")]
    assert [c.variant.name for c in order_of_trying(three, None)[0]] == ["fp32", "fp16", "model.pt2"]
    assert [c.variant.name for c in order_of_trying(three, "model.pt2")[0]] == ["model.pt2", "fp32", "fp16"]


def test_one_engine_after_the_other_is_looked_at_by_the_promise_of_its_variants() -> None:
    def of(precision: str, backend: str) -> Candidate:
        made = candidate(precision, backend=FakeBackend(name=backend))
        return replace(made, variant=made.variant.model_copy(update={"precision": precision}))

    made = [of(p, b) for p, b in (("fp32", "a"), ("int8", "a"), ("int8", "b"), ("dynamic-int8", "c"), ("fp16", "a"))]
    assert [c.pair for c in order_of_trying(made, None)[0]] == [
        *(("int8", "a"), ("dynamic-int8", "c"), ("fp32", "a"), ("int8", "b"), ("fp16", "a"))
    ]
    assert [c.pair for c in order_of_trying(made, None, WITH_INT8_DOT)[0]] == [
        *(("int8", "a"), ("dynamic-int8", "c"), ("int8", "b"), ("fp32", "a"), ("fp16", "a"))
    ]


def test_int8_promises_more_where_one_instruction_multiplies_it() -> None:
    hardware = machine()

    def on(*features: IsaFeature) -> Hardware:
        return replace(hardware, cpu=replace(hardware.cpu, features=features))

    assert promise_on(on(IsaFeature.AVX2, IsaFeature.FMA)) is PROMISE
    assert promise_on(on(IsaFeature.AVX512F, IsaFeature.AVX512_VNNI)) is WITH_INT8_DOT
    assert promise_on(on(IsaFeature.NEON, IsaFeature.DOTPROD)) is WITH_INT8_DOT


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
        "a on fake-cpu, 2 threads: it hung",
        "a on other, 1 thread: it hung",
        "a on fake-cpu, 1 thread: not tried, since 2 threads hung",
    ]


def test_a_hang_takes_no_time_from_what_others_are_measured_in() -> None:
    def measuring_s(hang_s: float) -> float:
        bench = FakeBench({"a": 1.0, "b": 1.1, "hangs": 1.0})

        def fails(what: str, who: Candidate, rows: int) -> CandidateFailedError | None:
            if who.variant.name != "hangs":
                return None
            bench.now += hang_s
            return CandidateFailedError("it hung", is_hang=True)

        bench.fails = fails
        return run(bench, ["a", "b", "hangs"]).measuring_s

    assert measuring_s(30.0) == pytest.approx(measuring_s(0.0))


def ways_to_run(bench: FakeBench, precisions: dict[str, str]) -> list[Candidate]:
    """Every variant of `bench` on two backends, on one, two and four threads."""
    return [
        Candidate(precise(name, precisions[name]), FakeBackend(name=backend), RunOptions(threads))
        for name in bench.ms
        for backend in ("one", "other")
        for threads in (1, 2, 4)
    ]


def precise(name: str, precision: str) -> Variant:
    return candidate(name).variant.model_copy(update={"precision": precision})


def test_trials_checks_and_measuring_stay_within_the_budget() -> None:
    """Like ResNet-50 on this project's first machine, whose check alone took 2 s of the 3 s."""
    bench = FakeBench({"fp32": 60.0, "int8": 30.0, "far": 400.0})
    bench.luck = dict.fromkeys(bench.ms, 1.0)
    bench.loading_s = 0.4  # of each, and no trial
    candidates = ways_to_run(bench, {"fp32": "fp32", "int8": "int8", "far": "fp16"})
    result = measure(bench, candidates, "fp32", Goal(), 3.0, 0, lambda: bench.now, lambda what, share: None)
    assert result.trial_s + result.measuring_s == pytest.approx(bench.now - result.loading_s)
    assert result.trial_s + result.measuring_s <= 3.0
    looks = [name for what, name, _ in bench.log if what == "try"]
    assert looks[:5] == ["fp32", "int8", "int8", "fp32", "far"], "the most promising first"
    reasons = [rejected.reason for rejected in result.rejected]
    assert reasons.count("not tried: no time was left for it in the budget of 3 s") == result.untried > 0
    assert len(looks) + len(reasons) == len(candidates)
    fastest = min(result.measured, key=lambda m: m.latency.median_ms)
    assert (fastest.candidate.variant.name, fastest.guard.rows >= LEAST_CHECKED_ROWS) == ("int8", True)


def test_of_a_model_that_leaves_no_time_two_are_tried_and_the_choice_is_right() -> None:
    """Sixteen times as slow, on a small card: int8 is twice as fast there too."""
    bench = FakeBench({"fp16": 1800.0, "fp32": 960.0, "int8": 480.0})
    bench.luck = dict.fromkeys(bench.ms, 1.0)
    candidates = ways_to_run(bench, {name: name for name in bench.ms})
    result = measure(bench, candidates, "fp32", Goal(), 1.0, 0, lambda: bench.now, lambda what, share: None)
    assert [name for what, name, _ in bench.log if what == "try"] == ["fp32", "int8"]
    assert result.untried == len(candidates) - 2
    assert [name for what, name, _ in bench.log if what == "check"] == ["int8"]
    (checked,) = (m for m in result.measured if m.candidate.variant.name == "int8")
    assert (checked.guard.rows, checked.guard.is_partial) == (LEAST_CHECKED_ROWS, True)


@pytest.mark.parametrize(
    ("ms", "lucky", "tried"),
    [
        (480.0, True, ["quick", "other", "exact"]),
        (480.0, False, ["quick", "other", "exact"]),
        (1800.0, True, ["quick", "exact"]),
        (1800.0, False, ["quick", "other", "exact"]),
    ],
)
def test_where_the_answers_are_known_one_in_fp32_is_tried_however_late(
    ms: float, lucky: bool, tried: list[str]
) -> None:
    """A slow machine and two int8 variants that are both wrong, on the first rows or only when one is checked in full."""
    bench = FakeBench({"quick": ms, "other": ms, "exact": 2 * ms, "program": 2 * ms}, {"quick": 0.1, "other": 0.1})
    bench.luck = {"quick": 1.0, "other": 1.0} if lucky else {}
    precisions = {"quick": "int8", "other": "int8", "exact": "fp32", "program": "fp32"}
    candidates = [Candidate(precise(name, precisions[name]), FakeBackend(), RunOptions(1)) for name in bench.ms]
    torch = candidates[3].variant.model_copy(update={"format": Format.TORCH})
    candidates[3] = replace(candidates[3], variant=torch)
    goal = Goal(accuracy_floor=0.9)
    result = measure(bench, candidates, None, goal, 1.0, 0, lambda: bench.now, lambda what, share: None)
    assert [name for what, name, _ in bench.log if what == "try"] == tried
    assert [m.candidate.variant.name for m in result.measured if refusal(m, goal) is None] == ["exact"]


def test_what_other_programs_take_is_not_held_against_candidates() -> None:
    """A small model on a busy machine: that its looks take ten times as long is no reason to try fewer."""
    bench = FakeBench({"fp32": 1.0, "int8": 0.5})
    bench.others = 10.0
    candidates = ways_to_run(bench, {name: name for name in bench.ms})
    result = measure(bench, candidates, "fp32", Goal(), 3.0, 0, lambda: bench.now, lambda what, share: None)
    assert result.trial_s > 3.0
    assert (result.untried, len(result.measured)) == (0, len(candidates))


def test_looks_that_last_long_leave_the_budget_its_rest() -> None:
    """A middling model on a busy machine: looks are cheap by what they take, but not by the clock on the wall."""
    bench = FakeBench({"fp32": 40.0, "int8": 20.0, "fp16": 40.0, "bf16": 40.0})
    bench.luck = dict.fromkeys(bench.ms, 1.0)
    bench.others = 3.0
    candidates = ways_to_run(bench, {name: name for name in bench.ms})
    result = measure(bench, candidates, "fp32", Goal(), 3.0, 0, lambda: bench.now, lambda what, share: None)
    assert result.trial_s + result.measuring_s <= 3.0
    assert min(result.measured, key=lambda m: m.latency.median_ms).candidate.variant.name == "int8"


def test_other_ways_to_run_a_pair_that_is_far_behind_are_not_tried() -> None:
    bench = FakeBench({"a": 1.0, "far": 9.0})
    candidates = [candidate(name, threads) for name in ("a", "far") for threads in (1, 2)]
    result = measure(bench, candidates, "a", Goal(), 3.0, 0, lambda: bench.now, lambda what, share: None)
    assert [entry[1] for entry in bench.log if entry[0] == "try"] == ["a", "far", "a"]
    (reason,) = (str(rejected) for rejected in result.rejected)
    assert reason.startswith(
        "far on fake-cpu, 1 thread: not tried, since it is far behind with other options (11.7 ms)"
    )
    assert result.untried == 0


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


def test_nothing_to_try_is_an_empty_measurement() -> None:
    bench = FakeBench({})
    result = measure(bench, [], "a", Goal(), 1.0, 0, lambda: bench.now, lambda what, share: None)
    assert (result.measured, result.rejected) == ((), ())


def test_options_are_kept() -> None:
    bench = FakeBench({"a": 1.0})
    given = Candidate(candidate("a").variant, FakeBackend(), RunOptions(2, {"spinning": "0"}))
    result = measure(bench, [given], "a", Goal(), 0.1, 0, lambda: bench.now, lambda what, share: None)
    assert result.measured[0].candidate is given
