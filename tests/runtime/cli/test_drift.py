"""`edgeward drift report` on files of rows, as a person and as a program call it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgeward
from runtime.bundle.bundle import Bundle


@pytest.fixture
def home(calibrated_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for files; programs and models have the home in which the digits were calibrated."""
    monkeypatch.setenv("EDGEWARD_HOME", str(calibrated_home))
    return tmp_path


def images(digits: Bundle, rows: int = 900) -> tuple[Any, Any]:
    samples = digits.samples()
    assert samples is not None
    chosen = np.random.default_rng(1).integers(0, len(samples), rows)
    assert samples.labels is not None
    return samples.inputs["image"][chosen], samples.labels[chosen]


def command(*words: str) -> None:
    with pytest.raises(SystemExit) as ended:
        edgeward.main(words)
    assert ended.value.code in (0, None)


def report(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    command("drift", "report", *words, "--json")
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    return told


@pytest.mark.slow
def test_the_samples_of_a_bundle_are_rows_with_labels(
    home: Path, digits: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    told = report(capsys, "digits", str(digits.root / "samples.npz"))
    assert (told["rows"], told["has_labels"], told["is_drifting"]) == (450, True, False)


@pytest.mark.slow
def test_calm_rows_and_then_a_unit_change_with_labels_and_tags(
    home: Path, digits: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, labels = images(digits)
    np.savez(home / "calm.npz", image=rows)
    calm = report(capsys, "digits", str(home / "calm.npz"))
    assert (calm["is_drifting"], calm["errors"], calm["rows"]) == (False, None, 900)
    assert calm["estimate"]["accuracy"] == pytest.approx(0.99, abs=0.02)
    changed = rows.copy()
    changed[500:] *= 255
    camera = np.where(np.arange(900) < 500, b"old", b"new")
    labels[500:] = (labels[500:] + 1) % 10
    np.savez(home / "unit.npz", image=changed, labels=labels, camera=camera)
    page = home / "report.html"
    told = report(capsys, "digits", str(home / "unit.npz"), "--html", str(page))
    first = next(found for found in told["verdicts"] if found["feature"] == "image.brightness")
    assert (first["feature"], first["suspect"], first["since"]) == ("image.brightness", "upstream unit change", 500.0)
    assert "255" in first["detail"]
    assert told["errors"]["slices"][0]["slice"].startswith(("tag camera = new", "image.")), told["errors"]["slices"][0]
    assert told["errors"]["slices"][0]["is_proven"]
    assert told["errors"]["loss"] is not None
    assert told["figures"][0] == {
        "figure": "accuracy", "target": 0.975, "training": None, "dev": told["figures"][0]["dev"],
        "test": round(told["reference_accuracy"], 5), "live": told["errors"]["accuracy"], "estimated": told["estimate"]["accuracy"],
    }  # fmt: skip
    latency = told["figures"][1]
    assert (latency["figure"], latency["target"]) == ("p95_latency_ms", 10.0)
    assert latency["test"] is not None
    assert latency["live"] is not None
    text = page.read_text()
    assert "image.brightness" in text
    assert "<script" not in text
    assert "<td>rows a second<td>200" in text
    command("drift", "report", "digits", str(home / "unit.npz"))
    shown = capsys.readouterr().out
    assert "DRIFT against the 450 rows of the bundle" in shown
    assert "worst slices" in shown
    assert "97.50%" in shown
    assert "95 % of requests within" in shown


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"image": np.zeros((10, 1, 8, 8), np.float32)}, "10 rows; drift needs at least 50"),
        ({"other": np.zeros((90, 1, 8, 8), np.float32), "b": np.zeros((90, 2))}, "no array for input 'image'"),
        ({"image": np.zeros((90, 1, 8, 8), np.float32), "labels": np.zeros(80, int)}, "has 80 rows"),
        ({"image": np.zeros((90, 1, 8, 8), np.float32), "labels": np.zeros(90, float)}, "whole numbers"),
    ],
)
def test_wrong_rows_are_named(
    home: Path, capsys: pytest.CaptureFixture[str], arrays: dict[str, Any], words: str
) -> None:
    np.savez(home / "rows.npz", **arrays)
    with pytest.raises(SystemExit):
        edgeward.main(["drift", "report", "digits", str(home / "rows.npz")])
    assert words in capsys.readouterr().err


def test_a_server_that_is_not_there_is_said(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        edgeward.main(["drift", "report", "--address", "127.0.0.1:1"])
    assert ended.value.code == 1
    assert "127.0.0.1:1" in capsys.readouterr().err
