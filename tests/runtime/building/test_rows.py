"""Rows from npz, and their split."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from runtime.building.rows import read_rows, split_rows
from runtime.errors import WrongUseError


def test_what_calibrates_never_measures() -> None:
    values = np.arange(300)
    split = split_rows({"x": values}, values % 7, 100, seed=1)
    calibrating, held_out = set(split.calibration["x"].tolist()), set(split.held_out["x"].tolist())
    assert (len(calibrating), len(held_out)) == (100, 200)
    assert not calibrating & held_out
    assert split.labels is not None
    np.testing.assert_array_equal(split.labels, split.held_out["x"] % 7)
    assert "100 calibrate" in split.said
    assert "200 others are held out" in split.said


def test_the_split_is_seeded_and_shuffled() -> None:
    values = {"x": np.arange(300)}
    first, again, other = (split_rows(values, None, 100, seed).held_out["x"].tolist() for seed in (1, 1, 2))
    assert first == again
    assert first != other
    assert first != list(range(100, 300))


def test_at_most_half_calibrate_and_at_most_a_thousand_are_held_out() -> None:
    assert len(split_rows({"x": np.arange(30)}, None, 100, 0).calibration["x"]) == 15
    split = split_rows({"x": np.arange(5000)}, None, 100, 0)
    assert len(split.held_out["x"]) == 1000
    assert "3900 are not used" in split.said


def test_what_is_no_number_never_calibrates_and_is_held_out() -> None:
    x = np.arange(40, dtype=np.float32).reshape(20, 2)
    x[3, 1], x[7, 0], x[8] = np.nan, np.inf, -np.inf
    split = split_rows({"x": x, "token": np.arange(20)}, None, 100, seed=1)
    assert len(split.calibration["x"]) == 10
    assert np.isfinite(split.calibration["x"]).all()
    assert {3, 7, 8} <= set(split.held_out["token"].tolist())
    assert not set(split.calibration["token"].tolist()) & set(split.held_out["token"].tolist())
    assert "3 hold NaN or infinity and do not calibrate" in split.said
    assert "infinity" not in split_rows({"x": np.zeros((20, 2))}, None, 100, 1).said


def test_rows_by_name_by_prefix_or_alone(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **{"input:x": np.zeros((12, 2)), "y": np.ones((12, 1)), "output:z": np.ones(12)})
    rows = read_rows(tmp_path / "a.npz")
    assert rows.of(["x", "y"])["x"].shape == (12, 2)
    with pytest.raises(WrongUseError, match=r"no array 'q'; it has 'input:x', 'y'"):
        rows.of(["x", "q"])
    np.savez(tmp_path / "b.npz", images=np.zeros((12, 2)), labels=np.zeros((12, 1), int))
    rows = read_rows(tmp_path / "b.npz")
    assert list(rows.of(["anything"])) == ["anything"]
    assert rows.labels is not None
    assert rows.labels.shape == (12,)


@pytest.mark.parametrize(
    ("arrays", "text"),
    [
        ({"x": np.zeros((9, 2))}, "at least 10"),
        ({"x": np.zeros((12, 2)), "labels": np.zeros(11)}, "same number of rows"),
        ({"labels": np.zeros(12)}, "an array for each input"),
        ({"x": np.zeros((12, 2)), "labels": np.zeros((12, 3))}, "one number a row"),
        ({"x": np.array([{}] * 12)}, "without pickles"),
    ],
)
def test_what_is_no_rows_is_refused(tmp_path: Path, arrays: dict[str, np.ndarray], text: str) -> None:
    np.savez(tmp_path / "rows.npz", **arrays)
    with pytest.raises(WrongUseError, match=text):
        read_rows(tmp_path / "rows.npz")


def test_a_file_that_is_no_npz_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.npz").write_bytes(b"PK\x03\x04 not really")
    with pytest.raises(WrongUseError, match="cannot be read as npz"):
        read_rows(tmp_path / "rows.npz")


def test_rows_that_are_not_there_are_said_so(tmp_path: Path) -> None:
    with pytest.raises(WrongUseError, match=r"there is no file .*rows\.npz; rows are written with numpy\.savez"):
        read_rows(tmp_path / "rows.npz")
