"""`edgeward calibrate`."""

import json
import re
import shutil
from pathlib import Path

import pytest

from runtime.bundle.bundle import Bundle

DIGITS = Path(__file__).resolve().parents[3] / "runtime" / "models" / "digits"
pytestmark = pytest.mark.slow


def test_every_candidate_stands_with_numbers_and_the_chosen_one_is_marked(
    run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("calibrate", "digits") == 0
    shown = capsys.readouterr().out
    assert "from the cache" in shown
    assert shown.count("▶") == 1
    assert "chosen" in next(line for line in shown.splitlines() if "▶" in line)
    assert "onnxruntime-cuda; onnxruntime-tensorrt: " in shown or "onnxruntime-cuda: " in shown
    assert "rows a call" in shown


def test_on_80_columns_figures_are_whole_and_sentences_stand_below(
    run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runtime.cli.console.PIPED_WIDTH", 80)
    assert run("calibrate", "digits") == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    chosen = next(line for line in lines if "▶" in line)
    assert re.search(r"-cpu .* ms .* % *chosen *$", chosen) or re.search(r"-cpu .* ms .*% +chosen *$", chosen), chosen
    assert any(re.search(r"% +\d+\.\d\d × *$", line) for line in lines), "the others by their ratio"
    assert "chosen: the fastest of" in " ".join(" ".join(lines).split())


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


def test_what_was_asked_for_and_by_whom_is_told(run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(DIGITS, tmp_path / "digits")
    manifest = tmp_path / "digits" / "manifest.json"
    said = json.loads(manifest.read_text())
    said["targets"] = {"accuracy_floor": 0.9, "p95_latency_ms": 1000, "objective": "memory"}
    manifest.write_text(json.dumps(said))
    asked = ("calibrate", tmp_path / "digits", "--budget", "0.3", "--memory-cap", "4000")
    assert run(*asked) == 0
    shown = " ".join(capsys.readouterr().out.split())
    for words in (
        "accuracy at least 90.0 % the manifest",
        "p95 of one row at most 1000 ms the manifest",
        "memory at most 4000 MB asked for here",
        "then the best memory the manifest",
        "candidates for the best memory",
    ):
        assert words in shown
    assert run(*asked, "--json", "--objective", "latency") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["objective"] == "latency"
    assert {"what": "then the best", "value": "latency", "asked_by": "asked for here"} in told["goal"]


def test_a_floor_asked_for_here_is_held(run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("calibrate", "digits", "--budget", "0.3", "--accuracy-floor", "0.99", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["ranked"][0]["accuracy"] >= 0.99
    assert {"what": "accuracy", "value": "at least 99.0 %", "asked_by": "asked for here"} in told["goal"]
    assert run("calibrate", "digits", "--accuracy-floor", "97.5") == 2
    assert "accuracy_floor is 97.5; expected a share from 0 to 1" in capsys.readouterr().err


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
