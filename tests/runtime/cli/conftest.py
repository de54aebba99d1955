"""One calibration for all commands that need a model, and the command line in this process."""

from collections.abc import Callable
from pathlib import Path

import pytest

import edgeward

Run = Callable[..., int]


@pytest.fixture(scope="session")
def calibrated_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in which the digits were calibrated, once."""
    home = tmp_path_factory.mktemp("home")
    edgeward.load("digits", edgeward.EngineSettings(home=home)).close()
    return home


@pytest.fixture
def run(calibrated_home: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`run("probe", "--json")` is `edgeward probe --json`; the exit code."""
    monkeypatch.setenv("EDGEWARD_HOME", str(calibrated_home))

    def call(*arguments: object) -> int:
        with pytest.raises(SystemExit) as ended:
            edgeward.main([str(argument) for argument in arguments])
        return 0 if ended.value.code is None else int(ended.value.code)

    return call
