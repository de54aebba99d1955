"""What monitoring costs: ratios of turns with their intervals, and a real server that has it on and off in turn."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.monitoring import cost
from benchmarks.monitoring.cost_ratios import Sample, ratio, totals, verdict
from benchmarks.monitoring.results import to_markdown
from benchmarks.significance import Interval


def turns(arm: str, cost: float, seed: int, rounds: int = 40) -> list[Sample]:
    """A machine whose rounds differ by a fifth, all arms alike; a request costs `cost` CPU ms, and an arm's own noise is 1 %."""
    common, own = np.random.default_rng(0), np.random.default_rng(seed)
    slowness = common.uniform(1.0, 1.2, rounds)
    noise = own.normal(1.0, 0.01, rounds)
    return [
        Sample(at, arm, int(1000 / slow), 1.0, float(cost * slow), float(cost * shaken * 1e-3 * int(1000 / slow)))
        for at, (slow, shaken) in enumerate(zip(slowness, noise, strict=True))
    ]


def test_a_cost_of_five_per_cent_shows_and_nothing_does_not() -> None:
    samples = [*turns("off", 0.5, 1), *turns("again", 0.5, 2), *turns("on", 0.525, 3)]
    found = ratio(samples, "on", "off")["cpu_ms_per_1000"]
    assert found.value == pytest.approx(1.05, abs=0.01)
    assert 1.04 < found.low < found.value < found.high < 1.06
    assert verdict("cpu_ms_per_1000", found, 0.03) == "MISSED"
    nothing = ratio(samples, "again", "off")["cpu_ms_per_1000"]
    assert nothing.low < 1.0 < nothing.high
    assert verdict("cpu_ms_per_1000", nothing, 0.03) == "held"
    assert totals(samples, ["off"])["off"]["cpu_ms_per_1000"] == pytest.approx(500, rel=0.01)


def test_a_machine_of_two_speeds_does_not_hide_a_p50_whose_turns_are_pairs() -> None:
    chance = np.random.default_rng(5)
    speed = np.where(np.arange(60) % 2 == 0, 1.45, 2.05)
    arms = {"off": 1.0, "again": 1.0, "on": 1.02}
    samples = [
        Sample(at, arm, 1000, 1.0, float(cost * speed[at] * chance.normal(1.0, 0.02)), 0.5)
        for arm, cost in arms.items()
        for at in range(60)
    ]
    found, nothing = (ratio(samples, arm, "off")["p50_ms"] for arm in ("on", "again"))
    assert 1.005 < found.low < found.value < found.high < 1.035
    assert 0.985 < nothing.low < 1.0 < nothing.high < 1.015


@pytest.mark.parametrize(
    ("figure", "interval", "said"),
    [
        ("p50_ms", Interval(1.0, 0.99, 1.02), "held"),
        ("p50_ms", Interval(1.02, 0.9, 1.2), "not shown"),
        ("p50_ms", Interval(1.06, 1.04, 1.08), "MISSED"),
        ("per_s", Interval(1.0, 0.98, 1.01), "held"),
        ("per_s", Interval(0.99, 0.9702, 1.01), "held"),
        ("per_s", Interval(0.98, 0.8, 1.1), "not shown"),
        ("per_s", Interval(0.94, 0.92, 0.96), "MISSED"),
    ],
)
def test_only_a_whole_interval_decides(figure: str, interval: Interval, said: str) -> None:
    assert verdict(figure, interval, 0.03) == said


def test_the_table_says_what_is_held_and_what_the_machine_cannot_tell() -> None:
    samples = [*turns("off", 0.5, 1), *turns("again", 0.5, 2), *turns("on", 0.525, 3)]
    told = {"rounds": 40, "seconds": 1.0, "connections": 4, **cost.told(samples)}
    environment = {
        "cpu": "", "hardware": {"cores": {"threads": 2}}, "platform": "", "python": "", "commit": "", "load_before": [0]
    }  # fmt: skip
    text = to_markdown({"environment": environment, "when": "", "cost": told})
    (line,) = (line for line in text.splitlines() if line.startswith("| CPU ms of the server for 1,000 requests |"))
    assert line.endswith("| MISSED |")
    assert line.count("[") == len(cost.PAIRS)
    assert to_markdown({"environment": environment, "when": "", "cost": "missing: no Linux"}).endswith("no Linux\n")


def test_what_the_recorder_used_is_charged_to_processor_and_clock() -> None:
    turn = cost.charged(Sample(0, "on", 100, 1.0, 2.0, 0.5), 0.1)
    assert (turn.cpu_s, turn.wall_s) == (pytest.approx(0.6), pytest.approx(1.1))
    assert (turn.requests, turn.p50_ms) == (100, 2.0)


@pytest.mark.slow
@pytest.mark.skipif(cost.why_not() is not None, reason=str(cost.why_not()))
def test_a_server_is_switched_between_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "WARM_UP_ROUNDS", 1)
    charged: list[float] = []

    def noted(turn: Sample, thread_s: float) -> Sample:
        charged.append(thread_s)
        return replace(turn, cpu_s=turn.cpu_s + thread_s)

    monkeypatch.setattr(cost, "charged", noted)
    found = cost.measure(rounds=2, seconds=0.2)
    assert sorted(sample["arm"] for sample in found["samples"]) == sorted(2 * cost.ARMS)
    assert all(sample["cpu_s"] > 0 and sample["requests"] > 0 for sample in found["samples"])
    assert len(charged) == 3, "a round of warming up, too"
    assert all(thread_s > 0 for thread_s in charged), "the recorder counted in each round"
    assert [(one["arm"], one["to"]) for one in found["ratios"]] == list(cost.PAIRS)
