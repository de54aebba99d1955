"""What a run of the serving benchmark comes to: ratios, bars, tables; from samples made here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.serving.contestants import GRPCIO, NATIVE, REST
from benchmarks.serving.endurance import Endurance
from benchmarks.serving.results import Results
from benchmarks.serving.rounds import RAW, OpenSample, Outcome, Plan, Sample

ENVIRONMENT = {
    "cpu": "a CPU",
    "hardware": {"cores": {"threads": 2}},
    "platform": "Linux",
    "python": "3.11",
    "commit": "abc",
    "load_before": [0.5],
}


def samples(rates: dict[str, float], connections: tuple[int, ...] = (1, 8, 32)) -> tuple[Sample, ...]:
    return tuple(
        Sample(name, number, 1 if name == RAW else count, rate + number, 0.5, 1 << 20)
        for name, rate in rates.items()
        for number in range(3)
        for count in (connections if name != RAW else (1,))
    )


def results(memory: tuple[int, ...] = (100, 200, 202)) -> Results:
    outcome = Outcome(
        samples({NATIVE: 7000, GRPCIO: 2000, REST: 3900, "mlserver": 1000, RAW: 10000}),
        {"kserve": "pip|said no"},
        (OpenSample(NATIVE, 0, 4900, 4890, 0.4, 2.5), OpenSample(NATIVE, 1, 4900, 4900, 0.4, 1.5)),
    )
    identity = Outcome(samples({NATIVE: 900, GRPCIO: 400, REST: 500, "mlserver": 300}, (1, 8)), {})
    lasting = Endurance(NATIVE, 1_000_000, (0, 100_000, 1_000_000), memory)
    return Results(outcome, Plan(rounds=3), identity, lasting)


def test_a_bar_is_a_ratio_of_medians() -> None:
    verdicts = {(v.bar.ours, v.bar.other, v.connections): v for v in results().verdicts()}
    native = verdicts[NATIVE, "mlserver", 8]
    assert native.ratio == pytest.approx(7001 / 1001)
    assert native.is_cleared
    assert native.cpu_ratio == 1.0, "everybody took half a second"
    assert not verdicts[REST, "mlserver", 32].is_cleared, "3.9 of 4"
    assert verdicts[REST, RAW, 32].is_cleared, "raw rows are the same for any number of connections"
    assert (GRPCIO, "kserve", 8) not in verdicts, "a peer that is missing clears and misses nothing"
    large = {(v.bar.ours, v.connections): v.is_cleared for v in results().identity_verdicts()}
    assert large[NATIVE, 1]
    assert not large[GRPCIO, 8]


def test_growth_counts_from_a_tenth_of_the_requests() -> None:
    lasting = results().endurance
    assert lasting is not None
    assert lasting.growth == pytest.approx(0.01)


def test_both_files_are_written(tmp_path: Path) -> None:
    data, text = results((100, 200, 220)).write(tmp_path, "serving", ENVIRONMENT, "2026-11-26", {})
    told = json.loads(data.read_text())
    assert told["endurance"]["memory_bytes"] == [100, 200, 220]
    assert len(told["at_fixed_rate"]) == 2
    assert len(told["identity"]["bars"]) == 6
    words = text.read_text()
    assert "The machine was not free" not in words
    assert f"| {NATIVE} | 4,900 | 4,895 | 0.40 | 2.00 |" in words
    assert "| kserve | missing | pip/said no |" in words
    assert "growth from a tenth of the requests to the end +10.00% (bar: 5%, missed)" in words


def test_a_machine_that_was_not_free_is_said(tmp_path: Path) -> None:
    busy = {**ENVIRONMENT, "load_before": [3.0]}
    _, text = results().write(tmp_path, "serving", busy, "2026-11-26", {})
    assert "**The machine was not free: load average 3.0 on 2 threads" in text.read_text()
