"""Which candidates are tried and in which order, and what their trials leave of the budget; on a bench that exists only here."""

from dataclasses import replace

import pytest

from runtime.backends.base import RunOptions
from runtime.bundle.manifest import Format, Variant
from runtime.hardware import Hardware
from runtime.hardware.isa import IsaFeature
from runtime.selection.bench import LEAST_CHECKED_ROWS, CandidateFailedError
from runtime.selection.candidates import Candidate
from runtime.selection.decide import refusal
from runtime.selection.goal import Goal
from runtime.selection.measure import measure
from runtime.selection.trying import PROMISE, WITH_INT8_DOT, order_of_trying, promise_on
from tests.runtime.selection.fake_bench import FakeBench, run
from tests.runtime.selection.fakes import FakeBackend, candidate, machine


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


def test_the_other_ways_of_the_fastest_pair_are_tried_before_those_of_slower_ones() -> None:
    """Time may run out before all were: ResNet-8 in 3 s was chosen without its best pair's way on one thread."""
    bench = FakeBench({"a": 3.0, "middle": 2.0, "best": 1.5})
    candidates = [candidate(name, threads) for name in bench.ms for threads in (1, 2)]
    measure(bench, candidates, "a", Goal(), 3.0, 0, lambda: bench.now, lambda what, share: None)
    tried = [entry[1] for entry in bench.log if entry[0] == "try"]
    assert tried == ["a", "middle", "best", "best", "middle", "a"]


def test_a_reference_without_answers_yet_goes_before_the_fastest_pair() -> None:
    bench = FakeBench({"a": 3.0, "best": 1.0})
    bench.fails = lambda what, who, rows: (
        CandidateFailedError("gone") if who.variant.name == "a" and who.options.threads == 2 else None
    )
    candidates = [candidate(name, threads) for name in bench.ms for threads in (1, 2)]
    measure(bench, candidates, "a", Goal(), 3.0, 0, lambda: bench.now, lambda what, share: None)
    assert [entry[1] for entry in bench.log if entry[0] == "try"] == ["a", "best", "a", "best"]
