"""Candidates that crash, hang, raise or eat memory, in processes that are really there."""

import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from runtime.selection.bench import BenchUnavailableError, CandidateFailedError, Trial
from runtime.selection.candidates import Candidate, enumerate_candidates
from runtime.selection.local_bench import LocalBench
from runtime.selection.trial import IsolatedBench
from runtime.selection.trial_messages import start_of
from tests.runtime.selection.fakes import SOURCE, backends, machine, make_bundle

CHECK_S = 1.0

pytestmark = pytest.mark.slow


class Isolated:
    """A bundle of one variant a behaviour, and a bench in another process."""

    def __init__(
        self, root: Path, timeout_s: float = 30.0, memory_mb: float | None = None, **does: dict[str, Any]
    ) -> None:
        self.bundle = make_bundle(root, {"good": {}, **does})
        candidates, _ = enumerate_candidates(self.bundle, machine(), backends())
        self._candidates = {c.variant.name: c for c in candidates}
        self.bench = IsolatedBench(self.bundle, SOURCE, 0, timeout_s, memory_mb)

    def __getitem__(self, name: str) -> Candidate:
        return self._candidates[name]

    def try_out(self, name: str) -> Trial:
        return self.bench.try_out(self[name], None, 1, CHECK_S)

    def allow(self, timeout_s: float) -> None:
        """From now on an order may take so long."""
        self.bench._timeout_s = timeout_s

    @property
    def pid(self) -> int:
        worker = self.bench._worker
        assert worker is not None
        return worker._process.pid

    def __enter__(self) -> "Isolated":
        return self

    def __exit__(self, *error: object) -> None:
        self.bench.close()


