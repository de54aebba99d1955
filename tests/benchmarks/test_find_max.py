"""A search against a real socket behind which a server of known capacity stands."""

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from benchmarks import cli, finding
from benchmarks import find_max as find_max_module
from benchmarks.arrivals import Arrivals
from benchmarks.cli import EXIT_INTERRUPTED, app
from benchmarks.fake_server import sleep_first
from benchmarks.find_max import find_max, probe_of
from benchmarks.finding import ONE_AT_A_TIME, Try
from benchmarks.promise import Slo
from benchmarks.samples import Recording, load_folder
from benchmarks.scenarios import Scenario, Wishes
from benchmarks.settings import Setting
from runtime.errors import PeerUnreachableError, WrongUseError
from tests.benchmarks.made import recording, with_errors

WORK_S = 0.010


class OneAtATime:
    """Takes 10 ms a request, one after the other: a hundred a second, and not one more."""

    def __init__(self) -> None:
        self._turn = threading.Lock()

    def __call__(self, number: int) -> int:
        with self._turn:
            time.sleep(WORK_S)
        return 200


@pytest.mark.slow
@pytest.mark.timeout(480)  # several probes, each a program that starts
def test_the_search_ends_below_what_a_server_can_do(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finding, "RESOLUTION", 0.3)  # that it comes nearer, test_finding says: each probe is a program
    server = serve(OneAtATime())
    wishes = Wishes(duration_s=0.5, warm_up_s=0, arrivals=Arrivals.parse("constant:40"))
    kept: list[Any] = []
    # p50, so that a probe needs few samples; at this rate the queue stays short, above 100 a second it grows.
    search = find_max(Setting("fake", server.target), Slo(0.5, 30.0), wishes, {}, keep=kept.append)
    assert search.found is not None
    assert search.found.qps is not None
    # No lower figure is asserted than where it began: on a busy machine a request takes longer than 10 ms.
    assert 1 <= search.found.qps <= 100 * (1 + finding.RESOLUTION)
    rates = [Arrivals.parse(recording.header["scenario"]["arrivals"]).rates for recording in kept]
    assert rates == [(probe.qps,) for probe in search.probes]
    assert search.probes[-1].is_confirmation
    assert search.at_best is kept[-1]
    document = search.to_dict()
    assert document["model_sha256"] is None, "the fake server does not tell it"
    assert document["max_qps"] == search.found.qps
    assert document["at_max"]["goodput_qps"] > 0
    # Seeds differ from probe to probe, so that a confirmation is no repetition.
    assert len({recording.header["seed"] for recording in kept}) == len(kept)


@pytest.mark.slow
def test_a_hopeless_rate_is_given_up_before_all_its_requests_are_sent(serve: Any) -> None:
    def slow(number: int) -> int:
        time.sleep(0.6)
        return 200

    server = serve(slow)
    wishes = Wishes(duration_s=8.0, warm_up_s=0, in_flight=1, arrivals=Arrivals.parse("constant:40"), timeout_s=5)
    probes = []

    class EnoughError(Exception):
        pass

    def keep(recording: Any) -> None:
        probes.append(recording)
        raise EnoughError

    with pytest.raises(EnoughError):
        find_max(Setting("fake", server.target), Slo(0.9, 10.0), wishes, {}, keep=keep)
    assert probes[0].header["has_fallen_behind"]
    assert len(probes[0].samples) < 100


@pytest.mark.slow
def test_from_the_command_line_it_is_printed_and_saved(
    serve: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finding, "RESOLUTION", 0.4)  # how near it comes is test_finding's
    server = serve(OneAtATime())
    words = ["run", "--model", "fake", "--target", f"slow={server.target},none=http://127.0.0.1:1", "--find-max"]
    words += ["--slo", "p50<=30ms", "--arrivals", "constant:60", "--duration", "0.5", "--warm-up", "0"]
    done = CliRunner().invoke(app, [*words, "--output", str(tmp_path)])
    assert done.exit_code == 1, "the second target cannot be reached"
    assert "highest rate with p50 <= 30 ms" in done.stdout
    assert "127.0.0.1:1 is unreachable: Connection refused" in done.stderr
    document = json.loads((tmp_path / "find-max.json").read_text())
    (search,) = document["searches"]
    # On a busy machine the generator itself may be what limits: then it is "at least" that rate.
    assert f"{search['max_qps']:g}/s" in " ".join(done.stdout.split())
    assert len(load_folder(tmp_path)) == len(search["probes"])
    assert document["environment"]["kernel"]
    again = CliRunner().invoke(app, ["report", str(tmp_path)])
    assert again.exit_code == 0
    assert "goodput/s" in again.stdout, "the search said what was promised"
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Latency against the rate" in page
    assert "promised: 30 ms" in page


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--find-max"], "needs a promise"),
        (["--find-max", "--slo", "soon"], "not understood"),
        (["--find-max", "--slo", "5ms", "--arrivals", "ramp:1-5"], "chooses the rates itself"),
        (["--find-max", "--slo", "5ms", "--requests", "9"], "--requests 9 is not looked at by --find-max"),
        (["--find-max", "--slo", "5ms", "--scenario", "single"], "--scenario single is not looked at by --find-max"),
        (["--find-max", "--slo", "5ms", "--rows", "0"], "rows are 0; expected 1 or more"),
    ],
)
def test_wrong_use_is_said(words: list[str], text: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["run", "--target", "http://127.0.0.1:1", *words, "--output", str(tmp_path)])
    assert isinstance(done.exception, WrongUseError)
    assert text in str(done.exception)


