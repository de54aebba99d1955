"""`edgeward bench` from the command line, on a fake server and in process."""

import json
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from benchmarks.arrivals import Arrivals
from benchmarks.cli import app
from benchmarks.inproc import left_out
from benchmarks.options import seconds
from benchmarks.run import matrix, run_quick
from benchmarks.samples import Recording, load, load_folder
from benchmarks.scenarios import Kind, Scenario, Wishes, plan
from benchmarks.settings import BackendName, Setting, TargetName
from benchmarks.targets import make_target
from runtime.errors import PeerUnreachableError, WrongUseError
from tests.benchmarks.made import recording, with_errors
from tests.runtime.selection.fakes import machine

ROOT = Path(__file__).resolve().parents[2]
QUICK = ["--warm-up", "0.05", "--duration", "20", "--requests", "30"]


def bench(*words: str) -> Any:
    return CliRunner().invoke(app, list(words))


@pytest.mark.slow
def test_run_measures_the_matrix_saves_and_prints(fake_server: Any, tmp_path: Path) -> None:
    words = ["run", "--model", "fake", "--target", f"one={fake_server.target}", "--scenario", "single,multi"]
    done = bench(*words, *QUICK, "--slo", "1000ms", "--output", str(tmp_path / "out"), "--json")
    assert done.exit_code == 0, done.output
    printed = json.loads(done.stdout)
    assert [row["scenario"] for row in printed["rows"]] == ["single", "multi 8 rows"]
    assert [row["n"] for row in printed["rows"]] == [30, 30]
    assert printed["rows"][0]["goodput_qps"] == printed["rows"][0]["achieved_qps"]
    assert printed["rows"][0]["p99_ms"] is None
    recordings = load_folder(tmp_path / "out")
    assert [len(recording.samples) for recording in recordings] == [30, 30]
    assert recordings[0].header["environment"]["kernel"]
    index = json.loads((tmp_path / "out" / "run.json").read_text())
    assert index == printed
    assert index["slo_ms"] == 1000.0
    again = bench(*words, *QUICK, "--output", str(tmp_path / "out"))
    assert "another run" in str(again.exception)
    # The same two folders: nothing differs.
    compared = bench("compare", str(tmp_path / "out"), str(tmp_path / "out"), "--json")
    told = json.loads(compared.stdout)
    assert {(c["ratio"], c["verdict"]) for c in told["comparisons"]} == {(1.0, "inconclusive")}, "of one run each"
    assert not told["is_interleaved"]
    assert [m["side"] for m in told["measured"]] == ["A", "A", "B", "B"]
    assert all(m["environment"]["kernel"] and m["seed"] == 1 for m in told["measured"])
    reported = bench("report", str(tmp_path / "out"))
    assert reported.exit_code == 0
    assert "single" in reported.stdout
    assert "goodput/s" in reported.stdout
    assert json.loads(bench("report", str(tmp_path / "out"), "--json").stdout)["rows"] == printed["rows"]
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "<svg" in page
    assert "Goodput counts what was answered within 1000 ms" in page, "the run said so"


@pytest.mark.slow
def test_what_is_invalid_or_failed_ends_with_1_and_says_why(fake_server: Any, tmp_path: Path) -> None:
    fake_server.behave = lambda number: 503
    targets = f"broken={fake_server.target},nobody=http://127.0.0.1:1"
    words = ["run", "--model", "fake", "--target", targets, "--scenario", "single"]
    done = bench(*words, *QUICK, "--output", str(tmp_path))
    assert done.exit_code == 1
    assert "INVALID" in done.stdout
    assert "no request was answered" in done.stderr
    assert "503 UNAVAILABLE 30" in done.stdout
    assert "broken single: the first 503 UNAVAILABLE: " in done.stderr
    assert "told to fail" in done.stderr
    assert "127.0.0.1:1 is unreachable: Connection refused" in done.stderr
    assert str(tmp_path) in done.stdout.replace("\n", "")
    # What failed left no recording, and stands in the report all the same.
    again = bench("report", str(tmp_path))
    assert "not measured: fake on nobody (single)" in again.stderr
    for name in ("report.html", "report.md"):
        assert "Not measured: fake on nobody (single)" in (tmp_path / name).read_text("utf-8")
    told = json.loads(bench("report", str(tmp_path), "--json").stdout)
    assert told == json.loads((tmp_path / "run.json").read_text("utf-8"))
    assert not told["is_valid"]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends Ctrl-C to a whole console")
