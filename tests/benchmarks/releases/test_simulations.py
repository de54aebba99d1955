"""Simulations of releases: floors that are known, rules by hand, and a file that keeps what was not run again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom, binomtest

from benchmarks.releases.__main__ import main
from benchmarks.releases.fleet import DEVICES, by_limits, by_waves, by_z, harmed_by, reach, roll_out
from benchmarks.releases.latencies import HEAVIER, SLOWER, STABLE, Latencies
from benchmarks.releases.outcomes import NEVER, Row, first_hits, information_floor, row
from benchmarks.releases.report import Held, bars
from benchmarks.releases.rules import argo, flagger, peeking_z
from benchmarks.releases.shares import Labelling
from benchmarks.releases.tails import GUARD, drawn, rolled_back
from cloud_gateway.guards.comparison import Comparison


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
    stopped, failed = roll_out(np.ones(500, bool))
    assert stopped == failed <= 10
    assert roll_out(np.zeros(500, bool)) == (NEVER, 0)


@pytest.mark.parametrize("share", [0.005, 0.01, 0.03, 0.2])
def test_many_fleets_at_once_are_stopped_as_the_code_stops_each(share: float) -> None:
    failing = np.random.default_rng([7, 8, int(share * 1e4)]).random((60, DEVICES)) < share
    stops = by_limits(failing)
    told = [roll_out(one) for one in failing]
    assert stops.tolist() == [stop for stop, _ in told]
    assert harmed_by(failing, stops).tolist() == [failed for _, failed in told]


def test_the_other_rules_of_fleets_by_hand() -> None:
    failing = np.zeros((3, DEVICES), bool)
    failing[0, [3, 130]] = True  # one of the first wave's five
    failing[1, 140:150] = True
    failing[2, 60] = True
    assert by_waves(failing).tolist() == [5, 175, NEVER]
    assert by_z(failing).tolist() == [5, 145, NEVER]


def test_the_chance_to_reach_a_limit_is_that_of_scipy() -> None:
    limits = np.array([9.0] * 19 + [3.0])
    assert reach(limits, 0.1) == pytest.approx(binom.sf(2, 20, 0.1), abs=1e-6)


def test_bars_are_missed_where_the_figures_say_so() -> None:
    rows = [
        Row("S1", "Edgeward", "1.0%", 100, 0.06, None),
        Row("S1", "z-test at every look", "1.0%", 100, 0.5, None),
        Row("S2", "Edgeward", "5% → 8%", 100, 1.0, 1700.0, 802.0, {}, 1800.0),
        Row("S3", "Edgeward", "1 % / 4 %", 100, 1.0, 400.0, 311.0, {}, 420.0),
    ]
    assert [bar.held for bar in bars(rows)] == [Held.NOT_SHOWN, Held.MISSED, Held.HELD]


@pytest.mark.parametrize(
    ("hits", "runs", "held"),
    [
        (2, 40, Held.NOT_SHOWN),
        (0, 40, Held.NOT_SHOWN),
        (500, 10_000, Held.NOT_SHOWN),
        (450, 10_000, Held.HELD),
        (560, 10_000, Held.MISSED),
    ],
)
def test_a_rate_holds_a_bar_only_where_its_interval_does(hits: int, runs: int, held: Held) -> None:
    (bar,) = bars([Row("S1", "Edgeward", "1.0%", runs, hits / runs, None)])
    assert bar.held is held
    assert (f"not shown with {runs:,} runs" in str(bar)) == (held is Held.NOT_SHOWN)


@pytest.mark.parametrize(("hits", "runs"), [(0, 40), (2, 40), (40, 40), (170, 10_000), (4321, 10_000)])
def test_intervals_are_those_of_clopper_and_pearson(hits: int, runs: int) -> None:
    expected = binomtest(hits, runs).proportion_ci(0.95, "exact")
    assert Row("S1", "x", "y", runs, hits / runs, None).interval == pytest.approx(
        (expected.low, expected.high), abs=1e-9
    )


@pytest.mark.parametrize("runs", [1, 5, 40, 600, 2000, 10_000])
def test_the_medians_upper_end_leaves_out_the_tail_it_says(runs: int) -> None:
    values = np.arange(runs)
    up_to = row("S2", "x", "y", values).median_up_to
    # The median is over the value at place k when more than k of the runs lie below the median.
    over = binom.sf(runs if up_to is None else up_to, runs, 0.5)
    assert over <= 0.025
    if up_to is not None:
        assert binom.sf(up_to - 3, runs, 0.5) > 0.025, "and not much more than that"


def test_labels_come_late_out_of_order_and_for_a_share() -> None:
    at, order = Labelling(0.05, 1000).arrivals(50, 2000, np.random.default_rng(1))
    assert (np.diff(at, axis=1) >= 0).all()
    assert (np.diff(order, axis=1) < 0).mean() > 0.1
    assert (np.sort(order, axis=1) == np.arange(2000)).all()
    assert at[:, -1].mean() == pytest.approx(2000 / 0.05, rel=0.1)
    at, order = Labelling(1.0, 0).arrivals(2, 5, np.random.default_rng(1))
    assert at.tolist() == [[1, 2, 3, 4, 5]] * 2


def test_harm_to_devices_is_held_against_all_at_once() -> None:
    extra = {"harmed_error": 0.1, "harmed_p95": 9.0, "harmed_all": 15.0}
    rows = [
        Row("S8", "Edgeward", "3.0% failing", 100, 1.0, 300.0, None, {**extra, "harmed": mean})
        for mean in (7.0, 7.6, 9.0)
    ]
    assert [bar.held for bar in bars(rows)] == [Held.HELD, Held.NOT_SHOWN, Held.MISSED]


@pytest.mark.parametrize("latencies", [STABLE, SLOWER, HEAVIER], ids=["the same", "slower", "heavier"])
def test_many_tails_at_once_are_judged_as_the_code_judges_each(latencies: Latencies) -> None:
    runs, pairs = 3, 1200
    hits = rolled_back(latencies, runs, pairs, np.random.default_rng(11))
    rng = np.random.default_rng(11)
    watches = [Comparison(GUARD, "", 0.05, 1.0, 0.5) for _ in range(runs)]
    told = [NEVER] * runs
    for pair in range(pairs):
        stable, candidate = drawn(STABLE, runs, rng), drawn(latencies, runs, rng)
        for run, watch in enumerate(watches):
            watch.observe_arm(False, float(stable[run]))
            watch.observe_arm(True, float(candidate[run]))
            if told[run] == NEVER and watch.e_worse >= 1 / 0.05:
                told[run] = pair + 1
    assert hits.tolist() == told


def test_running_one_scenario_again_keeps_the_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for only in ("S3", "S8"):
        assert main(["--only", only, "--runs", "8", "--output", str(tmp_path)]) == 0
    (raw,) = tmp_path.glob("*.json")
    told = json.loads(raw.read_text())
    assert {one["scenario"] for one in told["rows"]} == {"S3", "S8"}
    (table,) = tmp_path.glob("*.md")
    assert "S3: median to the decision" in table.read_text()
    assert "| runs |" in capsys.readouterr().out
    assert main(["--only", "S9", "--output", str(tmp_path)]) == 2
