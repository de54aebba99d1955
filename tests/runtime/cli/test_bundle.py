"""`edgeward bundle build|inspect|verify`."""

import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest

from runtime.bundle.bundle import Bundle


def test_inspect_shows_tensors_targets_and_variants(run, digits: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("bundle", "inspect", "digits") == 0
    shown = capsys.readouterr().out
    assert "FP32 [batch, 1, 8, 8]" in shown
    assert "accuracy_floor" in shown
    for variant in digits.variants:
        assert variant.name in shown


def test_inspect_json_is_the_manifest(run, digits: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("bundle", "inspect", "digits", "--json") == 0
    (told,) = json.loads(capsys.readouterr().out)
    assert told["digest"] == digits.digest
    assert [v["name"] for v in told["variants"]] == [v.name for v in digits.variants]
    assert told["manifest"]["inputs"][0]["shape"] == [-1, 1, 8, 8]


def test_inspect_takes_a_bare_file(run, digits: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = shutil.copy(digits.path_of(digits.variants[0]), tmp_path / "mine.onnx")
    assert run("bundle", "inspect", file) == 0
    assert "bare model file" in capsys.readouterr().out


def test_verify_takes_a_tar(run, digits: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with tarfile.open(tmp_path / "digits.tar", "w") as tar:
        tar.add(digits.root, "digits")
    assert run("bundle", "verify", tmp_path / "digits.tar") == 0
    assert "7 files hold" in capsys.readouterr().out


def test_verify_names_the_file_that_was_changed(
    run, digits: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "digits"
    shutil.copytree(digits.root, copy)
    victim = copy / digits.variants[1].file
    changed = bytearray(victim.read_bytes())
    changed[100] ^= 1
    victim.write_bytes(changed)
    assert run("bundle", "verify", copy) == 1
    assert f"file {digits.variants[1].file!r}" in capsys.readouterr().err


def test_verify_measures_the_accuracy_again(run, digits: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("bundle", "verify", "digits", "--json") == 0
    (told,) = json.loads(capsys.readouterr().out)
    assert told["ok"] is True
    for check, variant in zip(told["variants"], digits.variants, strict=True):
        assert check["variant"] == variant.name
        assert check["unchecked"] is not None or check["accuracy"] == pytest.approx(variant.accuracy, abs=0.01)


def test_verify_tells_an_accuracy_that_does_not_hold(
    run, digits: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "digits"
    shutil.copytree(digits.root, copy)
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["inputs"][0]["preprocess"] = [{"step": "scale", "by": -1.0}]
    (copy / "manifest.json").write_text(json.dumps(manifest))
    assert run("bundle", "verify", copy) == 1
    assert "the manifest says 99.33%" in capsys.readouterr().out
    assert run("bundle", "verify", copy, "--no-accuracy") == 0


@pytest.mark.slow
def test_build_writes_a_bundle_and_says_what_was_left_out(
    run, digits: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    samples = digits.samples()
    assert samples is not None
    np.savez(tmp_path / "rows.npz", image=(samples.inputs["image"] * 16).astype(np.uint8), labels=samples.labels)
    model = digits.path_of(digits.variants[0])
    rows = (
        "--calibration",
        tmp_path / "rows.npz",
        "--accuracy-floor",
        0.95,
        "--name",
        "again",
        "--without",
        "fp16.onnx",
    )
    out = tmp_path / "again"
    assert run("bundle", "build", model, "-o", out, *rows, "--preprocess", "scale:1/16", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    reasons = {one["name"]: one["reason"] for one in told["variants"]}
    assert reasons["fp32.onnx"] is None
    assert reasons["fp16.onnx"] == "it was not asked for"
    assert run("bundle", "inspect", out) == 0
    shown = capsys.readouterr().out
    assert "multiply by 0.0625" in shown
    assert "left out" in shown
    assert run("bundle", "build", model, "-o", out, *rows, "--preprocess", "scale:1/16") == 2
    assert run("bundle", "build", model, "-o", tmp_path / "b", *rows, "--preprocess", "squeeze:2") == 2
    assert run("bundle", "build", rows[1], "-o", tmp_path / "b", *rows) == 2, "no kind of model file"
    assert run("bundle", "build", model, "-o", tmp_path / "c", *rows, "--preprocess", "scale:-1/16") == 1
    assert "held-out rows, below the floor 95.00%" in capsys.readouterr().err


@pytest.mark.slow
def test_build_says_on_screen_why_a_variant_is_left_out(
    run, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnx", reason="onnx is not installed")
    from tests.runtime.building.sources import save_close_scores

    monkeypatch.setenv("COLUMNS", "300")
    source, rows = save_close_scores(tmp_path)
    out = tmp_path / "close"
    chosen = ("--accuracy-floor", 0.95, "--without", "fp16.onnx", "--without", "int8-avx2.onnx")
    assert run("bundle", "build", source, "-o", out, "--calibration", rows, *chosen) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  int8.onnx: ")]
    assert "is below the floor 95.0 %" in line
    assert run("bundle", "inspect", out) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("int8.onnx")]
    assert "is below the floor 95.0 %" in line


def test_verify_names_a_key_that_no_manifest_has(
    run, digits: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "digits"
    shutil.copytree(digits.root, copy)
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["target"] = manifest.pop("targets")
    (copy / "manifest.json").write_text(json.dumps(manifest))
    assert run("bundle", "verify", copy) == 1
    assert "unknown key 'target', did you mean 'targets'?" in capsys.readouterr().err
