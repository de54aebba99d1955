"""What a run of the serving benchmark comes to: ratios, bars, tables; from samples made here."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.environment import ROOT
from benchmarks.serving.contestants import ASGI_MODEL, GRPC, GRPC_ECHO, NATIVE, REST, calibrated_name
from benchmarks.serving.endurance import Endurance
from benchmarks.serving.ratios import ratio_of
from benchmarks.serving.raw_session import BATCHES
from benchmarks.serving.reasons import publishable, reason_in
from benchmarks.serving.results import Results
from benchmarks.serving.rounds import RAW, OpenSample, Outcome, Plan, Sample
from benchmarks.serving.run import VARIANT
from runtime.bundle.locate import shipped_bundles
from runtime.errors import WrongUseError

ENVIRONMENT = {
    "cpu": "a CPU",
    "hardware": {"cores": {"threads": 2}},
    "platform": "Linux",
    "python": "3.11",
    "commit": "abc",
    "load_before": [0.5],
}

CHOSEN = "int8.onnx on onnxruntime-cpu, 1 thread: 0.06 ms, chosen: the fastest of 12 that may run"


def samples(rates: dict[str, float], connections: tuple[int, ...] = (1, 8, 32)) -> tuple[Sample, ...]:
    return tuple(
        Sample(name, number, 1 if name == RAW else count, rate + number, 0.5, 1 << 20)
        for name, rate in rates.items()
        for number in range(3)
        for count in (connections if name != RAW else (1,))
    )


def results(memory: tuple[int, ...] = (100, 200, 202), **environment: Any) -> Results:
    outcome = Outcome(
        samples(
            {NATIVE: 7000, GRPC: 2000, REST: 3900, "mlserver": 1000, "litserve": 500, GRPC_ECHO: 3000, RAW: 10000}
            | {calibrated_name(REST): 4200, ASGI_MODEL: 3400}
        ),
        {"kserve": "pip|said no"},
        (OpenSample(NATIVE, 0, 4900, 4890, 0.4, 2.5), OpenSample(NATIVE, 1, 4900, 4900, 0.4, 1.5)),
        raw_batch=32,
    )
    identity = Outcome(samples({NATIVE: 900, GRPC: 400, REST: 500, "mlserver": 300}, (1, 8)), {})
    lasting = Endurance(NATIVE, 1_000_000, (0, 100_000, 1_000_000), memory)
    where = {**ENVIRONMENT, **environment}
    return Results(
        outcome, Plan(rounds=3), where, "2026-11-26", "5ba1e5", {REST: "REST binary"}, identity, lasting, CHOSEN
    )


def test_a_bar_is_a_ratio_of_medians() -> None:
    verdicts = {(v.bar.ours, v.bar.other, v.ratio.connections): v for v in results().verdicts()}
    native = verdicts[NATIVE, "mlserver", 8]
    assert native.ratio.value == pytest.approx(7001 / 1001)
    assert native.is_cleared
    assert native.ratio.cpu_ratio == 1.0, "everybody took half a second"
    assert not verdicts[REST, "mlserver", 32].is_cleared, "3.9 of 4"
    assert verdicts[REST, RAW, 32].is_cleared, "raw rows are the same for any number of connections"
    assert (GRPC, "kserve", 8) not in verdicts, "a peer that is missing clears and misses nothing"
    large = {(v.bar.ours, v.ratio.connections): v.is_cleared for v in results().identity_verdicts()}
    assert large[NATIVE, 1]
    assert not large[GRPC, 8]


def test_what_ours_serves_as_calibrated_has_bars_of_its_own_and_is_named() -> None:
    told = results()
    found = {(bar["other"], bar["connections"]): bar["is_cleared"] for bar in told.to_dict()["bars_as_calibrated"]}
    assert found == {("mlserver", 1): True, ("mlserver", 8): True, ("mlserver", 32): True}, (
        "no bar beside raw rows of another file"
    )
    words = told.to_markdown()
    assert f"chose of the bundle on this machine, {CHOSEN}." in words
    assert f"| {calibrated_name(REST)} | mlserver | 4 | 8 | 4.20 (" in words.partition("# As calibrated")[2]
    before = {name: value for name, value in json.loads(json.dumps(told.to_dict())).items() if name != "chosen"}
    assert "chose of the bundle" not in Results.from_dict(before).to_markdown()


def test_what_a_bare_server_reaches_is_told_beside_the_bars_of_rest() -> None:
    told = results().to_markdown().partition("# A bare server")[2]
    assert f"| {ASGI_MODEL} | {RAW} | 0.35 | 1 | 0.34 (" in told
    assert f"| {ASGI_MODEL} | mlserver | 4 | 32 | 3.40 (" in told
    assert ASGI_MODEL not in {ratio.other for ratio in results().ratios()}, "it is nobody's rival"


def test_raw_rows_are_told_with_the_batch_that_they_came_in_and_read_back() -> None:
    told = results()
    assert f"| {RAW} | in process, batches of 32 |" in told.to_markdown()
    assert Results.from_dict(json.loads(json.dumps(told.to_dict()))).outcome.raw_batch == 32


def test_results_of_before_the_batch_was_told_say_no_processor_time_of_raw_rows() -> None:
    told = json.loads(json.dumps(results().to_dict()))
    assert ratio_of(Results.from_dict(told).outcome, REST, RAW, 8).cpu_ratio == 1.0  # type: ignore[union-attr]
    del told["raw_batch"]  # it was time by the clock then
    before = Results.from_dict(told)
    assert f"| {RAW} | in process | 10,001 | 10,001 | 10,001 | – | – | – |" in before.to_markdown()
    assert ratio_of(before.outcome, REST, RAW, 8).cpu_ratio is None  # type: ignore[union-attr]
    assert ratio_of(before.outcome, REST, "mlserver", 8).cpu_ratio == 1.0  # type: ignore[union-attr]


def test_a_raw_session_tells_rows_a_second_and_what_the_processor_took() -> None:
    model = shipped_bundles()["digits"] / VARIANT
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.serving.raw_session", str(model), "0.2"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    told = json.loads(done.stdout)
    assert told["batch"] in BATCHES
    assert 0 < told["rows_per_s"] * told["cpu_s_per_1000"] < 1100, "one thread takes no more than a second in a second"


def test_every_peer_that_ran_has_a_ratio_to_each_of_ours_with_the_spread_of_the_rounds() -> None:
    ratios = {(r.ours, r.other, r.connections): r for r in results().ratios()}
    expected = {
        (mine, peer, n) for mine in (NATIVE, GRPC, REST) for peer in ("mlserver", "litserve") for n in (1, 8, 32)
    }
    assert set(ratios) == expected, "baselines are no peers, and who is missing has no ratio"
    lit = ratios[GRPC, "litserve", 8]
    assert (lit.value, lit.lowest, lit.highest) == pytest.approx((2001 / 501, 2002 / 502, 2000 / 500))
    told = results()
    assert "| litserve | 8 | 13.97 (13.95 to 14.00; CPU 1.00) | 3.99 (3.99 to 4.00; CPU 1.00) |" in told.to_markdown()
    assert len(told.to_dict()["ratios"]) == len(expected)


def test_a_ratio_is_of_the_rounds_that_both_were_measured_in() -> None:
    whole = samples({GRPC: 100, "litserve": 50}, (8,))
    stopped = Outcome(tuple(s for s in whole if (s.contestant, s.round) != ("litserve", 2)), {}, was_stopped=True)
    ratio = ratio_of(stopped, GRPC, "litserve", 8)
    assert ratio is not None
    assert ratio.value == pytest.approx(100.5 / 50.5)
    assert ratio_of(stopped, GRPC, "nobody", 8) is None
    told = replace(results(), outcome=stopped)
    assert "Stopped in round 3 of 3" in told.to_markdown()


# The end of PyTriton's log, shortened; Triton prints more after the exception.
TRITON_LOG = """  File "/tmp/folderDa1L4e/1/data.py", line 456, in _launch
    tracker_fd = resource_tracker.getfd()
                 ^^^^^^^^^^^^^^^^^^^^^^^^
  File "/opt/python/lib/python3.11/multiprocessing/resource_tracker.py", line 100, in ensure_running
    if self._lock._recursion_count() > 1:
