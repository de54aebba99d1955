"""The demo, run as a person runs it: what it prints, and that nothing that it started is left."""

import os
import re
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]
MARK = "EDGEWARD_DEMO_TEST"

pytestmark = pytest.mark.slow


@pytest.fixture
def mark() -> str:
    """An environment variable that everything started by one test inherits, so that leftovers are found."""
    return str(uuid.uuid4())


def start_demo(mark: str, temporary: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, MARK: mark, "TMPDIR": str(temporary)}
    return subprocess.Popen(
        [sys.executable, "-m", "scripts.demo"],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def marked(mark: str) -> list[psutil.Process]:
    """Every process of this test that still runs."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def assert_nothing_is_left(mark: str, temporary: Path) -> None:
    # A process that was killed may take a moment to be gone.
    end = time.monotonic() + 10
    while marked(mark) and time.monotonic() < end:
        time.sleep(0.05)
    assert marked(mark) == []
    assert list(temporary.glob("edgeward-demo-*")) == []


@pytest.mark.timeout(180)
def test_nothing_is_lost_and_nothing_is_wrong(mark: str, tmp_path: Path) -> None:
    with start_demo(mark, tmp_path) as process:
        shown, _ = process.communicate(timeout=170)
    assert process.returncode == 0, shown
    assert "▶" in shown
    accuracy = re.search(r"accuracy (\d+\.\d+)%", shown)
    assert accuracy is not None
    assert float(accuracy[1]) >= 97
    # A hedge may have the other arm answer where the first takes unusually long: at most one request in twenty.
    for name, usual_edge in (("first pass", 450), ("second:", 225), ("third:", 225)):
        row = re.search(rf"^{name}.* 450 +(\d+) +(\d+) +(\d+) +(\d+)$", shown, re.MULTILINE)
        assert row is not None, shown
        edge, cloud, failed, wrong = (int(figure) for figure in row.groups())
        assert (edge + cloud, failed, wrong) == (450, 0, 0), shown
        assert abs(edge - usual_edge) <= 450 / 20, shown
    assert "served_by: cloud" in shown
    assert "served_by: edge" in shown
    assert re.search(r"^  reason: .*(unreachable|breaker is open)", shown, re.MULTILINE), "a hedge shows no kill"
    unreached = re.search(r"(\d+) of the 225 requests after it say that the gateway cannot be reached", shown)
    assert unreached is not None
    assert int(unreached[1]) > 200
    for target in ("in-process", "agent gRPC", "agent REST", "gateway gRPC"):
        assert re.search(rf"^{target} +[\d.]+ +[\d.]+ +[\d.]+ +[\d,]+ +0 *$", shown, re.MULTILINE)
    assert_nothing_is_left(mark, tmp_path)


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM], ids=lambda kind: kind.name)
def test_stopped_in_the_middle_it_leaves_nothing(kind: signal.Signals, mark: str, tmp_path: Path) -> None:
    with start_demo(mark, tmp_path) as process:
        assert process.stdout is not None
        before = []
        for line in process.stdout:
            before.append(line)
            if "held-out images" in line:
                break
        assert len(marked(mark)) >= 3, f"gateway and agent run beside the demo, which said:\n{''.join(before)}"
        process.send_signal(kind)
        shown, _ = process.communicate(timeout=60)
    assert process.returncode == 130, shown
    assert "Traceback" not in shown
    assert_nothing_is_left(mark, tmp_path)
