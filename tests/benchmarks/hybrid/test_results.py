"""The hybrid benchmark's arithmetic, on traces small enough to check by hand."""

import pytest

from benchmarks.hybrid.proxy import Link
from benchmarks.hybrid.results import NORMAL_RUN, Contestant, Outcome, bars, line, load, markdown, possible, recoveries
from benchmarks.hybrid.trace import Phase, Planned, link_at, phases, plan

IN_TIME, LATE = 0.1, 0.4
PHASES = [Phase("blackout", Link(is_blackhole=True)), Phase("good again", Link())]


def contestant(name: str, outcomes: list[Outcome], wishes: str = "edge", asked: int | None = None) -> Contestant:
    count = len(outcomes) if asked is None else asked
    return Contestant(name, wishes, outcomes, {"edge": count, "cloud": 0}, {"sent": 0}, 0, 0)


def outcome(took_s: float, by: str = "edge") -> Outcome:
    return Outcome(took_s, by, "")


TRACE = [
    Planned(0.1, 0, 0, False),
    Planned(0.2, 0, 1, False),
    Planned(0.3, 0, 2, True),
    Planned(1.1, 1, 3, False),
]


def test_the_oracle_takes_the_better_arm_but_a_private_request_has_one() -> None:
    edge = contestant("edge_only", [outcome(LATE), outcome(IN_TIME), outcome(LATE), outcome(0.05, "")])
    cloud = contestant("cloud_only", [outcome(IN_TIME, "cloud")] * 3 + [outcome(LATE, "cloud")])
    assert possible(edge, cloud, TRACE, 0.3) == [True, True, False, False]


def test_hits_are_counted_among_those_that_were_possible() -> None:
    one = contestant("x", [outcome(IN_TIME), outcome(LATE), outcome(IN_TIME), Outcome(0.01, "", "an error")])
    found = line(one, TRACE, [True, True, False, True], 0.3, None)
    assert (found.requests, found.hits, found.possible, found.hits_of_possible) == (4, 2, 3, 1)
    assert found.share == pytest.approx(1 / 3)
    assert line(one, TRACE, [True, True, False, True], 0.3, 1).hits == 0


def test_calls_a_request() -> None:
    assert load(contestant("x", [outcome(IN_TIME)] * 4, asked=5)) == 1.25


def test_recovery_is_the_first_of_a_run_of_answers_as_wished() -> None:
    trace = [Planned(1.0 + number / 10, 1, 0, False) for number in range(10)]
    wished = [False, True, False, *[True] * 7]
    outcomes = [outcome(IN_TIME, "cloud" if is_so else "edge") for is_so in wished]
    one = contestant("cloud_first", outcomes, wishes="cloud")
    assert recoveries(one, trace, PHASES, 1.0) == {"blackout": 0.3}
    never = contestant("cloud_first", outcomes[: NORMAL_RUN - 1], wishes="cloud")
    assert recoveries(never, trace[: NORMAL_RUN - 1], PHASES, 1.0) == {"blackout": float("inf")}


def test_the_report_says_which_bars_hold() -> None:
    outcomes = [outcome(IN_TIME)] * 3 + [outcome(LATE)]
    setup = {
        "started": "2026-11-26T00:00:00",
        "model": "digits",
        "rate_per_s": 4,
        "deadline_s": 0.3,
        "phase_s": 1.0,
        "private_share": 0.25,
        "seed": 0,
    }
    everyone = [contestant(name, outcomes) for name in ("edge_only", "cloud_only", "edge_first")]
    environment = {"cpu": "a processor", "hardware_text": {"cores": "2"}, "commit": "abc", "load_before": [0.1]}
    text = markdown(everyone, TRACE, PHASES, setup, environment)
    assert "| oracle | 75.00% |" in text
    assert "| edge_first | 75.00% | 100.00% |" in text
    held = {what: is_held for what, _, is_held in bars(everyone[2:], TRACE, [True] * 4, PHASES, setup)}
    assert list(held.values()) == [False, True, False, True]


def test_the_trace_is_the_same_for_the_same_seed_and_links_flap() -> None:
    assert plan(3, 1.0, 20.0, 10, 0.1, 7) == plan(3, 1.0, 20.0, 10, 0.1, 7)
    assert {planned.phase for planned in plan(3, 1.0, 20.0, 10, 0.1, 7)} == {0, 1, 2}
    flapping = next(phase for phase in phases() if phase.other_link is not None)
    assert link_at(flapping, 0.0) is flapping.link
    assert link_at(flapping, flapping.turn_s * 1.5) is flapping.other_link
