"""The generator as a process of its own against a real socket. What is asserted is what was recorded, not how fast it was."""

import io
import json
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from benchmarks.arrivals import Arrivals
from benchmarks.cli import EXIT_INTERRUPTED, app
from benchmarks.compare import compare_settings
from benchmarks.fake_server import sleep_first
from benchmarks.generator import Plan, drive
from benchmarks.measure import measure
from benchmarks.row import row_of
from benchmarks.samples import Recording, load, load_folder
from benchmarks.scenarios import Scenario, Wishes, plan
from benchmarks.settings import Access, Setting
from benchmarks.significance import Verdict
from benchmarks.target import Answer, Origin
from benchmarks.validity import Effort, invalid_reason
from runtime.errors import MachineError, ModelNotFoundError, PeerUnreachableError
from runtime.tensors import Array

ROOT = Path(__file__).resolve().parents[2]
QUICK = Wishes(requests=40, duration_s=20, warm_up_s=0.05)


@pytest.mark.slow
def test_a_recording_says_how_it_came_about(fake_server: Any, tmp_path: Path) -> None:
    recording = measure(Setting("fake", fake_server.target), plan("single", QUICK), {"cpu": "this one"})
    assert len(recording.samples) == 40
    header = recording.header
    assert header["origins"] == [{"served_by": "cloud", "backend": "fake on nothing"}]
    assert header["target"]["server"] == "fake-server 9"
    assert header["target"]["version"] == "3"
    assert header["inputs"] == "random rows"
    assert Scenario.from_dict(header["scenario"]) == plan("single", QUICK)
    assert header["invalid_reason"] is None
    # The server is in this very process, so this process is what was watched.
    assert header["cpu_s_per_1000"] is not None
    assert header["peak_memory_bytes"] > 1_000_000
    recording.save(tmp_path / "x.npz")
    assert json.loads(json.dumps(header)) == {
        k: v for k, v in load(tmp_path / "x.npz").header.items() if k != "schema_version"
    }
    assert row_of(recording).backend == "cloud: fake on nothing"


@pytest.mark.slow
def test_a_stall_shows_in_the_open_loop_and_hides_in_the_closed_one(fake_server: Any) -> None:
    fake_server.behave = fake_server.stall_every_second
    setting = Setting("fake", fake_server.target)
    wishes = Wishes(duration_s=4.0, warm_up_s=0.05, arrivals=Arrivals.parse("constant:200"))
    open_loop = measure(setting, plan("server", wishes), {})
    closed_loop = measure(setting, plan("single", Wishes(requests=800, duration_s=30, warm_up_s=0.05)), {})
    slow_open, slow_closed = ((recording.samples.latency_ms > 100) for recording in (open_loop, closed_loop))
    # Half of each 200 ms stall is left to wait for after its first 100 ms: a tenth of all requests, evenly spread.
    assert slow_open.mean() > 0.05
    assert open_loop.summary().of(0.99).ms > 100  # type: ignore[operator]
    # The closed loop politely waits: one slow request for each stall, whatever had been due meanwhile.
    assert slow_closed.sum() <= 2 * closed_loop.samples.duration_s + 2
    assert slow_closed.mean() < slow_open.mean() / 2


def burn_processor(inputs: Mapping[str, Array]) -> Answer:
    """A client that has so much to compute for each request that the generator's own process is what is slow."""
    sum(range(300_000))
    return Answer(Origin("cloud", ""))


def test_a_saturated_generator_is_invalid() -> None:
    wishes = Wishes(duration_s=0.05, arrivals=Arrivals.parse("constant:2000"), in_flight=16)
    scenario = plan("server", wishes)
    seen, spent = drive(burn_processor, [({}, 1)], scenario, threading.Event())
    reason = invalid_reason(seen.samples, seen.samples.status == 0, scenario, Effort.of(spent, is_inproc=False))
    assert "the generator is saturated" in str(reason)


@pytest.mark.slow
def test_errors_of_the_server_are_counted_and_its_failures_raised(fake_server: Any) -> None:
    fake_server.behave = lambda number: 503 if number % 2 else 200
    recording = measure(Setting("fake", fake_server.target), plan("single", QUICK), {})
    assert dict(recording.summary().errors) == {"503 UNAVAILABLE": 20}
    with pytest.raises(ModelNotFoundError):
        measure(Setting("other", fake_server.target), plan("single", QUICK), {})
    target = fake_server.target
    fake_server.close()
    with pytest.raises(PeerUnreachableError):
        measure(Setting("fake", target), plan("single", QUICK), {})