def test_ctrl_c_keeps_what_was_measured(fake_server: Any, tmp_path: Path) -> None:
    script = "from benchmarks.cli import app; app()"
    words = ["run", "--model", "fake", "--target", fake_server.target, "--scenario", "single,multi"]
    command = [sys.executable, "-c", script, *words, "--duration", "600", "--warm-up", "0", "--output", str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        while fake_server.inferences < 50:
            assert child.poll() is None
            time.sleep(0.01)
        child.send_signal(signal.SIGINT)
        output, complaints = child.communicate(timeout=60)
    assert "stopped; what was measured is kept" in complaints
    assert "single" in output
    (recording,) = load_folder(tmp_path)
    assert recording.header["was_stopped"]
    assert "stopped: " in bench("report", str(tmp_path)).stderr
    assert json.loads(bench("report", str(tmp_path), "--json").stdout)["rows"][0]["was_stopped"]
    assert len(recording.samples) == fake_server.inferences
    assert child.returncode == 130


@pytest.mark.slow
def test_quick_rows_have_the_figures_of_the_demo(fake_server: Any) -> None:
    (row,) = run_quick([f"fake REST={fake_server.target}"], "fake", requests=700)
    assert row.label == "fake REST"
    assert row.failed == 0
    assert row.p50_ms is not None
    assert row.p99_ms is not None
    assert 0 < row.p50_ms <= row.p95_ms <= row.p99_ms  # type: ignore[operator]
    assert row.qps > 0
    assert row.backend == "cloud: fake on nothing"


def test_quick_rows_say_when_the_rate_is_the_generators_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def saturated_in_load(setting: Setting, scenario: Scenario, *_: Any) -> Recording:
        reason = "the generator is saturated" if scenario.kind is Kind.OFFLINE else None
        return recording(setting.target, 700, scenario, invalid_reason=reason)

    monkeypatch.setattr("benchmarks.run.measure", saturated_in_load)
    (row,) = run_quick(["inproc"], "digits")
    assert (row.is_least, row.invalid_reason) == (True, "the generator is saturated")

    def silent(setting: Setting, scenario: Scenario, *_: Any) -> Recording:
        made = recording(setting.target, 700, scenario, invalid_reason="no request was answered")
        return with_errors(made, "503 UNAVAILABLE", every=1)

    monkeypatch.setattr("benchmarks.run.measure", silent)
    (row,) = run_quick(["inproc"], "digits")
    assert (row.is_least, row.invalid_reason) == (False, "no request was answered"), "nothing is known of its rate"
    monkeypatch.setattr("benchmarks.run.measure", lambda setting, scenario, *_: recording("inproc", 700, scenario))
    (row,) = run_quick(["inproc"], "digits")
    assert (row.is_least, row.invalid_reason) == (False, None)


@pytest.mark.slow
def test_one_variant_in_process(digits: Any, tmp_path: Path) -> None:
    variant = digits.variants[0].name
    backend = f"{variant}@onnxruntime-cpu/1"
    words = [
        "run",
        "--model",
        "digits",
        "--backend",
        backend,
        "--scenario",
        "single,server",
        "--arrivals",
        "constant:50",
    ]
    done = bench(*words, "--duration", "0.5", "--warm-up", "0.05", "--output", str(tmp_path), "--json")
    rows = json.loads(done.stdout)["rows"]
    assert [row["backend"] for row in rows] == [f"{variant} on onnxruntime-cpu, 1 thread"] * 2
    header = load_folder(tmp_path)[0].header
    assert header["target"]["digests"] == {"bundle": digits.digest, "variant": digits.variants[0].sha256}
    assert header["inputs"] == "the bundle's samples"
    assert header["seed"] == 1
    assert rows[1]["n"] == 25
    assert rows[0]["generator_lag_ms"] is None, "in a closed loop nothing is due"
    lag = rows[1]["generator_lag_ms"]
    assert 0 <= lag["p50"] <= lag["p99"] <= lag["max"]
    shown = bench("report", str(tmp_path))
    assert "lag p99 ms" in shown.stdout
    assert "lag: how late the generator itself sent" in shown.stdout


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["run", "--target", "ftp://x"], "target 'ftp://x' is not understood"),
        (["run", "--target", "http://localhost"], "expected inproc, agent, gateway, grpc://host:port"),
        (["run", "--scenario", "fast"], "unknown scenario 'fast'"),
        (["run", "--arrivals", "poisson"], "arrivals 'poisson' are not understood"),
        (["run", "--duration", "0"], "the duration is 0 s; expected more than 0"),
        (["run", "--timeout", "0"], "the timeout is 0 s; expected more than 0"),
        (["run", "--requests", "0"], "requests are 0; expected 1 or more"),
        (["run", "--rows", "0"], "rows are 0; expected 1 or more"),
        (["run", "--in-flight", "-1"], "requests in flight are -1; expected 1 or more"),
        (
            ["run", "--arrivals", "constant:5"],
            "--arrivals constant:5 is of server, and what is measured is single, offline",
        ),
        (["run", "--rows", "4", "--scenario", "single"], "--rows 4 is of multi and offline"),
        (["compare", "inproc", "inproc", "--in-flight", "4"], "--in-flight 4 is of server and offline"),
        (["compare", "inproc", "."], ". is a folder of results, and what stands beside it is none"),
        (["peers", "--duration", "0"], "--duration is 0 s"),
        (["run", "--model", ","], "names nothing"),
        (["compare", "nonsense", "inproc"], "target 'nonsense' is not understood"),
    ],
)
def test_wrong_use_is_said(words: list[str], text: str) -> None:
    done = bench(*words)
    assert isinstance(done.exception, WrongUseError)
    assert text in str(done.exception)


