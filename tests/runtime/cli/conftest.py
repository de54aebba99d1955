"""The command line in this process."""

from collections.abc import Callable
from pathlib import Path

import pytest

import edgeward

Run = Callable[..., int]


@pytest.fixture
def run(calibrated_home: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`run("probe", "--json")` is `edgeward probe --json`; the exit code."""
    monkeypatch.setenv("EDGEWARD_HOME", str(calibrated_home))

    def call(*arguments: object) -> int:
        with pytest.raises(SystemExit) as ended:
            edgeward.main([str(argument) for argument in arguments])
        return 0 if ended.value.code is None else int(ended.value.code)

    return call
