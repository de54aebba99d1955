"""A bundle tried out in a process of its own: cut short, good or bad, and by what the agent that will serve it chooses by."""

import json
import shutil
import threading
from pathlib import Path

import pytest

from edge_agent.sync import check as check_module
from edge_agent.sync.check import Chooses, check_apart
from edge_agent.sync.interruption import Interruption
from runtime.backends.registry import our_backends
from runtime.bundle.bundle import Bundle
from runtime.bundle.objective import Objective
from runtime.bundle.writing import pack
from runtime.errors import CancelledError
from runtime.selection.recall import recall
from runtime.selection.settings import SelectionSettings


def test_a_check_under_way_is_cut_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interruption = Interruption()
    monkeypatch.setattr(check_module.sys, "executable", str(tmp_path / "slow"))
    (tmp_path / "slow").write_text(f"#!/bin/sh\ntouch {tmp_path}/began\nexec sleep 60\n")
    (tmp_path / "slow").chmod(0o755)
    ended: list[Exception] = []

    def work() -> None:
        try:
            check_apart(tmp_path / "x.tar", "m", Chooses("latency"), interruption)
        except CancelledError as error:
            ended.append(error)

    pass_ = threading.Thread(target=work)
    pass_.start()
    while not (tmp_path / "began").exists():
        pass_.join(0.01)
    interruption.set()
    pass_.join(30)
    assert len(ended) == 1
    with pytest.raises(CancelledError):
        check_apart(tmp_path / "x.tar", "m", Chooses("latency"), interruption)


@pytest.mark.slow
def test_the_check_itself_in_a_process_of_its_own(
    digits: Bundle, calibrated_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEWARD_HOME", str(calibrated_home))
    tar = pack(digits, tmp_path / "digits.tar")
    good = check_apart(tar, "digits", Chooses("latency"), Interruption())
    assert good.is_good, good.text
    (tmp_path / "bad.tar").write_bytes(b"no tar")
    bad = check_apart(tmp_path / "bad.tar", "digits", Chooses("latency"), Interruption())
    assert (bad.is_good, "nor a whole tar" in bad.text) == (False, True)


@pytest.mark.slow
def test_what_a_check_measures_is_what_the_agent_recalls(
    digits: Bundle, calibrated_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a server nothing else is kept here: a check by another objective would measure, and keep that."""
    kept = tmp_path / "calibrations"
    kept.mkdir()
    for file in (calibrated_home / "calibrations").iterdir():
        if json.loads(file.read_text())["choice"]["objective"] == Objective.EFFICIENCY:
            shutil.copy(file, kept)
    before = sorted(file.name for file in kept.iterdir())
    monkeypatch.setenv("EDGEWARD_HOME", str(tmp_path))
    found = check_apart(pack(digits, tmp_path / "digits.tar"), "digits", Chooses(), Interruption())
    assert found.is_good, found.text
    assert sorted(file.name for file in kept.iterdir()) == before
    assert before, "what other tests of this process measured may be there too"


@pytest.mark.slow
def test_a_check_measures_for_as_many_threads_as_the_agent_takes(
    digits: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEWARD_HOME", str(tmp_path))
    found = check_apart(pack(digits, tmp_path / "digits.tar"), "digits", Chooses("efficiency", 1), Interruption())
    assert found.is_good, found.text
    one_thread = SelectionSettings(objective=Objective.EFFICIENCY, threads=1)
    kept = recall(digits, our_backends(), one_thread, tmp_path / "calibrations")
    assert kept is not None
    assert {ranked.candidate.options.threads for ranked in kept.ranked} == {1}


def test_what_it_chooses_by_survives_a_command_line() -> None:
    for each in (Chooses(), Chooses("latency"), Chooses("", 2)):
        assert Chooses.read(*each.words()) == each
