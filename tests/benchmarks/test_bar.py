"""Progress of a measurement where nobody watches: each step by a line, on standard error."""

import pytest

from benchmarks import bar as bars
from benchmarks.bar import bar, counted


def test_in_a_log_each_step_is_a_line_once(capsys: pytest.CaptureFixture[str]) -> None:
    with bar(60.0) as tell:
        for what, share in (("digits on inproc: single", 0.0), ("digits on inproc: single", 0.3), ("offline", 0.5)):
            tell(what, share)
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err == "digits on inproc: single (0%)\noffline (50%)\n"


def test_short_work_says_nothing(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bars, "BAR_AFTER_S", 3600.0)
    with bar(1.0) as tell:
        tell("digits on inproc: single", 0.5)
    assert capsys.readouterr().err == ""


def test_a_loop_gives_its_steps_and_tells_of_some(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bars, "BAR_AFTER_S", 0.0)
    assert list(counted(range(100), "kill")) == list(range(100))
    lines = capsys.readouterr().err.splitlines()
    assert lines[:2] == ["kill 1 of 100 (0%)", "kill 6 of 100 (5%)"]
    assert len(lines) == 20
    assert list(counted([], "kill")) == []


def test_a_short_loop_says_nothing(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bars, "BAR_AFTER_S", 3600.0)
    assert list(counted("ab", "round")) == ["a", "b"]
    assert capsys.readouterr().err == ""
