"""Install and uninstall as people call them, in a home of their own with a systemctl that only writes down what it is told."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_agent.install import carry_out
from edge_agent.install.plan import Command, FileToWrite, InstallPlan, UninstallPlan
from edge_agent.spool.policy import SpoolLimits
from edge_agent.spool.store import SpoolStore, Submission
from runtime.errors import MachineError, WrongUseError
from tests.programs import ROOT

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the units of this test are systemd's")

Run = Callable[..., subprocess.CompletedProcess[str]]
UNIT = "config/systemd/user/edgeward-agent.service"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "systemctl.log"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def run(tmp_path: Path, log: Path, home: Path) -> Run:
    home.mkdir()
    fake = tmp_path / "bin" / "systemctl"
    fake.parent.mkdir()
    fake.write_text(f'#!/bin/sh\necho "$@" >> {log}\ntest ! -e {tmp_path}/broken || {{ echo no bus >&2; exit 1; }}\n')
    fake.chmod(0o755)

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {
            **os.environ,
            "PATH": f"{fake.parent}:/usr/bin:/bin",
            "HOME": str(home),
            "XDG_CONFIG_HOME": str(home / "config"),
            "EDGEWARD_HOME": str(home / "state"),
            "PYTHONPATH": str(ROOT),
        }
        command = [sys.executable, "-m", "edgeward", "agent", *arguments]
        return subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True, timeout=60)

    return call


def tree(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_dry_run_shows_everything_and_touches_nothing(run: Run, home: Path, log: Path) -> None:
    done = run("install", "digits", "--gateway", "gateway:8001", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert f"would write {home / UNIT}" in done.stdout
    assert "agent run digits --gateway gateway:8001" in done.stdout
    assert "would run: systemctl --user enable edgeward-agent.service" in done.stdout
    assert tree(home) == []
    assert not log.exists()


def test_install_and_uninstall_leave_nothing_behind(run: Run, home: Path, log: Path) -> None:
    (home / "kept").write_text("of somebody else")
    done = run("install", "digits", "--json")
    assert done.returncode == 0, done.stderr
    assert tree(home) == [UNIT, "kept"]
    assert log.read_text().splitlines() == [
        "--user daemon-reload",
        "--user enable edgeward-agent.service",
        "--user restart edgeward-agent.service",
    ]
    assert f"ExecStart={sys.executable} -m edgeward agent run digits" in (home / UNIT).read_text()
    # As an agent that ran would leave it.
    store = SpoolStore(home / "state" / "agent" / "spool.db", SpoolLimits())
    store.add([Submission("k", "d", "m", b"payload")])
    store.close()
    refused = run("uninstall")
    assert refused.returncode == 1
    assert "1 requests in the spool were never answered" in refused.stderr
    assert UNIT in tree(home)
    done = run("uninstall", "--force", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["removes"] == [str(home / UNIT), str(home / "state" / "agent")]
    assert tree(home) == ["kept"]
    assert not (home / "state").exists()
    assert "--user disable --now edgeward-agent.service" in log.read_text()
    again = run("uninstall")
    assert (again.returncode, again.stdout) == (0, "nothing was installed here\n")


def test_what_fails_half_way_is_taken_back(run: Run, home: Path, tmp_path: Path) -> None:
    (tmp_path / "broken").touch()
    done = run("install", "digits")
    assert done.returncode == 1
    assert "systemctl --user daemon-reload ended with 1: no bus" in done.stderr
    assert tree(home) == []


def test_a_service_that_could_not_start_is_not_installed(run: Run, home: Path) -> None:
    done = run("install")
    assert done.returncode == 2
    assert "neither a model nor a gateway is given" in done.stderr
    assert tree(home) == []


def test_scratch_files_go_and_missing_programs_are_said(tmp_path: Path) -> None:
    scratch = FileToWrite(tmp_path / "task.xml", b"x", is_scratch=True)
    seen = tmp_path / "seen"
    nothing = UninstallPlan((), ())
    carry_out.install(InstallPlan((scratch,), (Command(("cp", str(scratch.path), str(seen))),)), nothing)
    assert (seen.read_bytes(), Path(scratch.path).exists()) == (b"x", False)
    with pytest.raises(WrongUseError, match="no-such-program is not on PATH"):
        carry_out.install(InstallPlan((), (Command(("no-such-program",)),)), nothing)
    carry_out.install(InstallPlan((), (Command(("false",), may_fail=True),)), nothing)
    with pytest.raises(MachineError, match="false ended with 1"):
        carry_out.install(InstallPlan((), (Command(("false",)),)), nothing)
