"""What is printed for people is what was said."""

import pytest

from runtime.cli.console import facts, people, standard


def test_a_rate_between_colons_is_no_emoji(capsys: pytest.CaptureFixture[str]) -> None:
    for console in (standard(), people()):
        console.print("server poisson:100: the generator lags", markup=False)
    told = capsys.readouterr()
    assert told.out == told.err == "server poisson:100: the generator lags\n"


def test_what_is_piped_has_no_blanks_at_the_ends_of_lines_and_as_many_columns_as_are_asked_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for columns, lines in (("", 3), ("80", 5), ("many", 3)):
        monkeypatch.setenv("COLUMNS", columns)
        standard().print(facts([("why", "so " * 50), ("short", "yes"), ("", "")]))
        told = capsys.readouterr().out
        assert len(told.splitlines()) == lines
        assert told.splitlines() == [line.rstrip() for line in told.splitlines()]
