"""The choice and its sentences, from values alone."""

import itertools
from dataclasses import replace

import pytest

from runtime.bundle.manifest import Targets
from runtime.errors import NoCandidateError
from runtime.selection.candidates import Rejected
from runtime.selection.choice import Choice
from runtime.selection.decide import Origin, decide, refusal
from runtime.selection.goal import Goal
from runtime.selection.measured import Measured
from runtime.selection.memory_use import MemoryUse
from runtime.selection.settings import Objective
from tests.runtime.selection.fakes import latency, measured

ORIGIN = Origin("m", 1, "accuracy on 100 labelled samples")


def choice_of(*given: Measured, goal: Goal | None = None, rejected: tuple[Rejected, ...] = ()) -> Choice:
    return decide(given, rejected, goal or Goal(), ORIGIN)


def order_of(choice: Choice) -> list[str]:
    return [ranked.candidate.variant.name for ranked in choice.ranked]


def test_the_fastest_that_holds_the_floor_is_chosen_and_everyone_gets_a_sentence() -> None:
    choice = choice_of(
        measured("fp32", 0.112, accuracy=0.99),
        measured("fp16", 0.0836, accuracy=0.985, threads=2),
        measured("int8", 0.05, accuracy=0.962),
        goal=Goal(accuracy_floor=0.97),
        rejected=(Rejected("fp32", "onnxruntime-cuda", "onnxruntime-gpu is not installed"),),
    )
    assert choice.selected.candidate.variant.name == "fp16"
    assert choice.verdicts == (
        "fp16 on fake-cpu, 2 threads: 0.0836 ms, chosen: the fastest of 2 that may run (98.5 % right, floor 97.0 %)",
        "fp32 on fake-cpu, 1 thread: 0.112 ms, 1.34 × the chosen one",
        "int8 on fake-cpu, 1 thread: 96.2 % is below the floor 97.0 %",
        "fp32 on onnxruntime-cuda: onnxruntime-gpu is not installed",
    )


def test_the_order_of_what_is_given_does_not_matter() -> None:
    given = [measured(name, ms, accuracy=0.9) for name, ms in (("a", 3.0), ("b", 1.0), ("c", 2.0), ("d", 1.5))]
    orders = {tuple(order_of(choice_of(*shuffled))) for shuffled in itertools.permutations(given)}
    assert orders == {("b", "d", "c", "a")}


@pytest.mark.parametrize(("accuracy", "may_run"), [(0.9699, False), (0.97, True), (1.0, True)])
def test_the_floor_is_a_floor(accuracy: float, may_run: bool) -> None:
    choice = choice_of(
        measured("slow", 9.0, accuracy=1.0), measured("a", 1.0, accuracy=accuracy), goal=Goal(accuracy_floor=0.97)
    )
    assert (order_of(choice)[0] == "a") is may_run


def test_without_labels_agreement_holds_the_floor() -> None:
    choice = choice_of(
        measured("a", 1.0, agreement=0.95), measured("b", 2.0, agreement=0.98), goal=Goal(accuracy_floor=0.97)
    )
    assert order_of(choice) == ["b"]
    assert "agree with the reference's in 95.0 % of 100 rows; at least 97.0 % must" in choice.verdicts[1]


def test_beside_accuracy_agreement_has_a_looser_bound() -> None:
    honest = measured("honest", 1.0, accuracy=0.975, agreement=0.85)
    broken = measured("broken", 0.5, accuracy=0.98, agreement=0.1)
    choice = choice_of(honest, broken, goal=Goal(accuracy_floor=0.97))
    assert order_of(choice) == ["honest"]
    assert "agree with the reference's in 10.0 % of 100 rows; at least 75.0 % must" in choice.verdicts[1]
    hard = measured("hard", 1.0, accuracy=0.61, agreement=0.62)
    assert order_of(choice_of(hard, goal=Goal(accuracy_floor=0.6))) == ["hard"], "never above the floor itself"


@pytest.mark.parametrize("accuracy", [None, 0.5])
def test_without_a_floor_a_variant_that_disagrees_is_still_refused(accuracy: float | None) -> None:
    broken = measured("broken", 1.0, accuracy=accuracy, agreement=0.5)
    assert order_of(choice_of(broken, measured("ok", 2.0, accuracy=accuracy, agreement=1.0))) == ["ok"]