@pytest.mark.parametrize(
    ("text", "expected"), [("5", 5.0), (".5", 0.5), ("500ms", 0.5), ("30s", 30.0), ("2 m", 120.0), (7.5, 7.5)]
)
def test_times_are_written_as_elsewhere(text: str | float, expected: float) -> None:
    assert seconds(text) == pytest.approx(expected)


def test_what_is_no_time_is_said_with_the_forms() -> None:
    done = bench("run", "--duration", "5x")
    assert done.exit_code == 2
    told = " ".join(done.stderr.replace("│", " ").split())
    assert "'5x' is no time; expected seconds such as 5 or 0.5, or 500ms, 30s, 2m" in told


def test_a_backend_is_not_for_servers(tmp_path: Path) -> None:
    words = [
        "run",
        "--target",
        "grpc://127.0.0.1:1",
        "--backend",
        "litert",
        "--scenario",
        "single",
        "--output",
        str(tmp_path),
    ]
    done = bench(*words)
    assert isinstance(done.exception, WrongUseError)
    assert "chooses its backend itself" in str(done.exception)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (
            ["compare", "inproc@onnxruntime-cpu", "inproc@litert"],
            "unknown backend 'litert'; expected one of onnxruntime-",
        ),
        (["run", "--backend", "fp23.onnx@onnxruntime-cpu"], "unknown variant 'fp23.onnx'; expected one of"),
        (["compare", "inproc", "grpc://127.0.0.1:1@litert-cpu"], "chooses its backend itself"),
    ],
)
def test_a_name_that_is_not_there_is_said_before_anything_is_measured(
    words: list[str], text: str, tmp_path: Path
) -> None:
    done = bench(*words, "--output", str(tmp_path / "out"))
    assert isinstance(done.exception, WrongUseError)
    assert text in str(done.exception)
    assert not (tmp_path / "out").exists(), "nothing was begun"


@pytest.mark.parametrize("name", ["run", "compare", "calibrate", "loadgen"])
def test_the_example_names_targets_backends_and_scenarios_that_there_are(name: str) -> None:
    command = get_command(app).commands[name]  # type: ignore[attr-defined]
    with command.make_context(name, shlex.split(command.epilog.partition(f"bench {name} ")[2])) as context:
        given = context.params
    if name != "loadgen":  # LoadGen's own: server by its own rules
        assert [plan(scenario, Wishes()) for scenario in (given["scenario"] or "single").split(",")]
    targets = [given[side] for side in ("a", "b")] if name == "compare" else given["target"].split(",")
    for target, _, backend in (text.partition("@") for text in targets):
        make_target(Setting("digits", target, backend or "auto"), timeout_s=1.0).close()


@pytest.mark.slow
def test_a_server_that_does_not_answer_is_said_before_the_others_are_measured(fake_server: Any, tmp_path: Path) -> None:
    targets = f"one={fake_server.target},nobody=http://127.0.0.1:1"
    words = ["run", "--model", "fake", "--target", targets, "--scenario", "single"]
    done = bench(*words, *QUICK, "--output", str(tmp_path))
    first, *_ = done.stderr.splitlines()
    assert first.startswith("will not be measured: fake on nobody: ")
    assert done.exit_code == 1
    assert len(load_folder(tmp_path)) == 1, "the others are measured"


