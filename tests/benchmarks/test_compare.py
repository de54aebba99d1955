"""Comparing recordings made here: which blocks they are, what is not judged, and what is kept of a measurement that ends early."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from benchmarks.cli import EXIT_INTERRUPTED, app
from benchmarks.compare import AT_DIFFERENT_TIMES, compare_folders, compare_settings
from benchmarks.comparison import Compared
from benchmarks.samples import Recording
from benchmarks.scenarios import plan
from benchmarks.settings import Setting
from benchmarks.significance import LEAST_BLOCKS, Verdict
from runtime.errors import EdgewardError, MachineError, PeerUnreachableError, WrongUseError
from tests.benchmarks.made import ENVIRONMENT, recording, with_errors

WHERE = "http://h:1"
SETTING = Setting("m", WHERE)
SINGLE = plan("single")


def run(factor: float = 1.0, n: int = 700, **header: Any) -> Recording:
    """One run whose latencies are `factor` times those of the others."""
    made = recording(WHERE, n, **{"was_stopped": False, **header})
    samples = made.samples
    took = ((samples.done_ns - samples.sent_ns) * factor).astype(np.int64)
    return replace(made, samples=replace(samples, done_ns=samples.sent_ns + took))


def runs(factor: float, count: int = LEAST_BLOCKS) -> list[Recording]:
    """Runs that differ a little by themselves."""
    return [run(factor * (1 + 0.002 * number)) for number in range(count)]


def verdicts(compared: Compared) -> set[Verdict]:
    return {comparison.judgement.verdict for comparison in compared.comparisons}


def shed(factor: float) -> Recording:
    """Nine of ten are refused, and the tenth is answered in that much of the time."""
    made = run(factor, 1000)
    status = (np.arange(1000) % 10 != 0).astype(np.int64)
    return Recording({**made.header, "statuses": ["ok", "503 UNAVAILABLE"]}, replace(made.samples, status=status))


def test_one_run_a_side_has_no_verdict_however_far_apart_they_are() -> None:
    compared = compare_folders([run()], [run(3.0)])
    assert verdicts(compared) == {Verdict.INCONCLUSIVE}
    assert {round(c.ratio.value, 2) for c in compared.comparisons} == {3.0}
    assert "at least 6 runs, of these there are 1" in compared.comparisons[0].judgement.reason


@pytest.mark.slow
def test_several_runs_a_side_are_the_blocks() -> None:
    assert verdicts(compare_folders(runs(1.0), runs(1.3))) == {Verdict.SLOWER}
    assert verdicts(compare_folders(runs(1.3), runs(1.0))) == {Verdict.FASTER}
    assert verdicts(compare_folders(runs(1.0), runs(1.0))) == {Verdict.EQUIVALENT}
    few = compare_folders(runs(1.0), runs(1.3, LEAST_BLOCKS - 1))
    assert verdicts(few) == {Verdict.INCONCLUSIVE}
    assert few.comparisons[0].n == (700 * 6, 700 * 5), "every run of a cell counts, not the last alone"


def test_runs_that_differ_by_themselves_are_no_difference_although_each_is_steady() -> None:
    rng = np.random.default_rng(3)
    factors = rng.lognormal(0, 0.2, 12)
    compared = compare_folders([run(f) for f in factors[:6]], [run(f) for f in factors[6:]])
    assert verdicts(compared) == {Verdict.INCONCLUSIVE}


def test_the_document_of_two_folders_says_that_they_are_of_different_times_and_machines() -> None:
    elsewhere = run(environment={**ENVIRONMENT, "cpu": "another one", "commit": "0b"})
    told = json.loads(json.dumps(compare_folders([run()], [elsewhere]).to_dict()))
    assert AT_DIFFERENT_TIMES in told["notes"]
    assert "measured on different processors: A some processor; B another one" in told["notes"]
    assert "measured on different commits: A unknown; B 0b" in told["notes"]
    assert not any("kernels" in note for note in told["notes"])
    assert (told["is_interleaved"], told["rounds"]) == (False, None)


def test_what_only_one_has_or_is_invalid_is_said_and_the_rest_compared() -> None:
    server = recording(WHERE, 700, plan("server"))
    broken = run(invalid_reason="the generator is saturated")
    compared = compare_folders([run(), broken, server], [run()])
    assert [m["side"] for m in compared.measured] == ["A", "B"]
    notes = " ".join(compared.notes)
    assert "only A has m, http://h:1, auto, server" in notes
    assert "A (m, http://h:1, auto, single) is INVALID: the generator is saturated" in notes


PROBE = replace(SINGLE, bound_ms=5.0, most_over=5)


@pytest.mark.parametrize(
    ("cut", "why"),
    [
        (run(was_stopped=True), "was stopped by a person"),
        (run(has_fallen_behind=True, scenario=replace(SINGLE, give_up_s=1.0)), "when the target was 1 s behind"),
        (run(scenario=PROBE), "when too many requests took longer than 5 ms"),
        (run(scenario=replace(PROBE, bound_ms=20.0)), None),
    ],
)
def test_a_run_that_ended_early_is_no_block(cut: Recording, why: str | None) -> None:
    compared = compare_folders([run(), cut], [run(), run()])
    assert [m["side"] for m in compared.measured] == ["A"] * (1 if why else 2) + ["B"] * 2
    assert {c.n[0] for c in compared.comparisons} == {700 if why else 1400}
    said = [note for note in compared.notes if "is left out" in note]
    assert len(said) == (why is not None)
    if why is not None:
        assert said[0].startswith("A (m, http://h:1, auto, single) was ")
        assert why in said[0]
        with pytest.raises(MachineError, match=f"nothing is compared: .*{why}"):
            compare_folders([cut], [run()])


def test_nothing_valid_is_no_want_of_samples_and_nothing_in_common_is_wrong_use() -> None:
    broken = run(invalid_reason="the generator is saturated")
    with pytest.raises(MachineError, match=r"nothing is compared: A .* is INVALID: the generator is saturated"):
        compare_folders([broken], [broken])
    with pytest.raises(WrongUseError, match="only A has .*single; only B has .*server"):
        compare_folders([run()], [recording(WHERE, 700, plan("server"))])


@pytest.mark.slow
def test_several_runs_of_a_side_may_lie_in_folders_inside_one(tmp_path: Path) -> None:
    for side, factor in (("a", 1.0), ("b", 1.3)):
        for number, one in enumerate(runs(factor)):
            folder = tmp_path / side / str(number)
            folder.mkdir(parents=True)
            one.save(folder / "000-m.npz")
    done = CliRunner().invoke(app, ["compare", str(tmp_path / "a"), str(tmp_path / "b"), "--json"])
    assert done.exit_code == 0, done.output
    assert {c["verdict"] for c in json.loads(done.stdout)["comparisons"]} == {"slower"}
    assert AT_DIFFERENT_TIMES.partition(":")[0] in done.stderr


def test_a_folder_of_too_few_samples_ends_with_1_and_says_how_many_it_takes(tmp_path: Path) -> None:
    run(n=5).save(tmp_path / "000-m.npz")
    done = CliRunner().invoke(app, ["compare", str(tmp_path), str(tmp_path)])
    assert done.exit_code == 1
    told = " ".join(done.stderr.split())
    assert "too few samples: A answered 5 of 5 requests; B answered 5 of 5 requests; p50 needs 11 a side" in told


Measured = Callable[[str, int], Recording]
"""The recording of a side (its factor) and number of measurement, or what it raises."""


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> Callable[[Measured], None]:
    """Takes the place of the generator processes."""

    def take(made: Measured) -> None:
        numbers = iter(range(1000))

        def measure(*_: Any) -> Recording:
            number = next(numbers)
            return made("ABBA"[number % 4], number)

        monkeypatch.setattr("benchmarks.compare.measure", measure)
        monkeypatch.setattr(
            "benchmarks.beforehand.check", lambda *_: None
        )  # no server answers where nothing is measured

    return take


@pytest.mark.slow
def test_a_server_that_sheds_its_load_is_not_faster(measured: Callable[[Measured], None], tmp_path: Path) -> None:
    measured(lambda side, number: run(n=700) if side == "A" else shed(0.3))
    compared = compare_settings(SETTING, SETTING, SINGLE, folder=tmp_path)
    assert verdicts(compared) == {Verdict.INCONCLUSIVE}
    told = json.loads((tmp_path / "compare.json").read_text())
    for comparison in told["comparisons"]:
        assert comparison["ratio"] < 0.4
        assert comparison["errors"] == [{}, {"503 UNAVAILABLE": 900 * 12}]
        assert "B answered 1,200 of 12,000 requests (503 UNAVAILABLE 10,800)" in comparison["reason"]
    assert verdicts(compare_folders(runs(1.0), [shed(0.3)] * 6)) == {Verdict.INCONCLUSIVE}


def test_where_too_little_was_answered_the_errors_are_said_not_the_duration(
    measured: Callable[[Measured], None], tmp_path: Path
) -> None:
    failing = with_errors(recording(WHERE, 5, was_stopped=False), "503 UNAVAILABLE", every=1)
    some = replace(failing, samples=replace(failing.samples, status=np.array([1, 1, 1, 1, 0])))
    measured(lambda side, number: run() if side == "A" else some)
    words = [WHERE, WHERE, "--rounds", "2", "--output", str(tmp_path)]
    done = CliRunner().invoke(app, ["compare", *words])
    assert done.exit_code == 1
    told = " ".join(done.stderr.split())
    assert "B answered 4 of 20 requests (503 UNAVAILABLE 16); p50 needs 11 a side: see to the errors first" in told


@pytest.mark.slow
@pytest.mark.parametrize("is_error", [True, False])
def test_an_error_or_an_invalid_measurement_keeps_the_whole_rounds_before_it(
    measured: Callable[[Measured], None], tmp_path: Path, is_error: bool
) -> None:
    def made(side: str, number: int) -> Recording:
        if number == 4 * 3 + 2 and is_error:
            raise PeerUnreachableError("http://h:1 is unreachable: it went away")
        return run(invalid_reason="the generator is saturated" if number == 4 * 3 + 2 else None)

    measured(made)
    done = CliRunner().invoke(app, ["compare", WHERE, WHERE, "--output", str(tmp_path)])
    assert done.exit_code == 1
    why = "it went away" if is_error else "is INVALID: the generator is saturated"
    told = json.loads((tmp_path / "compare.json").read_text())
    assert (told["rounds"], told["was_stopped"], len(told["comparisons"])) == (3, False, 2)
    assert why in told["failed"]
    assert {c["n"][0] for c in told["comparisons"]} == {700 * 2 * 3}
    said = " ".join(done.stderr.split())
    assert "ended in round 4 of 6; the verdict is of those before" in said
    assert why in said
    assert f"raw samples: {tmp_path}" in done.stdout.replace("\n", "")


def test_an_error_in_the_first_round_is_raised_and_names_the_folder(
    measured: Callable[[Measured], None], tmp_path: Path
) -> None:
    def made(side: str, number: int) -> Recording:
        if number:
            raise PeerUnreachableError("http://h:1 is unreachable: it went away")
        return run()

    measured(made)
    with pytest.raises(PeerUnreachableError, match=f"; samples so far: {tmp_path}$"):
        compare_settings(SETTING, SETTING, SINGLE, folder=tmp_path)
    measured(made)
    with pytest.raises(EdgewardError, match="it went away$"):
        compare_settings(SETTING, SETTING, SINGLE)


def test_stopped_with_too_few_samples_is_stopped(measured: Callable[[Measured], None], tmp_path: Path) -> None:
    measured(lambda side, number: run(n=2, was_stopped=number > 4))
    done = CliRunner().invoke(app, ["compare", WHERE, WHERE, "--output", str(tmp_path)])
    assert done.exit_code == EXIT_INTERRUPTED


@pytest.mark.slow
def test_calibrate_says_when_its_rounds_are_too_few(measured: Callable[[Measured], None], tmp_path: Path) -> None:
    for rounds, said in (
        ("5", "p50: fewer than 6 rounds show no change"),
        ("6", "p50: changes below 5.0% do not show"),
    ):
        measured(lambda side, number: run())
        done = CliRunner().invoke(app, ["calibrate", WHERE, "--rounds", rounds, "--output", str(tmp_path / rounds)])
        assert done.exit_code == 0, done.output
        assert said in done.stdout
