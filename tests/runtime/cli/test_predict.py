"""`edgeward predict`: every format in and out, atomic, and errors that say which array and rows."""

import contextlib
import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import edgeward
from runtime.bundle.bundle import Bundle
from runtime.tensors import Array
from tests.programs import environment


@pytest.fixture
def images(digits: Bundle) -> Array:
    samples = digits.samples()
    assert samples is not None
    return samples.inputs["image"][:100]


@pytest.fixture
def expected(calibrated_home: Path, images: Array) -> Array:
    with edgeward.load("digits", edgeward.EngineSettings(home=calibrated_home)) as model:
        return np.concatenate([model.predict(images[i : i + 1])["probabilities"] for i in range(len(images))])


def test_npz_in_and_npz_out(
    run, images: Array, expected: Array, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez_compressed(tmp_path / "in.npz", image=images, labels=np.arange(100))
    assert run("predict", "digits", tmp_path / "in.npz", "-o", tmp_path / "out.npz", "--json") == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["rows"], summary["unused_arrays"]) == (100, ["labels"])
    with np.load(tmp_path / "out.npz") as written:
        assert written.files == ["probabilities"]
        # A batch may round otherwise than single rows.
        np.testing.assert_allclose(written["probabilities"], expected, atol=1e-5)


def test_strange_rows_and_names_are_said(
    run, images: Array, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    strange = images * 255
    strange[3, 0, 2, 2] = np.nan
    strange[4] = 0  # nothing to say of this one
    np.savez(tmp_path / "in.npz", foo=strange)
    out = tmp_path / "out.csv"
    assert run("predict", "digits", tmp_path / "in.npz", "-o", out) == 0
    told = capsys.readouterr()
    assert "array 'foo' is taken as 'image'" in told.out
    assert f"1 row with NaN or infinity, answered all the same; which: {out}.errors.jsonl" in told.err
    assert "98 rows outside the range that the manifest declares, answered all the same; the first: row 0" in told.err
    assert "the manifest says 0 to 1" in told.err
    assert len(out.read_text().splitlines()) == 101
    assert run("predict", "digits", tmp_path / "in.npz", "-o", out, "--json") == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["non_finite_rows"], summary["out_of_range_rows"]) == (1, 98)
    assert summary["assumed"] == "array 'foo' is taken as 'image'"


@pytest.mark.parametrize("suffix", [".npy", ".jsonl", ".csv"])
def test_npy_in_and_every_other_format_out(run, suffix: str, images: Array, expected: Array, tmp_path: Path) -> None:
    np.save(tmp_path / "in.npy", images)
    out = tmp_path / f"out{suffix}"
    assert run("predict", "digits", tmp_path / "in.npy", "-o", out) == 0
    np.testing.assert_allclose(read(out), expected, atol=1e-5)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["in.npy", out.name])


def test_no_rows_make_an_empty_output(run, images: Array, tmp_path: Path) -> None:
    np.save(tmp_path / "in.npy", images[:0])
    assert run("predict", "digits", tmp_path / "in.npy", "-o", tmp_path / "out.npy") == 0
    assert np.load(tmp_path / "out.npy").shape == (0, 10)


def test_a_wrong_shape_says_which_rows_and_what_is_wanted_and_leaves_the_old_output(
    run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.csv"
    out.write_text("of yesterday")
    np.save(tmp_path / "in.npy", np.zeros((5, 8, 8), np.float32))
    assert run("predict", "digits", tmp_path / "in.npy", "-o", out) == 1
    told = capsys.readouterr().err
    assert "in.npy: input 'image' is float32 [5, 8, 8]; model 'digits' wants float32 [batch, 1, 8, 8]" in told
    assert out.read_text() == "of yesterday"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.npy", "out.csv"]


def test_a_missing_array_lists_what_there_is(
    run, images: Array, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(tmp_path / "in.npz", picture=images, labels=np.arange(100))
    assert run("predict", "digits", tmp_path / "in.npz", "-o", tmp_path / "out.csv") == 1
    assert "no array for input 'image'; it holds 'picture', 'labels'" in capsys.readouterr().err


def test_a_file_that_was_cut_short_is_refused(
    run, images: Array, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "in.npy", images)
    whole = (tmp_path / "in.npy").read_bytes()
    (tmp_path / "in.npy").write_bytes(whole[:-7])
    assert run("predict", "digits", tmp_path / "in.npy", "-o", tmp_path / "out.csv") == 1
    assert "it was cut short" in capsys.readouterr().err
    assert not (tmp_path / "out.csv").exists()


def test_pickles_are_never_read(run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "in.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    assert run("predict", "digits", tmp_path / "in.npy", "-o", tmp_path / "out.csv") == 1
    assert "pickled objects, which are never read" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "content", "code", "told"),
    [
        ("in.npz", b"not a zip", 1, "is no .npz"),
        ("in.npy", b"not an array", 1, "is no array file"),
        ("in.npy", None, 2, "cannot be read: No such file"),
        ("in.xls", b"", 2, "suffix '.xls'; expected one of .npz, .npy"),
    ],
)
def test_what_is_no_array_file_is_said(
    run, name: str, content: bytes | None, code: int, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    assert run("predict", "digits", tmp_path / name, "-o", tmp_path / "out.csv") == code
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("out", "told"), [("out.xls", "suffix '.xls'"), ("nowhere/out.csv", "does not exist; make it first")]
)
def test_an_output_that_cannot_be_is_said(
    run, out: str, told: str, images: Array, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "in.npy", images)
    assert run("predict", "digits", tmp_path / "in.npy", "-o", tmp_path / out) == 2
    assert told in capsys.readouterr().err


def read(file: Path) -> Array:
    """The probabilities in a written file [row, class]."""
    if file.suffix == ".npy":
        return np.load(file)
    if file.suffix == ".jsonl":
        return np.array([json.loads(line)["probabilities"] for line in file.read_text().splitlines()], np.float32)
    with file.open(newline="") as stream:
        header, *rows = csv.reader(stream)
    assert header == [f"probabilities.{i}" for i in range(10)]
    return np.array(rows, np.float32)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="a terminal to watch from is one of POSIX")
def test_whoever_watches_sees_a_bar_with_rows_and_rate(images: Array, calibrated_home: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "in.npy", np.resize(images, (30_000, *images.shape[1:])))
    watched, terminal = os.openpty()
    words = [sys.executable, "-m", "edgeward", "predict", "digits", "in.npy", "-o", "out.npy"]
    variables = {**environment(calibrated_home), "TERM": "xterm", "COLUMNS": "100"}
    with subprocess.Popen(words, cwd=tmp_path, env=variables, stdout=subprocess.DEVNULL, stderr=terminal) as process:
        os.close(terminal)
        seen = b""
        with contextlib.suppress(OSError):  # what Linux says when the other end has closed
            while piece := os.read(watched, 1 << 16):
                seen += piece
    os.close(watched)
    assert process.returncode == 0, seen
    assert len(np.load(tmp_path / "out.npy")) == 30_000
    bars = re.findall(r"([\d,]+) rows\x1b?.*?([\d,]+)/s", seen.decode(errors="replace"))
    assert len({rows for rows, _ in bars}) > 1, "it moves"
