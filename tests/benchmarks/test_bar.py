"""Progress of a measurement where nobody watches: each step by a line, on standard error."""

import pytest

from benchmarks import bar as bars
from benchmarks.bar import bar


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
