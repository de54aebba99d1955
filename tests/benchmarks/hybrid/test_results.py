"""The hybrid benchmark's arithmetic, on traces small enough to check by hand."""

from dataclasses import replace

import pytest

from benchmarks.hybrid.frames import PREFACE, CallCounter
from benchmarks.hybrid.proxy import Link
from benchmarks.hybrid.results import (
    NORMAL_RUN,
    Contestant,
    Outcome,
    Run,
    bars,
    extra_load,
    line,
    load,
    markdown,
    pooled,
    possible,
    recoveries,
    slowest_recoveries,
)
from benchmarks.hybrid.trace import Condition, Fault, Phase, Planned, phases, plan

IN_TIME, LATE = 0.1, 0.4
PHASES = [Phase("blackout", (Condition(Link(is_blackhole=True)),)), Phase("good again", (Condition(Link()),))]


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
    assert line(one, TRACE, [True, True, False, True], 0.3, {1}).hits == 0


def test_calls_a_request_are_those_on_the_link_and_refused_requests_do_not_dilute_them() -> None:
    assert load(contestant("x", [outcome(IN_TIME)] * 4, asked=5)) == 1.25
    busy = replace(contestant("x", [outcome(IN_TIME)] * 4, asked=3), calls_on_link=2, refused_at_once=1)
    assert load(busy) == pytest.approx(5 / 3)
    assert extra_load(replace(busy, hedges={"sent": 2, "won": 1}, retries=1)) == pytest.approx(2)


def test_a_phase_that_is_surely_below_the_bar_is_named_though_all_together_hold_it() -> None:
    trace = [Planned(0.0, 0, 0, False)] * 20 + [Planned(1.1, 1, 0, False)] * 5000
    good = [outcome(IN_TIME)] * len(trace)
    everyone = [contestant(name, good) for name in ("edge_only", "cloud_only")]
    bad = contestant("fastest", [outcome(LATE)] * 4 + good[4:])
    found = bars([Run(trace, [*everyone, bad])], PHASES, {"deadline_s": 0.3, "phase_s": 1.0})
    assert found[0][2], "99.92 % of all"
    assert found[1][1:] == ("blackout, fastest: 16/20", False)
    low, high = line(bad, trace, [True] * len(trace), 0.3, {0}).interval
    assert (low, high) == pytest.approx((0.5634, 0.9427), abs=1e-4)
    lucky = contestant("fastest", [outcome(LATE), *good[1:]])
    assert bars([Run(trace, [*everyone, lucky])], PHASES, {"deadline_s": 0.3, "phase_s": 1.0})[1][2], (
        "19 of 20 show nothing"
    )


def test_a_phase_beyond_the_bar_is_told_beside_it() -> None:
    harder = [PHASES[1], replace(PHASES[0], is_beyond=True)]
    trace = [Planned(0.0, 0, 0, False), Planned(1.1, 1, 0, False)]
    everyone = [contestant(name, [outcome(IN_TIME)] * 2) for name in ("edge_only", "cloud_only")]
    one = contestant("fastest", [outcome(IN_TIME), outcome(LATE)])
    found = bars([Run(trace, [*everyone, one])], harder, {"deadline_s": 0.3, "phase_s": 1.0})
    assert [(value, is_held) for _, value, is_held in found[:3]] == [
        ("100.00%", True),
        ("none shows less", True),
        ("blackout, fastest: 0/1; all phases together 50.00%", False),
    ]


def test_runs_of_several_seeds_add_up_and_the_slowest_recovery_counts() -> None:
    trace = [Planned(1.0 + number / 10, 1, 0, False) for number in range(10)]
    runs = [
        Run(
            trace,
            [
                contestant(
                    "cloud_first", [outcome(IN_TIME, "cloud" if at >= late else "edge") for at in range(10)], "cloud"
                )
            ],
        )
        for late in (1, 4)
    ]
    assert slowest_recoveries(runs, "cloud_first", PHASES, 1.0) == {"blackout": 0.4}
    together = pooled(runs)
    assert (len(together.trace), len(together.contestants[0].outcomes)) == (20, 20)
    assert together.contestants[0].asked["edge"] == 20


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
        "seeds": [0],
    }
    everyone = [contestant(name, outcomes) for name in ("edge_only", "cloud_only", "edge_first")]
    environment = {"cpu": "a processor", "hardware_text": {"cores": "2"}, "commit": "abc", "load_before": [0.1]}
    text = markdown([Run(TRACE, everyone)], PHASES, setup, environment)
    assert "| oracle | 75.00% |" in text
    assert "| edge_first | 75.00% | 100.00% |" in text
    held = {what: is_held for what, _, is_held in bars([Run(TRACE, everyone)], PHASES, setup)}
    assert list(held.values()) == [True, True, True, False, True]


def test_the_trace_is_the_same_for_the_same_seed_and_links_flap() -> None:
    assert plan(3, 1.0, 20.0, 10, 0.1, 7) == plan(3, 1.0, 20.0, 10, 0.1, 7)
    assert {planned.phase for planned in plan(3, 1.0, 20.0, 10, 0.1, 7)} == {0, 1, 2}
    flapping = next(phase for phase in phases() if phase.name == "flapping")
    assert [flapping.at(turn * flapping.turn_s + 0.1) for turn in range(3)] == [*flapping.turns, flapping.turns[0]]
    in_turn = next(phase for phase in phases() if phase.name == "both degraded in turn")
    assert all(turn.fault is Fault.NONE or turn.link == phases()[0].turns[0].link for turn in in_turn.turns)


def test_calls_are_counted_in_the_frames_however_they_are_cut() -> None:
    def frame(kind: int, stream: int, size: int) -> bytes:
        return size.to_bytes(3, "big") + bytes([kind, 0]) + stream.to_bytes(4, "big") + bytes(size)

    sent = PREFACE + b"".join(
        [
            frame(4, 0, 6),
            frame(1, 1, 40),
            frame(0, 1, 300),
            frame(1, 3, 7),
            frame(6, 0, 8),
            frame(1, 3, 5),
            frame(1, 5, 0),
        ]
    )
    for step in (1, 7, 1000):
        counter = CallCounter()
        assert sum(counter.feed(sent[at : at + step]) for at in range(0, len(sent), step)) == counter.calls == 3