def test_a_batch_above_the_memory_cap_limits_batches_and_a_row_above_it_refuses() -> None:
    grows = replace(measured("grows", 1.0), memory=(MemoryUse(1, 65.0), MemoryUse(8, 99.0), MemoryUse(32, 529.0)))
    large = replace(measured("large", 0.5), memory=(MemoryUse(1, 120.0), MemoryUse(32, 120.0)))
    small = replace(measured("small", 2.0), memory=(MemoryUse(1, 5.0), MemoryUse(32, 9.0)))
    choice = choice_of(grows, large, small, goal=Goal(memory_cap_mb=100.0))
    assert [(ranked.candidate.variant.name, ranked.max_rows) for ranked in choice.ranked] == [
        ("grows", 8),
        ("small", 32),
    ]
    assert choice.verdicts[0].endswith(
        "; batches of at most 8, since it would take 529.0 MB with 32 rows, the cap is 100.0 MB"
    )
    assert "large on fake-cpu, 1 thread: it takes 120.0 MB with 1 row, the cap is 100.0 MB" in choice.verdicts
    assert [ranked.max_rows for ranked in choice_of(grows).ranked] == [None], "without a cap nothing limits them"


def test_with_nothing_to_compare_with_speed_decides() -> None:
    assert order_of(choice_of(measured("a", 1.0), measured("b", 2.0))) == ["a", "b"]


def test_unfit_answers_are_refused_whatever_their_accuracy() -> None:
    choice = choice_of(
        measured("a", 1.0, accuracy=1.0, problem="output 'y' is NaN in 1 of 9 rows"), measured("b", 2.0, accuracy=1.0)
    )
    assert order_of(choice) == ["b"]
    assert "NaN in 1 of 9 rows" in choice.verdicts[1]


def test_the_memory_cap_is_a_cap() -> None:
    goal = Goal(memory_cap_mb=64)
    choice = choice_of(measured("a", 1.0, memory_mb=64.1), measured("b", 2.0, memory_mb=64.0), goal=goal)
    assert order_of(choice) == ["b"]
    assert choice.verdicts[1].endswith("it takes 64.1 MB with 1 row, the cap is 64.0 MB")


def test_memory_of_the_gpu_fits_under_the_cap_too() -> None:
    large = replace(measured("large", 1.0), memory=(MemoryUse(1, 10.0, 2048.0),))
    assert (
        refusal(large, Goal(memory_cap_mb=1000)) == "it takes 2048.0 MB of GPU memory with 1 row, the cap is 1000.0 MB"
    )
    assert refusal(replace(large, memory=(MemoryUse(1, 10.0, 900.0),)), Goal(memory_cap_mb=1000)) is None
    assert refusal(large, Goal()) is None


def test_nothing_left_lists_every_reason() -> None:
    with pytest.raises(NoCandidateError) as caught:
        choice_of(
            measured("a", 1.0, accuracy=0.1),
            goal=Goal(accuracy_floor=0.9),
            rejected=(
                Rejected("a", "x-cuda", "no GPU was found"),
                Rejected("a", "litert", "it reads tflite, not onnx", is_misfit=True),
            ),
        )
    text = str(caught.value)
    assert "10.0 % is below the floor 90.0 %" in text
    assert "a on x-cuda: no GPU was found" in text
    assert "tflite" not in text  # of no use beside real reasons


def test_what_opens_nowhere_is_told_once_a_pair_and_not_to_lower_a_floor() -> None:
    reason = "it has no such operator"
    with pytest.raises(NoCandidateError) as caught:
        choice_of(rejected=tuple(Rejected("a", "x", reason, f"{threads} threads") for threads in (1, 2, 4)))
    assert str(caught.value).count(reason) == 1
    assert "a on x: it has no such operator" in str(caught.value)
    assert "give a model that one of these can open" in str(caught.value)
    assert "floor" not in str(caught.value)


def test_nothing_at_all_is_told_too() -> None:
    with pytest.raises(NoCandidateError, match="there was no candidate at all"):
        choice_of()
    with pytest.raises(NoCandidateError, match="it reads tflite, not onnx"):
        choice_of(rejected=(Rejected("a", "litert", "it reads tflite, not onnx", is_misfit=True),))


def test_within_the_noise_the_more_accurate_is_chosen() -> None:
    choice = choice_of(
        measured("quick", 1.0, accuracy=0.97, spread=0.06), measured("right", 1.01, accuracy=0.99, spread=0.06)
    )
    assert order_of(choice) == ["right", "quick"]
    assert "within the noise of the chosen one, which is more accurate (99.0 % against 97.0 %)" in choice.verdicts[1]


def test_within_the_noise_and_equally_accurate_fewer_threads_are_chosen() -> None:
    choice = choice_of(
        measured("many", 1.0, accuracy=0.99, threads=8, spread=0.06),
        measured("few", 1.01, accuracy=0.99, threads=1, spread=0.06),
    )
    assert order_of(choice) == ["few", "many"]
    assert choice.verdicts[1].endswith("which is on fewer threads")