AttributeError: '_thread.RLock' object has no attribute '_recursion_count'


At:
  /tmp/folderDa1L4e/1/model.py(454): initialize
;
cc"""


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        (TRITON_LOG, "AttributeError: '_thread.RLock' object has no attribute '_recursion_count'"),
        (
            "up\nmlserver.errors.ModelError: no /home/x/models/a.onnx\nbye",
            "mlserver.errors.ModelError: no a.onnx",
        ),
        ("error: no port left\n  cleaned up", "error: no port left"),
        ("only this\n\n", "only this"),
        ("", "it said nothing"),
    ],
)
def test_the_reason_is_the_line_that_says_the_error(log: str, reason: str) -> None:
    assert reason_in(log) == reason


def test_a_reason_has_no_folders_or_hosts_of_this_machine() -> None:
    told = publishable(
        "pip: /home/me/peers/x/bin/python failed at https://packages.example/simple/y,\n C:\\Users\\me\\z.py"
    )
    assert told == "pip: python failed at (a URL), z.py"
    assert publishable("http://127.0.0.1:8000/v2/models: status 500") == "http://127.0.0.1:8000/v2/models: status 500"


def test_growth_counts_from_a_tenth_of_the_requests() -> None:
    lasting = results().endurance
    assert lasting is not None
    assert lasting.growth == pytest.approx(0.01)


def test_both_files_are_written_and_the_table_can_be_made_again(tmp_path: Path) -> None:
    given = results((100, 200, 220))
    data, text = given.write(tmp_path, "serving")
    told = json.loads(data.read_text())
    assert told["endurance"]["memory_bytes"] == [100, 200, 220]
    assert len(told["at_fixed_rate"]) == 2
    assert len(told["identity_bars"]) == 6
    assert told["model_sha256"] == "5ba1e5"
    words = text.read_text()
    assert "The machine was not free" not in words
    assert "sha256 5ba1e5" in words
    assert f"| {NATIVE} | 4,900 | 4,895 | 0.40 | 2.00 |" in words
    assert "| asked/s | sent/s |" in words
    assert "open loop" not in words, "latency counts from the send"
    assert "| kserve | missing | pip/said no |" in words
    assert "growth from a tenth of the requests to the end +10.00% (bar: 5%, missed)" in words
    assert Results.from_dict(told).to_markdown() == words
    with pytest.raises(WrongUseError, match="schema version 2"):
        Results.from_dict({**told, "schema_version": 2})


def test_a_machine_that_was_not_free_is_said() -> None:
    assert "**The machine was not free: load average 3.0 on 2 threads" in results(load_before=[3.0]).to_markdown()
