"""Install and uninstall as people call them, in a home of their own with a systemctl that only writes down what it is told."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from edge_agent.install import carry_out
from edge_agent.install.plan import Command, FileToWrite, InstallPlan, UninstallPlan
from edge_agent.spool.policy import SpoolLimits
from edge_agent.spool.store import SpoolStore, Submission
from runtime.client import connect
from runtime.client.spooled import Spooled
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
    # Ends with 1 for what stands in `broken`, each line a word; nothing is enabled or runs before it was told to.
    fake.write_text(
        f"""#!/bin/sh
echo "$@" >> {log}
for word in $(cat {tmp_path}/broken 2>/dev/null); do
    case " $* " in *" $word "*) echo no bus >&2; exit 1;; esac
done
case " $* " in *" --property=Version "*) exit 0;; esac
case " $* " in *" is-active "*) grep -q restart {log};; *" is-enabled "*) grep -q enable {log};; esac
"""
    )
    fake.chmod(0o755)
    loginctl = fake.with_name("loginctl")
    loginctl.write_text(f'#!/bin/sh\necho "loginctl $@" >> {log}\ncat {tmp_path}/linger 2>/dev/null || echo no\n')
    loginctl.chmod(0o755)

    def call(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        environment = {
            **os.environ,
            "PATH": f"{fake.parent}:/usr/bin:/bin",
            "HOME": str(home),
            "XDG_CONFIG_HOME": str(home / "config"),
            "EDGEWARD_HOME": str(home / "state"),
            "PYTHONPATH": str(ROOT),
            **variables,
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
    assert [line for line in log.read_text().splitlines() if " show" not in line] == [], "it only asks"


def test_install_and_uninstall_leave_nothing_behind(run: Run, home: Path, log: Path) -> None:
    (home / "kept").write_text("of somebody else")
    done = run("install", "digits", "--json")
    assert done.returncode == 0, done.stderr
    assert tree(home) == [UNIT, "kept"]
    told = [line for line in log.read_text().splitlines() if " show" not in line]
    assert told[:3] == [
        "--user daemon-reload",
        "--user enable edgeward-agent.service",
        "--user restart edgeward-agent.service",
    ]
    assert set(told[3:]) == {"--user is-active --quiet edgeward-agent.service"}, "it is looked at for a while"
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
    assert (again.returncode, again.stdout, again.stderr) == (0, "nothing was installed here\n", "")


def test_an_agent_that_ran_leaves_what_others_share_and_a_purge_leaves_nothing(
    run: Run, home: Path, calibrated_home: Path
) -> None:
    (home / "kept").write_text("of somebody else")
    shutil.copytree(calibrated_home / "calibrations", home / "state" / "calibrations")
    assert run("install", "digits").returncode == 0
    command = next(line for line in (home / UNIT).read_text().splitlines() if line.startswith("ExecStart="))
    with served(command.removeprefix("ExecStart=").split(), home) as agent, connect(agent["grpc"]) as client:
        client.submit("digits", {"image": np.zeros((1, 1, 8, 8), np.float32)}, key="k")
        while client.fetch(Spooled("digits", "k")) is None or not (home / "state" / "agent" / "history.db").exists():
            time.sleep(0.05)  # charts begin a second after the start
    assert {"spool.db", "history.db"} <= {path.name for path in (home / "state" / "agent").iterdir()}
    done = run("uninstall")
    assert done.returncode == 0, done.stderr
    shared = [str(home / "state" / "calibrations")]
    assert f"kept, for other commands may use it: {', '.join(shared)}; --purge removes that too" in done.stdout
    assert [str(path) for path in (home / "state").iterdir()] == shared, "and nothing else"
    refused = run("uninstall", "--purge", "--keep-state")
    assert refused.returncode == 2
    done = run("uninstall", "--purge")
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in home.iterdir()) == ["config", "kept"]
    assert tree(home) == ["kept"]


def spooled(home: Path) -> Path:
    """The agent's folder, as an agent that ran would leave it with one request that nobody answered."""
    state = home / "state" / "agent"
    store = SpoolStore(state / "spool.db", SpoolLimits())
    store.add([Submission("k", "d", "m", b"payload")])
    store.close()
    return state


def test_an_agent_that_runs_by_hand_keeps_its_state_and_is_named(run: Run, home: Path) -> None:
    command = [sys.executable, "-m", "edgeward", "agent", "run", "digits"]
    with served(command, home) as agent, connect(agent["grpc"]) as client:
        client.submit("digits", {"image": np.zeros((1, 1, 8, 8), np.float32)}, key="k")
        for words in (
            ["uninstall", "--force"],
            ["uninstall", "--purge"],
            ["uninstall", "--force", "--dry-run"],
            ["install", "digits"],
        ):
            refused = run(*words)
            assert refused.returncode == 1, words
            assert f"an agent runs on {home / 'state' / 'agent'}: process " in " ".join(refused.stderr.split())
        assert (home / "state" / "agent" / "spool.db").exists()
        assert not (home / UNIT).exists()


