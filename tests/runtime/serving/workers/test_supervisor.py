"""Several processes on one port: their sums, what they refuse, one that dies, and the end of all."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from protos import inference
from runtime.serving.workers.restarts import MAX_RESTARTS, WINDOW_S, Restarts
from runtime.serving.workers.shared_statistics import SharedStatistics, add_up
from runtime.serving.workers.supervisor import split_cores, why_no_workers
from runtime.wire.statistics import BatchStatistics, ModelStatistics, Spent
from tests.runtime.serving.clients import Call, GrpcClient, HttpClient, grpc_call
from tests.runtime.serving.real import INPUTS, put_model
from tests.runtime.serving.threaded import PATIENCE_S

ROOT = Path(__file__).resolve().parents[4]
needs_workers = pytest.mark.skipif(why_no_workers() is not None, reason=str(why_no_workers()))


def totals(version: str, rows: int) -> ModelStatistics:
    spent = Spent(rows, rows * 10)
    batches = (BatchStatistics(rows, spent, spent, spent),)
    return ModelStatistics("m", version, rows, rows, 1, spent, spent, spent, spent, spent, spent, batches, 1, 2, 3)


def test_totals_are_added_field_by_field() -> None:
    (one, other), (summed, alone) = (
        (totals("1", 4), totals("1", 2)),
        add_up([[totals("1", 4)], [totals("1", 2), totals("2", 8)]]),
    )
    assert alone == totals("2", 8)
    assert summed.inference_count == 6
    assert summed.execution_count == 2
    assert summed.last_inference_unix_ms == 4
    assert summed.success == summed.queue == summed.compute_output == Spent(6, 60)
    assert (summed.rejected, summed.expired, summed.cancelled) == (2, 4, 6)
    assert summed.batches == (*other.batches, *one.batches)
    assert add_up([[one], [one]])[0].batches[0].compute_infer == Spent(8, 80)


def test_what_a_worker_did_that_is_gone_still_counts(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    SharedStatistics(tmp_path, "worker-1-2").publish([totals("1", 4)])
    (tmp_path / "worker-2-3.json").write_text("{")
    own = SharedStatistics(tmp_path, "worker-1-4")
    own.publish([totals("1", 1)])
    (told,) = own.with_others([totals("1", 2)])
    assert told.inference_count == 6, "the predecessor's 4 and its own 2"
    assert "cannot be read" in caplog.text


def test_cores_are_shared_out() -> None:
    assert split_cores([0, 1, 2, 3, 4], 2) == [(0, 2, 4), (1, 3)]
    assert split_cores([7], 2) == [(), ()], "fewer cores than workers: nothing is set aside"


def test_a_worker_is_started_again_unless_that_happens_too_often() -> None:
    restarts = Restarts()
    assert [restarts.allows(float(now)) for now in range(MAX_RESTARTS + 1)] == [True] * MAX_RESTARTS + [False]
    seldom = Restarts()
    assert all(seldom.allows(now * WINDOW_S / MAX_RESTARTS * 1.1) for now in range(50))


@dataclass
class Serving:
    process: psutil.Popen
    grpc: str
    http: str

    def workers(self) -> list[psutil.Process]:
        return workers_of(self.process)


def workers_of(supervisor: psutil.Process) -> list[psutil.Process]:
    """Those that run; one that has ended may still be listed by the system."""
    found = []
    for child in supervisor.children():
        with suppress(psutil.NoSuchProcess):
            if "resource_tracker" not in " ".join(child.cmdline()):
                found.append(child)
    return found


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[Serving]:
    put_model(tmp_path / "repository", "simple", 1)
    options = ["--model-repository", str(tmp_path / "repository"), "--workers", "2", "--json"]
    process = psutil.Popen(
        [sys.executable, str(ROOT / "edgeward.py"), "serve", *options, "--grpc-port", "0", "--http-port", "0"],
        env={**os.environ, "EDGEWARD_HOME": str(tmp_path / "home")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    line = process.stdout.readline()
    assert line, process.communicate()[1]
    told = json.loads(line)
    assert told["workers"] == 2
    found = Serving(process, told["grpc"], told["http"].removeprefix("http://"))
    children = found.workers()
    try:
        yield found
    finally:
        for each in (process, *children):
            if each.is_running():
                each.kill()
        process.communicate()


def ask(at: Serving, count: int) -> int:
    """Asks each time on a connection of its own; how many were answered."""
    answered = 0
    for _ in range(count):
        client = HttpClient(at.http, binary=True)
        answered += client.send(Call("simple", INPUTS)).status == "OK"
        client.close()
    return answered


def counted(at: Serving) -> int:
    client = HttpClient(at.http, binary=True)
    _, _, data = client.request("GET", "/v2/models/simple/stats")
    client.close()
    return int(json.loads(data)["model_stats"][0]["inference_count"])


def scraped(at: Serving) -> list[float]:
    """Inferences and the count of the histogram of their times, as whichever worker is asked tells them."""
    client = HttpClient(at.http, binary=True)
    lines = client.request("GET", "/metrics")[2].decode().splitlines()
    client.close()
    names = ("edgeward_inferences_total ", "edgeward_request_duration_seconds_count{")
    return [sum(float(line.split()[-1]) for line in lines if line.startswith(name)) for name in names]


@needs_workers
@pytest.mark.slow
def test_two_workers_answer_as_one_server(serving: Serving) -> None:
    assert ask(serving, 32) == 32
    rpc = GrpcClient(serving.grpc)
    assert rpc.send(Call("simple", INPUTS)).status == "OK"
    end = time.monotonic() + PATIENCE_S
    while (seen := [counted(serving) for _ in range(8)]) != [33] * 8:  # whichever worker is asked
        assert time.monotonic() < end, seen
    while (told := [scraped(serving) for _ in range(8)]) != [[33.0, 33.0]] * 8:
        assert time.monotonic() < end, told
    for request, words in (
        (inference.RepositoryModelLoadRequest(model_name="simple"), "loading 'simple' would change one worker of 2"),
        (
            inference.RepositoryModelUnloadRequest(model_name="simple"),
            "unloading 'simple' would change one worker of 2",
        ),
    ):
        with pytest.raises(Exception, match=words) as caught:
            grpc_call(rpc.channel, type(request).__name__.removesuffix("Request"), request)
        assert caught.value.code().name == "UNIMPLEMENTED"
    client = HttpClient(serving.http, binary=True)
    for path, body in (("/v2/logging", b'{"log_info": false}'), ("/v2/trace/setting", b'{"trace_rate": "10"}')):
        assert client.request("GET", path)[0] == 200
        status, _, data = client.request("POST", path, body)
        assert (status, "2 workers share the ports" in data.decode()) == (501, True)
    assert client.request("GET", "/v2/systemsharedmemory/status")[0] == 501
    client.close()
    rpc.close()
    serving.process.send_signal(signal.SIGTERM)
    assert serving.process.wait(PATIENCE_S) == 0


@needs_workers
@pytest.mark.slow
def test_workers_that_die_one_after_the_other_end_the_server_with_its_reason(serving: Serving) -> None:
    killed: set[int] = set()
    end = time.monotonic() + 2 * PATIENCE_S
    while serving.process.poll() is None:
        assert time.monotonic() < end
        for worker in serving.workers():
            if worker.pid not in killed:
                killed.add(worker.pid)
                worker.kill()
        time.sleep(0.05)
    assert serving.process.returncode == 1
    assert "ended with code -9 after" in (words := serving.process.stderr.read())
    assert "as 3 before it did within 60 s" in words


@needs_workers
@pytest.mark.slow
def test_workers_end_when_whoever_started_them_is_killed(serving: Serving) -> None:
    workers = serving.workers()
    assert len(workers) == 2
    serving.process.kill()
    gone, alive = psutil.wait_procs(workers, PATIENCE_S)
    assert not alive
    assert len(gone) == 2


def test_workers_and_uploads_do_not_go_together(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "edgeward.py"), "serve", "digits", "--workers", "2", "--allow-model-upload"],
        env={**os.environ, "EDGEWARD_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE_S,
    )
    assert done.returncode == 2
    assert "a load would reach one of them" in done.stderr