@pytest.mark.parametrize(("ms", "first"), [(1.019, "few"), (1.03, "many")])
def test_more_threads_have_to_gain_two_percent_however_steady_the_machine(ms: float, first: str) -> None:
    choice = choice_of(measured("many", 1.0, threads=8, spread=0.0), measured("few", ms, threads=1, spread=0.0))
    assert choice.selected.candidate.variant.name == first


@pytest.mark.parametrize(("ms", "spread", "first"), [(1.028, 0.2, "few"), (1.028, 0.02, "many"), (1.032, 0.2, "many")])
def test_on_an_unstable_machine_they_have_to_gain_more(ms: float, spread: float, first: str) -> None:
    choice = choice_of(measured("many", 1.0, threads=2, spread=spread), measured("few", ms, threads=1, spread=spread))
    assert choice.selected.candidate.variant.name == first


def test_who_took_turns_is_told_apart_by_the_error_of_its_lag_however_the_machine_spreads() -> None:
    def beside(name: str, ms: float, threads: int, lag_error: float | None) -> Measured:
        return replace(measured(name, ms, threads=threads, spread=0.6), lag_error=lag_error)

    few = beside("few", 1.028, 1, 0.003)
    assert order_of(choice_of(beside("many", 1.0, 2, 0.0), few))[0] == "many"
    assert order_of(choice_of(beside("many", 1.0, 2, 0.0), replace(few, lag_error=0.03)))[0] == "few"
    assert order_of(choice_of(beside("many", 1.0, 2, 0.03), few))[0] == "few", "of two behind a third both count"
    assert order_of(choice_of(beside("many", 1.0, 2, None), few))[0] == "few", "who was timed alone has its own spread"
    assert choice_of(beside("many", 1.0, 2, 0.0), few).doubts, "that the machine is unstable is told all the same"


@pytest.mark.parametrize(
    ("ms", "spread"),
    [
        (1.01, 0.0),  # nine equal turns: one percent is a difference
        (1.03, 10.0),  # however noisy, never more than two percent
    ],
)
def test_beyond_the_noise_the_faster_is_chosen(ms: float, spread: float) -> None:
    choice = choice_of(
        measured("quick", 1.0, accuracy=0.97, spread=spread), measured("right", ms, accuracy=0.99, spread=spread)
    )
    assert order_of(choice)[0] == "quick"


def test_throughput_counts_rows() -> None:
    choice = choice_of(
        measured("small", 2.0, rows=1), measured("large", 10.0, rows=32), goal=Goal(objective=Objective.THROUGHPUT)
    )
    assert choice.verdicts == (
        "large on fake-cpu, 1 thread: 3200 rows/s in batches of 32, chosen: the most rows a second of 2 that may run",
        "small on fake-cpu, 1 thread: 500 rows/s in batches of 1, 6.40 × the chosen one",
    )


def test_memory_takes_the_smallest_and_of_equals_the_fastest() -> None:
    choice = choice_of(
        measured("a", 5.0, memory_mb=10.0),
        measured("b", 1.0, memory_mb=10.5),
        measured("c", 0.1, memory_mb=90.0),
        measured("unknown", 0.1, memory_mb=None),
        goal=Goal(objective=Objective.MEMORY),
    )
    assert order_of(choice) == ["b", "a", "c", "unknown"]
    assert choice.verdicts[1].endswith("within the noise of the chosen one, which is faster")
    assert choice.verdicts[2].endswith("90.0 MB at 0.100 ms, +79.5 MB against the chosen one")
    assert choice.verdicts[3].endswith("its memory could not be measured")


def test_an_agreement_floor_stands_in_place_of_the_guards_own_bounds() -> None:
    hard = measured("hard", 1.0, accuracy=0.9, agreement=0.8)
    assert order_of(choice_of(hard, goal=Goal(accuracy_floor=0.85))) == ["hard"]
    with pytest.raises(NoCandidateError, match=r"in 80.0 % of 100 rows; at least 95.0 % must"):
        choice_of(hard, goal=Goal(accuracy_floor=0.85, agreement_floor=0.95))
    loose = measured("loose", 1.0, agreement=0.8)
    with pytest.raises(NoCandidateError, match=r"at least 90.0 % must"):
        choice_of(loose)
    assert order_of(choice_of(loose, goal=Goal(agreement_floor=0.7))) == ["loose"]


def test_a_target_first_then_the_objective() -> None:
    goal = Goal(objective=Objective.MEMORY, targets=Targets(p95_latency_ms=20))
    choice = choice_of(
        measured("tiny", 18.0, p95_ms=31.0, memory_mb=5),
        measured("middle", 15.0, p95_ms=19.0, memory_mb=20),
        measured("large", 5.0, p95_ms=6.0, memory_mb=80),
        goal=goal,
    )
    assert order_of(choice) == ["middle", "large", "tiny"]
    assert choice.verdicts[2].endswith("p95 31.0 ms is above the target 20.0 ms")
    assert choice.warnings == ()