def ends(pid: int) -> bool:
    """Whether a process that was killed is gone within ten seconds; a zombie is, its reaper may take its time."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.01)
    return False


def test_a_good_candidate_is_tried_and_timed(tmp_path: Path) -> None:
    with Isolated(tmp_path) as isolated:
        trial = isolated.try_out("good")
        assert (trial.guard.accuracy, trial.guard.agreement, trial.guard.rows) == (1.0, 1.0, 40)
        assert trial.is_sampled
        assert trial.batch_sizes == (1, 8, 32)
        assert trial.loading_s > 0, "its process was started"
        assert isolated.bench.check(isolated["good"], None, 1.0).rows == trial.guard.rows
        assert math.isfinite(trial.memory[-1].mb)
        timed = isolated.bench.time(isolated["good"], 8, 0.02)
        assert timed.latencies_ms
        assert min(timed.latencies_ms) >= 0.8  # 8 rows of 0.1 ms sleep each
        assert 0 < timed.busy_ms < min(timed.latencies_ms), "who sleeps takes less of the processor"
        assert isolated.pid != os.getpid()


@pytest.mark.skipif(not hasattr(signal, "SIGABRT") or sys.platform == "win32", reason="signals are POSIX")
def test_a_crash_costs_only_that_candidate(tmp_path: Path) -> None:
    with Isolated(tmp_path, crash={"run": "abort"}) as isolated:
        isolated.try_out("good")
        before = isolated.pid
        with pytest.raises(CandidateFailedError, match="its process was ended by SIGABRT"):
            isolated.try_out("crash")
        assert isolated.try_out("good").guard.accuracy == 1.0
        assert isolated.pid != before
        with pytest.raises(CandidateFailedError, match="SIGABRT"):
            isolated.bench.time(isolated["crash"], 1, 0.01)
        assert isolated.bench.time(isolated["good"], 1, 0.01)


def test_a_hang_costs_only_that_candidate(tmp_path: Path) -> None:
    with Isolated(tmp_path, timeout_s=1.0, hang={"run": "hang"}) as isolated:
        with pytest.raises(CandidateFailedError, match="it hung: no answer within 1 s") as caught:
            isolated.try_out("hang")
        assert caught.value.is_hang
        isolated.allow(30.0)
        assert isolated.try_out("good").guard.accuracy == 1.0


def test_a_hunger_for_memory_costs_only_that_candidate(tmp_path: Path) -> None:
    with Isolated(tmp_path, memory_mb=150, eat={"run": "eat, hang"}) as isolated:
        with pytest.raises(CandidateFailedError, match="it took more than 150 MB of memory and was ended"):
            isolated.try_out("eat")
        assert isolated.try_out("good").guard.accuracy == 1.0


def test_memory_growth_is_measured(tmp_path: Path) -> None:
    with Isolated(tmp_path, eat={"run": "eat"}) as isolated:
        assert 390 < isolated.try_out("eat").memory[-1].mb < 450
        assert isolated.try_out("good").memory[-1].mb < 50  # what the neighbour took is given back


@pytest.mark.parametrize(
    ("does", "reason"),
    [
        ({"open": "raise"}, "this file needs operator set 99"),
        ({"run": "raise"}, "operator Foo is not implemented"),
    ],
)
def test_an_error_is_the_reason_and_the_worker_stays(tmp_path: Path, does: dict[str, Any], reason: str) -> None:
    with Isolated(tmp_path, bad=does) as isolated:
        isolated.try_out("good")
        before = isolated.pid
        with pytest.raises(CandidateFailedError, match=reason):
            isolated.try_out("bad")
        assert isolated.pid == before


def test_wrong_and_nan_answers_are_reported_across_the_pipe(tmp_path: Path) -> None:
    with Isolated(tmp_path, wrong={"wrong": 0.5}, nan={"run": "nan"}) as isolated:
        agreement = isolated.try_out("wrong").guard.agreement
        assert agreement is not None
        assert agreement < 0.9
        problem = isolated.try_out("nan").guard.problem
        assert problem is not None
        assert "NaN or infinite" in problem


def test_an_engine_that_prints_does_not_disturb_the_conversation(tmp_path: Path) -> None:
    with Isolated(tmp_path, loud={"run": "print"}) as isolated:
        assert isolated.try_out("loud").guard.accuracy == 1.0


def test_a_missing_or_changed_file_costs_only_that_candidate(tmp_path: Path) -> None:
    with Isolated(tmp_path, gone={}, changed={"ms": 1.0}) as isolated:
        (tmp_path / "gone").unlink()
        (tmp_path / "changed").write_text((tmp_path / "changed").read_text().replace("1.0", "2.0"))
        with pytest.raises(CandidateFailedError, match="is missing; copy the bundle again"):
            isolated.try_out("gone")
        with pytest.raises(CandidateFailedError, match="it was changed: copy the bundle again"):
            isolated.try_out("changed")
        assert isolated.try_out("good")


def test_a_worker_that_cannot_start_says_why(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path, {"good": {}})
    (candidate,), _ = enumerate_candidates(bundle, machine(), backends()[:1])
    bench = IsolatedBench(bundle, "no_such_module:backends", 0, 5.0, None)
    with pytest.raises(
        BenchUnavailableError, match=r"exit code 1 \(ModuleNotFoundError: No module named 'no_such_module'\)"
    ):
        bench.try_out(candidate, None, 1, CHECK_S)


def test_after_a_crash_a_worker_that_cannot_start_costs_the_next_candidate_too(tmp_path: Path) -> None:
    """It must not read as "no process can be had": the crashing candidate would then be run in this one."""
    with Isolated(tmp_path, crash={"run": "abort"}) as isolated:
        assert isolated.try_out("good")
        with pytest.raises(CandidateFailedError, match="ended"):
            isolated.try_out("crash")
        start = isolated.bench._start
        isolated.bench._start = start.model_copy(update={"backend_source": "no_such_module:backends"})
        with pytest.raises(CandidateFailedError, match="not tried, its process did not start"):
            isolated.try_out("good")
        isolated.bench._start = start
        assert isolated.try_out("good")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_what_an_engine_forks_ends_with_the_worker_and_delays_nothing(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    with Isolated(tmp_path / "b", forks={"run": "fork", "pid": str(pid)}) as isolated:
        assert isolated.try_out("forks").guard.accuracy == 1.0
    assert ends(int(pid.read_text()))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_crash_is_noticed_although_a_fork_holds_the_pipe(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    with Isolated(tmp_path / "b", forks={"run": "fork, abort", "pid": str(pid)}) as isolated:
        with pytest.raises(CandidateFailedError, match="SIGABRT") as caught:
            isolated.try_out("forks")
        assert not caught.value.is_hang
        assert ends(int(pid.read_text()))


def test_nothing_is_left_running_or_open(tmp_path: Path) -> None:
    with Isolated(tmp_path, hang={"run": "hang"}) as isolated:
        isolated.try_out("good")
        first = isolated.pid
        isolated.allow(1.0)
        with pytest.raises(CandidateFailedError, match="it hung"):
            isolated.try_out("hang")
        isolated.allow(30.0)
        isolated.try_out("good")
        second = isolated.pid
    assert not psutil.pid_exists(first)
    assert not psutil.pid_exists(second)


def test_the_worker_ends_with_its_parent_even_in_the_middle_of_a_run(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path, {"hang": {"run": "hang"}})
    order = (
        '{"do":"try_out","candidate":{"variant":"hang","backend":"fake-cpu","threads":1,"extra":{}},'
        '"reference":null,"rows":1}\n'
    )
    process = subprocess.Popen(
        [sys.executable, "-c", "from runtime.selection.trial_worker import main; main()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[3],
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(start_of(bundle, SOURCE, 0).model_dump_json().encode() + b"\n")
    process.stdin.flush()
    assert process.stdout.readline() == b"{}\n"
    process.stdin.write(order.encode())
    process.stdin.close()
    assert process.wait(timeout=20) == 0
    process.stdout.close()


def test_the_local_bench_gives_the_same_without_a_process(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path, {"good": {}, "bad": {"run": "raise"}, "wrong": {"wrong": 1.0}})
    candidates, _ = enumerate_candidates(bundle, machine(), backends())
    good, bad, wrong = candidates
    bench = LocalBench(bundle)
    assert bench.try_out(good, good, 32, CHECK_S).guard.accuracy == 1.0
    assert [rows for rows, _ in bench.try_out(good, good, 32, CHECK_S).latencies] == [1, 32]
    agreement = bench.try_out(wrong, good, 1, CHECK_S).guard.agreement
    assert agreement is not None
    assert agreement < 0.5
    with pytest.raises(CandidateFailedError, match="operator Foo"):
        bench.try_out(bad, good, 1, CHECK_S)
    with pytest.raises(CandidateFailedError, match="operator Foo"):
        bench.time(bad, 1, 0.0)
    start = time.monotonic()
    assert len(bench.time(good, 1, 0.05).latencies_ms) >= 1
    assert time.monotonic() - start < 30
    bench.close()


def test_without_samples_the_reference_is_run_on_random_rows(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path, {"good": {}, "half": {"wrong": 0.5}}, samples=False)
    (good, half), _ = enumerate_candidates(bundle, machine(), backends()[:1])
    bench = LocalBench(bundle)
    trial = bench.try_out(half, good, 1, CHECK_S)
    assert not trial.is_sampled
    assert (trial.guard.accuracy, trial.guard.rows) == (None, 64)
    assert trial.guard.agreement is not None
    assert 0.4 < trial.guard.agreement < 0.8
