"""`edgeward calibrate`."""

import json
import shutil
from pathlib import Path

import pytest

from runtime.bundle.bundle import Bundle

pytestmark = pytest.mark.slow


def test_every_candidate_stands_with_numbers_and_the_chosen_one_is_marked(
    run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("calibrate", "digits") == 0
    shown = capsys.readouterr().out
    assert "from the cache" in shown
    assert shown.count("▶") == 1
    assert "chosen" in next(line for line in shown.splitlines() if "▶" in line)
    assert "onnxruntime-cuda: " in shown
    assert "rows a call" in shown


def test_json_has_the_numbers_behind_the_table(run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("calibrate", "digits", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["bundle"] == "digits"
    assert all(r["latency"]["median_ms"] > 0 and 0.9 < r["accuracy"] <= 1 for r in told["ranked"])
    assert told["ranked"][0]["cost_ms_by_rows"]["1"] > 0


def test_force_measures_again_and_a_bare_file_says_what_is_not_guarded(
    run, digits: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = shutil.copy(digits.path_of(digits.variants[0]), tmp_path / "mine.onnx")
    assert run("calibrate", file, "--force", "--budget", "0.2") == 0
    shown = capsys.readouterr().out
    assert "calibrated in" in shown
    assert "warning: " in shown


def test_a_budget_of_nothing_is_wrong_use(run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("calibrate", "digits", "--budget", "0") == 2
    assert "budget_s is 0.0; expected" in capsys.readouterr().err


def test_a_cascade_shows_coverage_against_accuracy(run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("calibrate", "digits", "--cascade", "--risk", "0.02") == 0
    shown = capsys.readouterr().out
    assert "wished-for risk 2.00%" in shown
    assert sum(line.rstrip().endswith("chosen") and "%" in line for line in shown.splitlines()) == 1
    assert "100.0%" in shown
    assert run("calibrate", "digits", "--cascade", "--risk", "0.02", "--json") == 0
    told = json.loads(capsys.readouterr().out)["cascade"]
    assert told["threshold"] is not None
    assert told["coverage"] > 0.8
    assert told["points"][-1]["coverage"] == 1.0


def test_a_cascade_wants_labelled_samples(
    run, digits: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = shutil.copy(digits.path_of(digits.variants[0]), tmp_path / "mine.onnx")
    assert run("calibrate", file, "--cascade", "--budget", "0.2") == 2
    assert "has no cascade: it is not declared a classification" in capsys.readouterr().err