def test_when_no_one_meets_the_target_the_best_runs_and_it_is_said() -> None:
    choice = choice_of(measured("a", 25.0), measured("b", 30.0), goal=Goal(targets=Targets(p95_latency_ms=20)))
    assert order_of(choice) == ["a", "b"]
    assert "no candidate meets the targets" in choice.warnings[0]
    goal = Goal(targets=Targets(throughput_rows_per_s=1000))
    assert "40 rows/s are below the target 1000" in choice_of(measured("a", 25.0), goal=goal).warnings[0]


@pytest.mark.parametrize(("spread", "is_said"), [(0.05, False), (0.3, True)])
def test_an_unstable_machine_is_said_aloud(spread: float, is_said: bool) -> None:
    choice = decide([measured("a", 1.0, spread=spread)], [], Goal(), replace(ORIGIN, source="./m.onnx"))
    assert choice.warnings == ()
    assert len(choice.doubts) == is_said
    for text in choice.doubts:
        assert "unstable" in text
        assert "±15%" in text, "as in the column of the table"
        assert "`edgeward calibrate ./m.onnx --force --budget 10`" in text


def test_who_was_only_tried_is_marked() -> None:
    choice = choice_of(measured("a", 1.0), measured("b", 4.0, rounds=0))
    assert choice.verdicts[1].endswith("4.00 × the chosen one (in its trial)")


def test_json_has_the_numbers_and_the_sentences() -> None:
    value = choice_of(measured("a", 1.0, accuracy=0.99)).to_dict()
    assert value["ranked"][0]["latency"]["median_ms"] == 1.0
    assert value["ranked"][0]["cost_ms_by_rows"] == {"1": 1.0}
    assert value["verdicts"] == [value["ranked"][0]["verdict"]]
    assert value["from_cache"] is False


def test_for_efficiency_the_least_processor_time_is_chosen_and_everyone_is_told_by_what_put_it_behind() -> None:
    one = replace(measured("one", 0.047, accuracy=0.99), busy=((1, 0.047), (8, 0.24)))
    two = replace(measured("two", 0.046, threads=2, accuracy=0.99), busy=((1, 0.092), (8, 0.36)))
    lame = replace(measured("lame", 0.05, accuracy=0.99), busy=((1, 0.05), (8, 0.1)))
    in_batches = {"one": 0.25, "two": 0.2, "lame": 1.0}
    given = [
        replace(m, latencies=(*m.latencies, (8, latency(in_batches[m.candidate.variant.name]))))
        for m in (one, two, lame)
    ]
    slow = replace(measured("slow", 0.3, accuracy=0.99), busy=((1, 0.01),))
    choice = choice_of(*given, slow, goal=Goal(objective=Objective.EFFICIENCY))
    assert choice.verdicts == (
        "one on fake-cpu, 1 thread: 0.0470 ms, chosen: the least processor time, 0.0300 ms a row in batches of 8, of 2 about as "
        "fast as the fastest (99.0 % right)",
        "two on fake-cpu, 2 threads: 0.0460 ms, 1.50 × the chosen one's processor time",
        "lame on fake-cpu, 1 thread: 0.0500 ms, 4.00 × the chosen one in batches of 8",
        "slow on fake-cpu, 1 thread: 0.300 ms, 6.38 × the chosen one",
    )
    assert choice.selected.busy == ((1, 0.047), (8, 0.24))


def test_for_efficiency_targets_come_first_and_of_equal_processor_time_the_more_accurate_wins() -> None:
    goal = Goal(objective=Objective.EFFICIENCY, targets=Targets(p95_latency_ms=1.0))
    late = replace(measured("late", 0.9, p95_ms=1.1), busy=((1, 0.5),))
    some = [
        replace(measured(name, 0.9, accuracy=share), busy=((1, ms),))
        for name, share, ms in (("a", 0.97, 0.90), ("b", 0.99, 0.92), ("c", 1.0, 1.0))
    ]
    assert order_of(choice_of(late, *some, goal=goal))[0] == "b"


def test_for_efficiency_the_fastest_is_chosen_where_only_trials_tell() -> None:
    choice = choice_of(measured("a", 1.0), measured("b", 1.5, rounds=0), goal=Goal(objective=Objective.EFFICIENCY))
    assert choice.verdicts == (
        "a on fake-cpu, 1 thread: 1.00 ms, chosen: the fastest of 2 that may run",
        "b on fake-cpu, 1 thread: 1.50 ms, 1.50 × the chosen one (in its trial)",
    )