ALONE = Try(ONE_AT_A_TIME, False, "")


@pytest.mark.parametrize(
    ("slo", "every", "is_too_slow"),
    [
        (Slo(0.99, 8.0), None, False),  # about one in eight takes longer
        (Slo(0.99, 2.0), None, True),
        (Slo(0.99, 20.0), 1, False),  # all are refused at once
        (Slo(0.99, 2.0), 1, True),  # none is answered in time
    ],
)
def test_one_at_a_time_is_final_only_where_half_of_the_requests_are_too_slow(
    slo: Slo, every: int | None, is_too_slow: bool
) -> None:
    made = recording("http://h:1", 700)
    seen = made if every is None else with_errors(made, "429 RESOURCE_EXHAUSTED", every)
    probe = probe_of(seen, ALONE, slo)
    assert (probe.is_held, probe.is_too_slow) == (False, is_too_slow)
    assert not probe_of(seen, Try(50.0, False, ""), slo).is_too_slow, "at a rate it says nothing of lower ones"


@pytest.mark.slow
def test_a_server_that_is_too_slow_for_one_request_is_known_to_be_after_a_few(serve: Any, tmp_path: Path) -> None:
    server = serve(sleep_first(0.1))
    words = ["run", "--model", "fake", "--target", server.target, "--find-max", "--slo", "p99<=50ms", "--rows", "4"]
    done = CliRunner().invoke(app, [*words, "--warm-up", "0", "--output", str(tmp_path), "--json"])
    assert done.exit_code == 1
    document = json.loads(done.stdout)
    assert document == json.loads((tmp_path / "find-max.json").read_text())
    (search,) = document["searches"]
    assert [probe["qps"] for probe in search["probes"]] == [50.0, ONE_AT_A_TIME]
    assert search["max_qps"] is None
    assert search["reason"].startswith("one at a time, ")
    rate, alone = load_folder(tmp_path)
    assert len(rate.samples) < 200, "of 1,324 planned"
    assert len(alone.samples) == alone.header["scenario"]["most_over"] + 1
    assert {recording.header["scenario"]["rows"] for recording in (rate, alone)} == {4}
    jsonschema_rs = pytest.importorskip("jsonschema_rs", reason="jsonschema-rs (of schemathesis) is not installed")
    schema = Path(find_max_module.__file__).parent / "schema" / "find-max-1.json"
    jsonschema_rs.validate(json.loads(schema.read_text()), document)


@pytest.mark.parametrize(
    ("ended_by", "exit_code", "said"),
    [
        (
            PeerUnreachableError("http://h:1 is unreachable: it went away"),
            1,
            "ended early, 100/s had held: http://h:1 is",
        ),
        (KeyboardInterrupt(), EXIT_INTERRUPTED, "stopped, 100/s had held"),
    ],
)
def test_a_search_that_ends_early_keeps_the_rates_that_held(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ended_by: BaseException, exit_code: int, said: str
) -> None:
    asked: list[Setting] = []

    def measure(setting: Setting, scenario: Scenario, *_: Any) -> Recording:
        asked.append(setting)
        if len(asked) >= 3:
            raise ended_by
        return recording(setting.target, 700, scenario)

    monkeypatch.setattr(find_max_module, "measure", measure)
    words = ["run", "--model", "m", "--target", "http://h:1,http://h:2", "--find-max", "--slo", "50ms"]
    done = CliRunner().invoke(app, [*words, "--output", str(tmp_path)])
    assert done.exit_code == exit_code, done.output
    assert said in " ".join(done.stdout.split())
    document = json.loads((tmp_path / "find-max.json").read_text())
    (first,) = document["searches"]
    assert [(probe["qps"], probe["is_held"]) for probe in first["probes"]] == [(50.0, True), (100.0, True)]
    assert first["max_qps"] is None, "it has not held again"
    assert first["reason"].startswith(said)
    if isinstance(ended_by, KeyboardInterrupt):
        assert (document["was_stopped"], document["failed"], len(asked)) == (True, [], 3)
    else:
        assert not document["was_stopped"]
        assert document["failed"] == [f"m on http://h:1: {first['reason']}", f"m on http://h:2: {ended_by}"]


@pytest.mark.slow
def test_what_all_leaves_out_is_said_of_a_search_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.inproc.left_out", lambda name: ["some-engine: no wheel"])
    monkeypatch.setattr(cli, "_find_max", lambda *given: None)
    words = ["run", "--backend", "all", "--find-max", "--slo", "50ms", "--output", str(tmp_path)]
    assert "not here: digits on some-engine: no wheel" in CliRunner().invoke(app, words).stderr
