"""What is printed for people is what was said."""

import pytest

from runtime.cli.console import people, standard


def test_a_rate_between_colons_is_no_emoji(capsys: pytest.CaptureFixture[str]) -> None:
    for console in (standard(), people()):
        console.print("server poisson:100: the generator lags", markup=False)
    told = capsys.readouterr()
    assert told.out == told.err == "server poisson:100: the generator lags\n"
