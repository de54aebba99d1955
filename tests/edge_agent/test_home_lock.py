"""An agent's folder is one process's: real processes, one killed."""

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edge_agent.home_lock import LOCK, hold, hold_pass, hold_to_remove, require_free
from runtime import file_lock
from runtime.errors import ConflictError
from tests.programs import environment, started

PORTS = ("--grpc-port", "0", "--http-port", "0")
HOLDER = """
import sys
from pathlib import Path
from edge_agent.home_lock import hold
with hold(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def held_by_another(home: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(home)],
        env=environment(home),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_who_comes_second_is_told_which_process_was_first_until_that_is_killed(tmp_path: Path) -> None:
    home = tmp_path / "agent"
    with held_by_another(home) as first:
        for attempt in (hold(home), hold_to_remove(home, 0.0)):
            with pytest.raises(ConflictError, match=f"process {first.pid} on .*, since 20"), attempt:
                pass
        with pytest.raises(ConflictError, match=f"process {first.pid} "):
            require_free(home)
        first.kill()
    require_free(home)
    with hold(home), pytest.raises(ConflictError, match=f"process {os.getpid()} "):
        require_free(home)
    require_free(home)


def test_removing_waits_for_one_that_ends(tmp_path: Path) -> None:
    with held_by_another(tmp_path) as first:
        assert first.stdin is not None
        first.stdin.close()
        with hold_to_remove(tmp_path, 60.0):
            (tmp_path / LOCK).unlink()
    with hold(tmp_path):
        assert (tmp_path / LOCK).exists()


def test_who_starts_waits_for_one_that_only_writes(tmp_path: Path) -> None:
    with held_by_another(tmp_path) as first:
        assert first.stdin is not None
        first.stdin.close()
        with hold(tmp_path, 60.0):
            assert (tmp_path / LOCK).read_text().startswith(f"{os.getpid()} ")


def test_a_pass_is_one_processs_and_keeps_no_agent_from_the_home(tmp_path: Path) -> None:
    with hold_pass(tmp_path / "sync"):
        with (
            pytest.raises(ConflictError, match=f"process {os.getpid()} .*; wait for its end"),
            hold_pass(tmp_path / "sync"),
        ):
            pass
        with hold(tmp_path):
            pass
    with hold_pass(tmp_path / "sync"):
        pass


def test_a_lock_on_a_file_that_was_removed_meanwhile_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = file_lock.lock_now
    removed = []

    def removes_once(descriptor: int) -> None:
        real(descriptor)
        if not removed:
            removed.append((tmp_path / LOCK).unlink())

    monkeypatch.setattr("edge_agent.home_lock.lock_now", removes_once)
    with hold(tmp_path), pytest.raises(ConflictError, match=f"process {os.getpid()} "):
        require_free(tmp_path)


def test_looking_makes_nothing(tmp_path: Path) -> None:
    require_free(tmp_path / "agent")
    with hold_to_remove(tmp_path / "agent", 0.0):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_home_without_locks_is_said_and_serves_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuses(_: int) -> None:
        raise OSError("no locks available")

    monkeypatch.setattr("edge_agent.home_lock.lock_now", refuses)
    with caplog.at_level(logging.WARNING), hold(tmp_path):
        assert "takes no lock (no locks available): nothing keeps a second agent" in caplog.text
    require_free(tmp_path)


@pytest.mark.slow
def test_syncing_by_hand_keeps_off_the_folder_of_an_agent_that_listens_elsewhere(tmp_path: Path) -> None:
    command = ("agent", "sync", "--once", "--from", "127.0.0.1:1", "--model", "digits", "--http-port", "1")
    with held_by_another(tmp_path / "agent") as agent:
        done = subprocess.run(
            [sys.executable, "-m", "edgeward", *command],
            env=environment(tmp_path),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        agent.kill()
    said = " ".join(done.stderr.split())
    assert done.returncode == 1, said
    assert f"an agent runs on {tmp_path / 'agent'}: process {agent.pid} on " in said
    assert "by --host and --http-port" in said
    assert not (tmp_path / "agent" / "sync").exists(), "nothing of the agent's was touched"


@pytest.mark.slow
def test_a_second_agent_on_one_home_does_not_start(tmp_path: Path) -> None:
    with started(tmp_path, "agent", "run", "digits", *PORTS) as first:
        second = subprocess.run(
            [sys.executable, "-m", "edgeward", "agent", "run", "digits", *PORTS],
            env=environment(tmp_path),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert second.returncode == 1, second.stderr
        said = " ".join(second.stderr.split())
        assert f"an agent runs on {tmp_path / 'agent'}: process {first.process.pid} on " in said
        assert "EDGEWARD_HOME" in said
