"""What rounds say of one p50 against another."""

import numpy as np

from benchmarks.releases.paired import BAR, against, verdict
from benchmarks.significance import Interval

CHANCE = np.random.default_rng(3)


def rounds(times: float, count: int = 60) -> tuple[list[list[float]], list[list[float]]]:
    """`times` as long as the base, on a machine that halves its speed in every third round."""
    mine, base = [], []
    for number in range(count):
        speed = 2.0 if number % 3 == 0 else 1.0
        base.append([speed * float(each) for each in CHANCE.lognormal(0, 0.1, 50)])
        mine.append([speed * times * float(each) for each in CHANCE.lognormal(0, 0.1, 50)])
    return mine, base


def test_a_machine_that_changes_its_speed_hides_nothing() -> None:
    for times, said in ((1.0, "held"), (1.02, "held"), (1.2, "missed")):
        found = against(*rounds(times))
        assert found.low < times < found.high
        assert found.high - found.low < 0.05
        assert verdict(found) == said


def test_what_an_interval_leaves_open_is_not_shown() -> None:
    assert verdict(Interval(1.0, 0.9, 1.1)) == "not shown"
    assert verdict(Interval(1.0, 0.9, 1.0 + BAR)) == "held"
    assert verdict(Interval(1.0, 0.99, 1.01), errors=1) == "missed"