@pytest.mark.slow
def test_two_servers_are_measured_in_turn_and_compared(fake_server: Any, serve: Any) -> None:
    a, b = Setting("fake", fake_server.target), Setting("fake", serve(sleep_first(0.02)).target)
    compared = compare_settings(a, b, plan("single", QUICK), rounds=1)
    (p50,) = compared.comparisons
    assert (compared.rounds, compared.was_stopped) == (1, False)
    assert [(m["side"], m["target"], m["server"]) for m in compared.measured] == [
        ("A", a.target, "fake-server 9"),
        ("B", b.target, "fake-server 9"),
    ]
    assert p50.share == 0.5
    assert p50.n == (80, 80)
    # One round has no verdict; those are judged in test_significance.
    assert p50.ratio.value > 1.05
    assert p50.judgement.verdict is Verdict.INCONCLUSIVE
    assert "at least 6 rounds, of these there are 1" in p50.judgement.reason
    assert "inf" not in f"{p50.ratio} {p50.judgement.reason}"


@pytest.mark.slow
def test_a_comparison_that_is_stopped_says_how_many_rounds_it_is_of(
    fake_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = 0

    def stopped_in_the_second_round(*given: Any) -> Recording:
        nonlocal count
        count += 1
        recording = measure(*given)
        return replace(recording, header={**recording.header, "was_stopped": count > 5})

    monkeypatch.setattr("benchmarks.compare.measure", stopped_in_the_second_round)
    setting = Setting("fake", fake_server.target)
    compared = compare_settings(setting, setting, plan("single", QUICK), rounds=3)
    assert (compared.rounds, compared.was_stopped) == (1, True)
    count = 5
    again = compare_settings(setting, setting, plan("single", QUICK), rounds=3)
    assert (again.comparisons, again.rounds, again.was_stopped) == ([], 0, True)
    count = 5
    done = CliRunner().invoke(app, ["compare", fake_server.target, fake_server.target, "--model", "fake"])
    assert done.exit_code == EXIT_INTERRUPTED
    assert "stopped in round 1 of 6; there is no verdict yet" in done.stderr


@pytest.mark.slow
def test_a_comparison_keeps_its_samples_and_its_verdicts(fake_server: Any, tmp_path: Path) -> None:
    words = [fake_server.target, fake_server.target, "--model", "fake", "--rounds", "2", "--requests", "40"]
    done = CliRunner().invoke(app, ["compare", *words, "--output", str(tmp_path), "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads((tmp_path / "compare.json").read_text()) == json.loads(done.stdout)
    assert [len(recording.samples) for recording in load_folder(tmp_path)] == [40] * 8
    assert sorted(file.stem for file in tmp_path.glob("*.npz"))[:4] == ["00-0-A", "00-1-B", "00-2-B", "00-3-A"]


@pytest.mark.slow
def test_a_comparison_that_is_invalid_fails_with_the_reason_and_keeps_its_samples(
    fake_server: Any, tmp_path: Path
) -> None:
    fake_server.behave = lambda number: 503
    words = [fake_server.target, fake_server.target, "--model", "fake", "--requests", "5"]
    done = CliRunner().invoke(app, ["compare", *words, "--output", str(tmp_path)])
    # What `edgeward` ends with 1; wrong use would be 2.
    assert isinstance(done.exception, MachineError)
    assert "INVALID: no request was answered" in str(done.exception)
    assert str(done.exception).endswith(f"; samples so far: {tmp_path}")
    assert [file.stem for file in tmp_path.glob("*.npz")] == ["00-0-A"]


@pytest.mark.slow
def test_the_end_of_stdin_stops_the_generator_and_keeps_its_samples(fake_server: Any, tmp_path: Path) -> None:
    order = Plan(
        Setting("fake", fake_server.target),
        plan("single", Wishes(duration_s=600, warm_up_s=0)),
        tmp_path / "samples.npz",
    )
    command = [sys.executable, "-m", "benchmarks.generator"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(order.to_json() + "\n")
        child.stdin.flush()
        events = [json.loads(child.stdout.readline()) for _ in range(3)]
        child.stdin.close()
        events += [json.loads(line) for line in child.stdout]
        assert child.wait(30) == 0
    assert events[0] == {"event": "measuring"}
    assert events[-1]["event"] == "done"
    assert events[-1]["was_stopped"]
    with np.load(tmp_path / "samples.npz", allow_pickle=False) as arrays:
        assert len(arrays["done_ns"]) == fake_server.inferences


def test_a_plan_survives_its_json(tmp_path: Path) -> None:
    order = Plan(Setting("m", "inproc", "a@b/2"), plan("server", QUICK), tmp_path, Access("secret", tmp_path))
    assert Plan.from_json(io.StringIO(order.to_json() + "\n").readline()) == order
