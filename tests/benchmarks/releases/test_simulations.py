"""Simulations of releases: floors that are known, rules by hand, and a file that keeps what was not run again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.releases.__main__ import main
from benchmarks.releases.fleet import roll_out
from benchmarks.releases.outcomes import NEVER, Row, first_hits, information_floor, row
from benchmarks.releases.report import bars
from benchmarks.releases.rules import argo, flagger, peeking_z


@pytest.mark.parametrize(("base", "harm", "floor"), [(0.05, 0.08, 802), (0.01, 0.03, 562)])
def test_the_information_floor_is_that_of_the_requirements(base: float, harm: float, floor: int) -> None:
    assert round(information_floor(np.array([base, 1 - base]), np.array([harm, 1 - harm]))) == floor


def test_hits_are_the_first_and_medians_are_over_all_runs() -> None:
    is_hit = np.array([[False, True, True], [False, False, False], [True, False, False]])
    hits = first_hits(is_hit, np.array([50, 100, 150]))
    assert hits.tolist() == [100, NEVER, 50]
    made = row("S2", "x", "y", hits, 50.0)
    assert (made.decided, made.median, made.ratio) == (pytest.approx(2 / 3), 100.0, 2.0)
    assert row("S2", "x", "y", np.array([NEVER, NEVER, 1])).median is None


def test_flagger_and_argo_count_windows() -> None:
    windows = np.array([[0, 1, 0, 1, 0, 1, 0, 1, 1, 0], [0, 0, 0, 0, 0, 9, 9, 9, 9, 9], [3, 3, 3, 3, 3, 0, 0, 0, 0, 0]])
    back, promoted = flagger().apply(windows)
    assert back.tolist() == [450, NEVER, 250]
    assert promoted.tolist() == [NEVER, 250, NEVER]
    assert argo().apply(windows)[0].tolist() == [NEVER, 450, 200]


def test_a_z_test_looks_at_everything_so_far() -> None:
    candidate, stable = np.array([[1, 30], [1, 2]]), np.array([[1, 2], [1, 2]])
    assert peeking_z(candidate, stable, np.array([50, 100])).tolist() == [100, NEVER]


def test_a_rollout_stops_before_the_whole_fleet_is_harmed() -> None:
    stopped, failed = roll_out("Edgeward", np.ones(500, bool))
    assert stopped == failed <= 10
    assert roll_out("Edgeward", np.zeros(500, bool)) == (NEVER, 0)


def test_bars_are_missed_where_the_figures_say_so() -> None:
    rows = [
        Row("S1", "Edgeward", "1.0%", 100, 0.06, None),
        Row("S1", "z-test at every look", "1.0%", 100, 0.5, None),
        Row("S2", "Edgeward", "5% → 8%", 100, 1.0, 1700.0, 802.0),
        Row("S3", "Edgeward", "1 % / 4 %", 100, 1.0, 400.0, 311.0),
    ]
    assert [is_held for _, is_held in bars(rows)] == [False, False, True]


def test_running_one_scenario_again_keeps_the_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for only in ("S3", "S8"):
        assert main(["--only", only, "--runs", "8", "--fleet-runs", "5", "--output", str(tmp_path)]) == 0
    (raw,) = tmp_path.glob("*.json")
    told = json.loads(raw.read_text())
    assert {one["scenario"] for one in told["rows"]} == {"S3", "S8"}
    (table,) = tmp_path.glob("*.md")
    assert "S3: median to the decision" in table.read_text()
    assert "| runs |" in capsys.readouterr().out
    assert main(["--only", "S9", "--output", str(tmp_path)]) == 2
