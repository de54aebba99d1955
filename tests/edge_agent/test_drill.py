"""The failure drill follows its file."""

from pathlib import Path

import pytest

from edge_agent.drill import MAX_TEXT_BYTES, Drill
from runtime.errors import ExecutionError


def test_it_fails_only_while_the_file_exists(tmp_path: Path) -> None:
    file = tmp_path / "drill"
    drill = Drill(file)
    drill.check()
    file.write_text("the GPU fell out\n")
    with pytest.raises(ExecutionError, match="^drill: the GPU fell out$"):
        drill.check()
    file.unlink()
    drill.check()


def test_an_empty_file_names_itself(tmp_path: Path) -> None:
    file = tmp_path / "drill"
    file.touch()
    with pytest.raises(ExecutionError, match="remove it to end the drill"):
        Drill(file).check()


def test_only_the_beginning_of_a_large_file_is_told(tmp_path: Path) -> None:
    file = tmp_path / "drill"
    file.write_bytes(b"x" * 100_000 + b"\xff")
    with pytest.raises(ExecutionError) as caught:
        Drill(file).check()
    assert len(str(caught.value)) < MAX_TEXT_BYTES + 20


def test_a_folder_in_its_place_is_a_drill_too(tmp_path: Path) -> None:
    with pytest.raises(ExecutionError, match="cannot be read"):
        Drill(tmp_path).check()


@pytest.mark.parametrize(("text", "stall_s"), [("stall 0.25", 0.25), ("stall 2\n", 2.0), ("stall -1", 0.0)])
def test_a_file_that_says_stall_makes_runs_late_instead_of_failing(tmp_path: Path, text: str, stall_s: float) -> None:
    file = tmp_path / "drill"
    assert Drill(file).check() == 0.0
    file.write_text(text)
    assert Drill(file).check() == stall_s


def test_a_stall_of_no_number_is_a_text_like_any_other(tmp_path: Path) -> None:
    file = tmp_path / "drill"
    file.write_text("stall the engine")
    with pytest.raises(ExecutionError, match="drill: stall the engine"):
        Drill(file).check()