def test_nothing_is_compared_with_a_server_that_does_not_answer(tmp_path: Path) -> None:
    done = bench("compare", "inproc", "http://127.0.0.1:1", "--output", str(tmp_path / "out"))
    assert isinstance(done.exception, PeerUnreachableError)
    assert not (tmp_path / "out").exists(), "nothing was begun"


def test_targets_and_backends_as_written() -> None:
    assert TargetName.parse("agent") == TargetName("agent", "grpc://127.0.0.1:8001")
    assert TargetName.parse("agent REST=http://h:1") == TargetName("agent REST", "http://h:1")
    assert TargetName.parse("inproc").is_inproc
    assert BackendName.parse("auto") == BackendName()
    assert BackendName.parse("int8.tflite@litert/2") == BackendName("int8.tflite", "litert", 2)
    for text in ("", "@litert", "a@b/0", "a@b/x"):
        with pytest.raises(WrongUseError):
            BackendName.parse(text)


def test_all_backends_are_walked_in_process_only() -> None:
    cells = matrix(["digits"], ["inproc", "grpc://h:1"], ["single"], "all", Wishes())
    inproc = [cell.setting.backend for cell in cells if cell.setting.target == "inproc"]
    assert inproc[0] == "auto"
    assert any("@onnxruntime-cpu/1" in backend for backend in inproc)
    assert [cell.setting.backend for cell in cells if cell.setting.target != "inproc"] == ["auto"]


@pytest.mark.slow
def test_several_rates_are_the_server_scenario_several_times_and_the_report_draws_their_curve(
    fake_server: Any, tmp_path: Path
) -> None:
    loads = [Arrivals.parse(text) for text in ("constant:50", "poisson:100")]
    cells = matrix(["m"], ["grpc://h:1"], ["single", "server"], "auto", Wishes(), loads)
    assert [str(cell.scenario) for cell in cells] == ["single", "server constant:50", "server poisson:100"]
    rates = ["--arrivals", "constant:700", "--arrivals", "constant:350"]
    words = ["run", "--model", "fake", "--target", fake_server.target, "--scenario", "server", *rates]
    done = bench(*words, "--duration", "2", "--warm-up", "0.05", "--output", str(tmp_path), "--json")
    assert [row["n"] for row in json.loads(done.stdout)["rows"]] == [1400, 700]
    for file in tmp_path.glob("*.npz"):  # a busy machine makes them INVALID, which no curve is drawn of
        kept = load(file)
        Recording({**kept.header, "invalid_reason": None}, kept.samples).save(file)
    assert bench("report", str(tmp_path)).exit_code == 0
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Latency against the rate" in page
    assert "p99 latency, ms (log scale)" in page, "700 requests tell it"


def test_what_all_backends_leave_out_here_is_said_with_the_reason() -> None:
    (cuda,) = [one for one in left_out("digits", machine()) if one.startswith("onnxruntime-cuda: ")]
    assert "GPU" in cuda
    assert not any(one.startswith("onnxruntime-cpu: ") for one in left_out("digits", machine()))


@pytest.mark.slow
def test_calibrate_says_its_answer_in_json_too(fake_server: Any, tmp_path: Path) -> None:
    words = ["calibrate", fake_server.target, "--model", "fake", "--rounds", "2", "--requests", "20", "--warm-up", "0"]
    done = bench(*words, "--duration", "20", "--threshold", "0.25", "--output", str(tmp_path), "--json")
    told = json.loads(done.stdout)
    assert told == json.loads((tmp_path / "compare.json").read_text())
    (p50,) = told["comparisons"]
    assert p50["threshold"] == 0.25
    assert p50["smallest_visible"] is None or p50["smallest_visible"] >= 0.25
    jsonschema_rs = pytest.importorskip("jsonschema_rs", reason="jsonschema-rs (of schemathesis) is not installed")
    schema = ROOT / "benchmarks" / "schema" / "compare-1.json"
    jsonschema_rs.validate(json.loads(schema.read_text()), told)
    del p50["smallest_visible"]
    assert not jsonschema_rs.is_valid(json.loads(schema.read_text()), told)
