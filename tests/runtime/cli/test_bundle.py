"""`edgeward bundle inspect|verify`."""

import json
import shutil
import tarfile
from pathlib import Path

import pytest

from runtime.bundle.bundle import Bundle


def test_inspect_shows_tensors_targets_and_variants(run, digits: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("bundle", "inspect", "digits") == 0
    shown = capsys.readouterr().out
    assert "FP32 [batch, 1, 8, 8]" in shown
    assert "accuracy_floor" in shown
    for variant in digits.variants:
        assert variant.file in shown


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
