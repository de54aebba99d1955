"""The real LoadGen in its own process, in a second a scenario; and our own generator in its place."""

import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from benchmarks.cli import EXIT_INTERRUPTED, app
from benchmarks.loadgen import run as loadgen_run
from benchmarks.loadgen.ours import judge
from benchmarks.loadgen.plan import OUR_WORDING, WORDING, Mode, Order, Rules
from benchmarks.loadgen.result import accuracy_in, read_summary
from benchmarks.loadgen.rules import early_stopping_estimate, is_server_run_kept, schedule
from benchmarks.loadgen.run import is_installed, run_loadgen, start
from benchmarks.samples import Recording
from benchmarks.scenarios import Kind, Scenario
from benchmarks.settings import Access, Setting
from runtime.errors import ExecutionError, PeerUnreachableError, WrongUseError
from tests.benchmarks.made import recording

needs_loadgen = pytest.mark.skipif(
    not is_installed(), reason="mlcommons-loadgen is not installed (no wheel for this Python or processor)"
)
SETTING = Setting("digits", "inproc", "fp32.onnx@onnxruntime-cpu/1")
QUICK = Rules(duration_s=0.5, min_queries=10, qps=200.0, bound_ms=1000.0, multi_rows=4, offline_rows=16)


def traced(kind: Kind, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Due times and latencies of every sample in nanoseconds, from LoadGen's own trace of a real run."""
    start(Order(SETTING, kind, Mode.PERFORMANCE, QUICK, folder, is_traced=True))
    due, latency = [], []
    began: dict[int, float] = {}
    # Line by line: the file as a whole is not quite JSON.
    lines = (folder / "mlperf_log_trace.json").read_text().splitlines()
    for event in (json.loads(line.rstrip(",")) for line in lines if line.startswith('{"name":"Sample",')):
        if event["ph"] == "b":
            began[event["id"]] = event["ts"]
        else:
            due.append(began[event["id"]])
            latency.append(event["ts"] - began[event["id"]])
    order = np.argsort(due)
    return np.round(np.array(due)[order] * 1000), np.round(np.array(latency)[order] * 1000)


@needs_loadgen
@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="another C++ library makes a double of other draws")
def test_our_schedule_is_loadgens_to_the_nanosecond(tmp_path: Path) -> None:
    due, latency = traced(Kind.SERVER, tmp_path)
    ours = schedule(QUICK.qps, QUICK.duration_s, QUICK.min_queries)
    np.testing.assert_array_equal(due - due[0], ours)
    kept = is_server_run_kept(latency / 1e6, QUICK.bound_ms)
    assert kept == ("Early stopping satisfied: Yes" in read_summary(tmp_path).text)


@needs_loadgen
@pytest.mark.slow
def test_our_early_stopping_is_loadgens(tmp_path: Path) -> None:
    _, latency = traced(Kind.SINGLE, tmp_path)
    text = read_summary(tmp_path).text
    for share in (0.9, 0.99):
        said = re.search(rf"Early stopping {share * 100:.1f}th percentile estimate: (\d+)", text)
        estimate = early_stopping_estimate(latency, share)
        assert (said is None) == (estimate.ms is None)
        if said is not None:
            assert estimate.ms == float(said[1])
            discarded = re.search(r"Would discard (\d+) highest", text)
            assert discarded is not None
            if share == 0.9:  # the first that the summary tells
                assert estimate.discarded == int(discarded[1])


@needs_loadgen
@pytest.mark.slow
def test_all_scenarios_run_and_their_logs_and_words_are_kept(tmp_path: Path) -> None:
    done = run_loadgen([SETTING], list(Kind), QUICK, tmp_path / "out")
    assert not done.failed
    assert [result.kind for result in done.results] == list(Kind)
    for result in done.results:
        assert result.folder is not None
        whole = (result.folder / "mlperf_log_summary.txt").read_text()
        assert f"Result is : {result.summary.verdict}" in whole
        assert result.summary.text in whole
        assert result.wording == WORDING
        assert (result.folder / "mlperf_log_detail.txt").stat().st_size > 0
        assert result.accuracy is not None
        assert result.accuracy > 0.97
        assert "16159082839903944936" in whole, "LoadGen's own seed of the schedule"
    document = json.loads((tmp_path / "out" / "loadgen.json").read_text())
    assert document["environment"]["kernel"]
    assert document["results"][3]["Samples per second"] > 0
    with pytest.raises(WrongUseError, match="not empty"):
        run_loadgen([SETTING], [Kind.SINGLE], QUICK, tmp_path / "out")


@needs_loadgen
@pytest.mark.slow
def test_failures_that_loadgen_does_not_see_are_said(fake_server: Any, tmp_path: Path) -> None:
    fake_server.behave = lambda number: 503 if number > 30 and number % 2 else 200
    words = ["loadgen", "--model", "fake", "--target", fake_server.target, "--scenario", "single", "--duration", "0.3"]
    done = CliRunner().invoke(app, [*words, "--output", str(tmp_path)])
    assert done.exit_code == 1
    assert "Result is : VALID" in done.stdout
    assert WORDING in done.stdout
    assert "not to be believed: LoadGen counts failed requests as answers (503 UNAVAILABLE" in done.stderr
    assert "accuracy not known: the accuracy of 'fake' cannot be checked" in done.stdout


@needs_loadgen
@pytest.mark.slow
def test_a_target_that_is_not_there_is_named(tmp_path: Path) -> None:
    done = run_loadgen([Setting("fake", "http://127.0.0.1:1")], [Kind.SINGLE], QUICK, tmp_path)
    (sentence,) = done.failed
    assert "127.0.0.1:1 is unreachable" in sentence


