"""Folders among the temporary ones: gone with their process, or swept by the next where it was killed; never anybody else's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from runtime.serving.own_folder import OwnFolder, sweep
from runtime.serving.workers.shared_metrics import SharedMetrics
from runtime.serving.workers.shared_statistics import SharedStatistics
from runtime.serving.workers.supervisor import why_no_workers
from tests.runtime.serving.real import home_with_choices, put_model
from tests.runtime.serving.threaded import PATIENCE_S

ROOT = Path(__file__).resolve().parents[3]
pytestmark = pytest.mark.skipif(
    sys.platform == "win32", reason="no flock on Windows, and neither of those who have folders"
)
HOLDER = """
import sys, time
from pathlib import Path
from runtime.serving.own_folder import OwnFolder
folder = OwnFolder("ours-", Path(sys.argv[1]))
(folder.path / "more").write_text("left")
print(folder.path.name, flush=True)
time.sleep(600)
"""


def test_a_folder_goes_with_who_made_it(tmp_path: Path) -> None:
    folder = OwnFolder("ours-", tmp_path)
    assert folder.path.stat().st_mode & 0o777 == 0o700
    (folder.path / "socket").touch()
    folder.close()
    folder.close()
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_swept_and_what_lives_is_not(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    try:
        theirs = tmp_path / holder.stdout.readline().strip()
        mine = OwnFolder("ours-", tmp_path)
        assert (theirs / "more").exists(), "its process lives"
    finally:
        holder.kill()
        holder.communicate()
    assert (theirs / "more").exists()
    sweep("ours-", tmp_path)
    assert not theirs.exists()
    assert mine.path.exists()
    mine.close()


def test_what_cannot_be_removed_is_still_known_as_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = tmp_path / "ours-left"
    left.mkdir()
    (left / "a").touch()
    (left / "lock").touch()

    def refuses(*_: object) -> None:
        raise PermissionError("not today")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", refuses)
        sweep("ours-", tmp_path)
    assert (left / "lock").exists()
    sweep("ours-", tmp_path)
    assert not left.exists()


def test_a_folder_without_room_for_its_lock_is_not_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", full)
        with pytest.raises(OSError, match="No space left"):
            OwnFolder("ours-", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_folder_of_ours_stays(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "lock").touch()
    (tmp_path / "ours-link").symlink_to(elsewhere)
    (tmp_path / "ours-file").touch()
    (tmp_path / "ours-bare").mkdir()
    (tmp_path / "ours-linked-lock").mkdir()
    (tmp_path / "ours-linked-lock" / "lock").symlink_to(elsewhere / "lock")
    before = sorted(tmp_path.rglob("*"))
    sweep("ours-", tmp_path)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_that_nobody_can_lock_is_swept_by_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    def refuses(*_: object) -> None:
        raise OSError("no locks available")

    with monkeypatch.context() as patched:
        patched.setattr(fcntl, "flock", refuses)
        folder = OwnFolder("ours-", tmp_path)
    sweep("ours-", tmp_path)
    assert folder.path.exists()
    folder.close()
    assert not folder.path.exists()


def test_a_worker_whose_folder_is_gone_says_so_and_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    SharedStatistics(tmp_path / "gone", "worker").tell([])
    SharedMetrics(tmp_path / "gone", "worker").tell([])
    assert caplog.text.count("the other workers do not learn") == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "prefix"),
    [
        pytest.param(
            ["--grpc-front", "native"],
            "edgeward-grpc-",
            marks=pytest.mark.skipif(find_spec("pygrpc_native") is None, reason="pygrpc-native is not installed"),
        ),
        pytest.param(
            ["--grpc-front", "asyncio", "--workers", "2"],
            "edgeward-workers-",
            marks=pytest.mark.skipif(why_no_workers() is not None, reason=str(why_no_workers())),
        ),
    ],
)
def test_a_server_sweeps_what_a_killed_one_left(tmp_path: Path, options: list[str], prefix: str) -> None:
    put_model(tmp_path / "repository", "simple", 1)
    (temporary := tmp_path / "t").mkdir()

    def start() -> subprocess.Popen[str]:
        program = [
            sys.executable,
            str(ROOT / "edgeward.py"),
            "serve",
            "--model-repository",
            str(tmp_path / "repository"),
        ]
        process = subprocess.Popen(
            [*program, "--grpc-port", "0", "--http-port", "0", "--json", *options],
            env={**os.environ, "EDGEWARD_HOME": str(home_with_choices(tmp_path / "home")), "TMPDIR": str(temporary)},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert process.stdout is not None
        assert process.stdout.readline(), "it did not start"
        return process

    killed = start()
    (left,) = temporary.glob(f"{prefix}*")
    killed.kill()
    killed.communicate()
    assert left.exists()
    process = start()
    try:
        (own,) = temporary.glob(f"{prefix}*")
        assert own != left
        process.send_signal(signal.SIGTERM)
        assert process.wait(2 * PATIENCE_S) == 0
    finally:
        process.kill()
        process.communicate()
    assert list(temporary.glob(f"{prefix}*")) == []
