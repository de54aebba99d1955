"""The comparison with other people's servers, on two that are made here: one that answers, and one that does not start."""

from __future__ import annotations

import json
import shutil
import sys
from functools import partial
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks.cli import EXIT_INTERRUPTED, app
from benchmarks.peers.catalogue import Peer
from benchmarks.serving import calibrated, h2load, rounds, run
from benchmarks.serving.contestants import GRPC, REST, calibrated_name, foreign, with_two_workers
from benchmarks.serving.exchange import Row, plain_json_exchange
from benchmarks.serving.rounds import Plan
from runtime.bundle.bundle import read_bundle
from runtime.bundle.locate import shipped_bundles
from runtime.errors import MachineError
from runtime.serving.workers.supervisor import why_no_workers

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(h2load.why_absent() is not None, reason=str(h2load.why_absent())),
    pytest.mark.skipif(sys.platform == "win32", reason="h2load and suspended processes are POSIX"),
]

# Standard library alone: it runs in an environment that has nothing else. Says what the model says of the one row.
GOOD = """
import json, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
REPLY = json.dumps({"probabilities": %s}).encode()

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", str(len(REPLY)))
        self.end_headers()
        self.wfile.write(REPLY)
    def log_message(self, *args):
        pass

ThreadingHTTPServer.request_queue_size = 64
ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), Handler).serve_forever()
"""
BAD = "raise AttributeError('no lock in ' + __file__)\n"


def _exchange(row: Row):  # type: ignore[no-untyped-def]
    return plain_json_exchange("/predict", row)


@pytest.fixture
def peers(calibrated_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Peer]:
    """Two peers whose environments are made already, so that nothing is installed; they and their programs are below `tmp_path`."""
    monkeypatch.setenv("EDGEWARD_HOME", str(tmp_path))
    shutil.copytree(calibrated_home / "calibrations", tmp_path / "calibrations")
    monkeypatch.setattr(rounds, "WARM_UP_S", 0.1)
    programs = {"good": GOOD % Row.of_digits().probabilities.tolist(), "bad": BAD}
    for name, program in programs.items():
        (tmp_path / f"{name}_server.py").write_text(program)
        interpreter = tmp_path / "peers" / name / "bin"
        interpreter.mkdir(parents=True)
        (interpreter / "python").symlink_to(sys.executable)
        (interpreter.parent / "edgeward-requirements.txt").write_text("nothing\n")
    return [Peer(name, ("nothing",), _exchange, uses_grpc_port=False, folder=tmp_path) for name in programs]


def test_who_runs_has_a_ratio_and_who_does_not_start_a_reason(
    peers: list[Peer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.peers.catalogue.PEERS", peers)
    monkeypatch.setattr(run, "with_two_workers", lambda *given: [])  # the same rows once more
    monkeypatch.setattr(rounds, "Plan", partial(Plan, connections=(1,)))
    words = ["peers", "--rounds", "2", "--seconds", "0.1", "--output", str(tmp_path / "out")]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    told = json.loads((tmp_path / "out" / "peers.json").read_text())
    assert told["missing"] == {"bad": "ended with code 1: AttributeError: no lock in bad_server.py"}
    assert str(tmp_path) not in (tmp_path / "out" / "peers.json").read_text() + done.stdout
    against = {(ratio["ours"], ratio["other"]) for ratio in told["ratios"]}
    assert {(GRPC, "good"), (REST, "good")} <= against
    assert {other for _, other in against} == {"good"}
    assert all(
        ratio["lowest"] <= ratio["value"] <= ratio["highest"] for ratio in told["ratios"] if ratio["ours"] == REST
    )
    assert {sample["round"] for sample in told["samples"] if sample["contestant"] == "good"} == {0, 1}
    digits = read_bundle(shipped_bundles()["digits"])
    assert told["model_sha256"] == next(v.sha256 for v in digits.variants if v.file == run.VARIANT)
    assert told["model_sha256"] in done.stdout
    assert calibrated_name(REST) in {sample["contestant"] for sample in told["samples"]}
    assert told["chosen"].partition(":")[0] in done.stdout, "what that served is named"
    assert f"| bad | missing | {told['missing']['bad']} |" in done.stdout


@pytest.mark.skipif(why_no_workers() is not None, reason=str(why_no_workers()))
def test_two_workers_are_asked_for_as_two(tmp_path: Path) -> None:
    for each in with_two_workers(tmp_path / "digits.onnx", Row.of_digits(), tmp_path):
        command = " ".join(each.launch(1, 2).command)
        assert "--workers 2" in command, command
        assert each.name.endswith("two workers")


def test_ctrl_c_keeps_what_was_measured(peers: list[Peer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row, count = Row.of_digits(), 0

    def only_one(*given: object) -> list[object]:
        peer = peers[0]
        return [foreign(peer.name, Path(sys.executable), peer.script, tmp_path, _exchange(row), is_restless=False)]

    def stopped(*given: object, **named: object) -> h2load.LoadResult:
        nonlocal count
        count += 1
        if count > 4:  # two a round, the first of them the warm-up
            raise KeyboardInterrupt
        return h2load.drive(*given, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(run, "ours", only_one)
    monkeypatch.setattr(run, "as_calibrated", lambda *given: [])
    monkeypatch.setattr(run, "with_two_workers", lambda *given: [])
    monkeypatch.setattr(run, "baselines", lambda *given: [])
    monkeypatch.setattr(rounds, "drive", stopped)
    monkeypatch.setattr(rounds, "Plan", partial(Plan, connections=(1,)))
    monkeypatch.setattr("benchmarks.peers.catalogue.PEERS", [])
    done = CliRunner().invoke(app, ["peers", "--rounds", "3", "--seconds", "0.2", "--output", str(tmp_path)])
    assert done.exit_code == EXIT_INTERRUPTED, done.output
    assert "stopped; what was measured is kept" in done.stderr
    told = json.loads((tmp_path / "peers.json").read_text())
    assert told["was_stopped"]
    assert [s["round"] for s in told["samples"] if s["contestant"] == "good"] == [0, 1]
    assert "Stopped in round 3 of 3" in done.stdout


def test_a_stop_before_anything_was_measured_goes_up(tmp_path: Path) -> None:
    def stop(what: str, share: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rounds.measure([], tmp_path, Plan(), tmp_path, stop)


def test_a_calibration_that_fails_ends_the_comparison_with_what_it_said(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="`edgeward calibrate no-such-bundle` ended with 2: .*no-such-bundle"):
        calibrated.choose("no-such-bundle", tmp_path)