@pytest.mark.slow
def test_without_the_package_our_own_generator_follows_the_rules(
    fake_server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loadgen_run, "is_installed", lambda: False)
    done = run_loadgen([Setting("fake", fake_server.target)], [Kind.SINGLE, Kind.SERVER], QUICK, tmp_path)
    assert not done.failed
    single, server = done.results
    assert single.wording == server.wording == OUR_WORDING
    assert "90.0th percentile latency (ns)" in single.summary.text
    assert server.folder is not None
    due = [round(float(line) * 1e9) for line in (server.folder / "schedule.txt").read_text().split()]
    assert due == schedule(QUICK.qps, QUICK.duration_s, QUICK.min_queries).tolist()
    assert fake_server.inferences >= len(due)
    # A hundred queries are too few for a p99 at 99 % confidence, by LoadGen's rule as by ours.
    assert server.summary.verdict == "INVALID"
    assert "Early stopping satisfied : NO" in server.summary.text
    assert not list(tmp_path.rglob("mlperf_log*"))
    jsonschema_rs = pytest.importorskip("jsonschema_rs", reason="jsonschema-rs (of schemathesis) is not installed")
    schema = Path(loadgen_run.__file__).parents[1] / "schema" / "loadgen-1.json"
    jsonschema_rs.validate(json.loads(schema.read_text()), json.loads((tmp_path / "loadgen.json").read_text()))


def test_ctrl_c_ends_our_own_generators_run_and_keeps_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def stopped(setting: Setting, scenario: Scenario, *_: Any) -> Recording:
        asked.append(scenario.kind)
        return recording("inproc", 700, scenario, was_stopped=True)

    monkeypatch.setattr(loadgen_run, "is_installed", lambda: False)
    monkeypatch.setattr("benchmarks.loadgen.ours.measure", stopped)
    words = ["loadgen", "--scenario", "single,server", "--duration", "0.5", "--output", str(tmp_path)]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == EXIT_INTERRUPTED
    assert asked == [Kind.SINGLE]
    told = json.loads((tmp_path / "loadgen.json").read_text())
    assert told["was_stopped"]
    assert [result["was_stopped"] for result in told["results"]] == [True]


@pytest.mark.parametrize("kind", list(Kind))
def test_a_run_that_was_stopped_is_too_short_in_every_scenario(kind: Kind, tmp_path: Path) -> None:
    """A second and a half, 1,500 requests, all within the bound."""
    seen = recording("inproc", 1500)
    for duration_s, verdict in ((1.5, "VALID"), (600.0, "INVALID")):
        order = Order(SETTING, kind, Mode.PERFORMANCE, replace(QUICK, duration_s=duration_s), tmp_path)
        summary = judge(seen, order)
        assert summary.verdict == verdict
        assert ("Min duration satisfied : NO" in summary.text) == (verdict == "INVALID")


SUMMARY = (
    "Scenario : SingleStream\nMode     : PerformanceOnly\n90.0th percentile latency (ns) : 5000\nResult is : VALID\n"
)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (PeerUnreachableError("http://h:1 is unreachable: it went away"), "it went away"),
        (KeyboardInterrupt(), "stopped before its end"),
    ],
)
def test_whatever_becomes_of_the_accuracy_the_performance_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, said: str
) -> None:
    def started(order: Order, tell: Any = None) -> dict[str, Any]:
        if order.mode is Mode.ACCURACY:
            raise error
        (order.folder / "mlperf_log_summary.txt").write_text(SUMMARY)
        return {"backend": "b", "description": {"digests": {}}, "errors": {}}

    monkeypatch.setattr(loadgen_run, "is_installed", lambda: True)
    monkeypatch.setattr(loadgen_run, "start", started)
    done = run_loadgen([SETTING], [Kind.SINGLE], QUICK, tmp_path / "out")
    (result,) = done.results
    assert (result.summary.verdict, result.summary.value, done.failed) == ("VALID", 5000, ())
    assert result.accuracy is None
    assert said in str(result.no_accuracy)
    assert done.was_stopped == isinstance(error, KeyboardInterrupt)
    assert len(json.loads((tmp_path / "out" / "loadgen.json").read_text())["results"]) == 1


def test_a_log_is_read_by_sample_and_a_short_one_refused(tmp_path: Path) -> None:
    entries = [{"seq_id": i, "qsl_idx": 1 - i % 2, "data": "07000000" if i % 2 else "ffffffff"} for i in range(3)]
    (tmp_path / "mlperf_log_accuracy.json").write_text(json.dumps(entries))
    assert accuracy_in(tmp_path, np.array([7, 1])) == 0.5
    with pytest.raises(ExecutionError, match="2 of 3"):
        accuracy_in(tmp_path, np.array([7, 1, 2]))
    with pytest.raises(ExecutionError, match="accuracy log .* cannot be read"):
        accuracy_in(tmp_path / "nowhere", np.array([7, 1]))
    with pytest.raises(ExecutionError, match="absent or empty"):
        read_summary(tmp_path)


def test_an_order_survives_its_json(tmp_path: Path) -> None:
    order = Order(SETTING, Kind.MULTI, Mode.ACCURACY, QUICK, tmp_path, Access("secret"), is_traced=True)
    assert Order.from_dict(json.loads(json.dumps(order.to_dict()))) == order


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--scenario", "fast"], "unknown scenario 'fast'"),
        (["--slo", "p90<=5ms"], "judges p99"),
        (["--qps", "0"], "more than 0"),
    ],
)
def test_wrong_use_is_said(words: list[str], text: str) -> None:
    done = CliRunner().invoke(app, ["loadgen", *words])
    assert isinstance(done.exception, WrongUseError)
    assert text in str(done.exception)