def test_state_is_not_taken_along_where_no_service_is_installed(run: Run, home: Path) -> None:
    state = spooled(home)
    for words in (["uninstall"], ["uninstall", "--dry-run"]):
        done = run(*words)
        assert done.returncode == 0, done.stderr
        assert (
            f"kept: {state} (1 requests wait in its spool), for no service was installed; --force removes it"
            in done.stdout
        )
    assert run("uninstall", "--purge").returncode == 1, "a request waits"
    assert (state / "spool.db").exists()
    done = run("uninstall", "--force")
    assert done.returncode == 0, done.stderr
    assert not state.exists()


def test_a_dry_run_of_uninstall_says_what_the_real_one_does(run: Run, home: Path) -> None:
    done = run("uninstall", "--purge", "--dry-run", "--json")
    assert json.loads(done.stdout)["removes"] == []
    assert run("install", "digits").returncode == 0
    state = spooled(home)
    refused = run("uninstall", "--dry-run")
    assert refused.returncode == 1
    assert "1 requests in the spool were never answered" in refused.stderr
    dry, real = (json.loads(run("uninstall", "--force", "--json", *more).stdout) for more in (["--dry-run"], []))
    assert dry["removes"] == real["removes"] == [str(home / UNIT), str(state)]


def test_variables_that_a_service_would_not_have_are_refused_by_name(run: Run, home: Path) -> None:
    lost = {"EDGEWARD_JOB_FOLDERS": "/data", "EDGEWARD_GATEWAY": "gateway:8001"}
    for words in (["install", "digits"], ["install", "digits", "--dry-run"]):
        done = run(*words, **lost)
        assert done.returncode == 2
        said = " ".join(done.stderr.split())
        assert "EDGEWARD_GATEWAY, EDGEWARD_JOB_FOLDERS: set here, and the service would not have it" in said
        assert "write gateway, job_folders to a file and name that by --config FILE" in said
    assert tree(home) == []
    given = run("install", "digits", "--gateway", "other:8001", "--dry-run", EDGEWARD_GATEWAY="gateway:8001")
    assert given.returncode == 0, "a flag outranks the variable, there as here"


@pytest.mark.parametrize("model", ["nosuch", "./missing.onnx"])
def test_a_model_that_is_not_there_is_not_installed(run: Run, home: Path, model: str) -> None:
    done = run("install", model, "--dry-run")
    assert (done.returncode, tree(home)) == (2, [])
    assert f"'{model}' is no file, no folder and no bundle that ships" in " ".join(done.stderr.split())


def test_whatever_run_can_be_told_the_service_is(run: Run, home: Path) -> None:
    (home / "ca.pem").write_text("")
    flags = [
        "--gateway",
        "grpcs://a:1",
        "--gateway",
        "grpcs://b:1",
        "--gateway-ca",
        "ca.pem",
        "--policy",
        "cloud_first",
    ]
    flags += [
        "--grpc-port",
        "9001",
        "--http-port",
        "0",
        "--host",
        "0.0.0.0",
        "--default-deadline",
        "2.5",
        "--uds",
        "agent.sock",
    ]
    done = run("install", "digits", *flags, "--dry-run")
    assert done.returncode == 0, done.stderr
    absolute = [str(home / word) if word in ("ca.pem", "agent.sock") else word for word in flags]
    command = next(line for line in done.stdout.splitlines() if line.startswith("ExecStart="))
    words = command.partition(" agent run ")[2].split()
    pairs = set(zip(words[1::2], words[2::2], strict=True))
    assert (words[0], pairs) == ("digits", set(zip(absolute[::2], absolute[1::2], strict=True)))


def test_where_no_manager_can_be_reached_that_is_said_once_with_what_to_do(
    run: Run, home: Path, tmp_path: Path, log: Path
) -> None:
    assert run("install", "digits").returncode == 0
    (home / UNIT).rename(home / "unit")
    log.unlink()
    (tmp_path / "broken").write_text("show")
    done = run("install", "digits")
    assert done.returncode == 1
    said = " ".join(done.stderr.split())
    assert said.count("no bus") == 1
    assert "cannot be reached" in said
    assert "--system" in said
    assert tree(home) == ["unit"]
    done = run("uninstall")
    assert (done.returncode, done.stdout, done.stderr) == (0, "nothing was installed here\n", "")
    assert set(log.read_text().splitlines()) == {"--user show --property=Version"}
    (home / "unit").rename(home / UNIT)
    for words in (["uninstall"], ["uninstall", "--dry-run"]):
        done = run(*words)
        assert done.returncode == 1, "a service may run that nobody here can end"
        assert " ".join(done.stderr.split()).count("no bus") == 1
    assert (home / UNIT).exists()
    done = run("install", "digits", "--dry-run")
    assert done.returncode == 0
    assert "note: it could not be installed now: the service manager of" in done.stdout


def test_a_users_service_that_ends_with_the_login_is_said_so(run: Run, tmp_path: Path) -> None:
    for words in (["install", "digits", "--dry-run"], ["install", "digits"]):
        told = run(*words).stdout
        assert "note: it runs while " in told
        assert "loginctl enable-linger " in told
        assert "--system" in told
    (tmp_path / "linger").write_text("yes\n")
    assert "note:" not in run("install", "digits", "--dry-run").stdout


@contextmanager
def served(command: list[str], home: Path) -> Iterator[dict[str, str]]:
    """The program of a unit, run as a service manager would, on free ports, until it was told to end."""
    environment = {**os.environ, "EDGEWARD_HOME": str(home / "state"), "PYTHONPATH": str(ROOT)}
    words = [*command, "--grpc-port", "0", "--http-port", "0", "--json"]
    with subprocess.Popen(words, cwd=home, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield json.loads(process.stdout.readline())
        finally:
            process.terminate()
            assert process.wait(30) == 0


def test_what_fails_half_way_is_taken_back(run: Run, home: Path, tmp_path: Path) -> None:
    (tmp_path / "broken").write_text("daemon-reload")
    done = run("install", "digits")
    assert done.returncode == 1
    assert "systemctl --user daemon-reload ended with 1: no bus" in done.stderr
    assert tree(home) == []


def test_a_service_that_starts_and_then_ends_is_taken_back(run: Run, home: Path, tmp_path: Path, log: Path) -> None:
    (tmp_path / "broken").write_text("is-active")
    done = run("install", "digits")
    assert done.returncode == 1
    assert "was started and did not stay" in " ".join(done.stderr.split())
    assert tree(home) == []
    assert "--user disable --now edgeward-agent.service" in log.read_text()


@pytest.mark.parametrize(
    ("broken", "put_back"),
    [
        ("daemon-reload", ["daemon-reload", "enable edgeward-agent.service"]),
        ("restart", ["daemon-reload", "enable edgeward-agent.service", "restart edgeward-agent.service"]),
    ],
    ids=["before it was disturbed", "after it was ended"],
)
def test_what_worked_before_is_there_as_it_was(
    run: Run, home: Path, log: Path, tmp_path: Path, broken: str, put_back: list[str]
) -> None:
    assert run("install", "digits").returncode == 0
    (home / UNIT).write_text((home / UNIT).read_text() + "# as ann likes it\n")
    before = (home / UNIT).read_bytes()
    log.write_text(log.read_text() + "--\n")
    (tmp_path / "broken").write_text(broken)
    done = run("install", "digits", "--gateway", "gateway:8001")
    assert done.returncode == 1
    assert f"systemctl --user {broken}" in done.stderr
    assert (home / UNIT).read_bytes() == before
    assert tree(home) == [UNIT]
    told = [line.removeprefix("--user ") for line in log.read_text().partition("--\n")[2].splitlines()]
    assert not [line for line in told if "disable" in line or "stop" in line]
    assert told[-len(put_back) :] == put_back


def test_an_installation_that_was_off_stays_off(run: Run, home: Path, log: Path, tmp_path: Path) -> None:
    assert run("install", "digits").returncode == 0
    before = (home / UNIT).read_bytes()
    log.unlink()
    (tmp_path / "broken").write_text("is-active\nis-enabled\nrestart")
    assert run("install").returncode == 2, "neither a model nor a gateway"
    assert run("install", "digits", "--gateway", "gateway:8001").returncode == 1
    assert (home / UNIT).read_bytes() == before
    assert log.read_text().splitlines()[-2:] == [
        "--user disable edgeward-agent.service",
        "--user stop edgeward-agent.service",
    ]


def test_a_unit_that_cannot_be_written_leaves_the_one_before_it(tmp_path: Path) -> None:
    unit = tmp_path / "unit"
    unit.write_bytes(b"old")
    blocked = FileToWrite(tmp_path / "unit" / "x", b"new")
    undo = InstallPlan((FileToWrite(unit, b"old"),), (Command(("touch", str(tmp_path / "ran")), disturbs=True),))
    with pytest.raises(MachineError, match="cannot be written"):
        carry_out.install(InstallPlan((FileToWrite(unit, b"new"), blocked), ()), undo)
    assert unit.read_bytes() == b"old"
    assert not (tmp_path / "ran").exists(), "what still runs is left alone"
    assert tree(tmp_path) == ["unit"]


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
