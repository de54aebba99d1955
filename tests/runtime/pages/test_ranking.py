"""Which series moved before the system acted."""

import numpy as np
import pytest

from runtime.pages.ranking import Rank, action_times, rank
from runtime.telemetry.history import Window

START, HOURS = 1_800_000_000, 4


def window(**columns: np.ndarray) -> Window:
    times = np.arange(START, START + HOURS * 3600, 10)
    return Window(10, times, {name: (values.astype(np.float32),) * 2 for name, values in columns.items()})


def test_what_moved_before_actions_comes_first() -> None:
    chance = np.random.default_rng(3)
    count = HOURS * 360
    errors, calm, constant = chance.normal(1, 0.1, count), chance.normal(50, 5, count), np.full(count, 8.0)
    actions = [START + 2 * 3600, START + int(3.5 * 3600)]
    for action in actions:
        at = (action - START) // 10
        errors[at - 30 : at] += 2
    late = errors.copy()
    late[(actions[1] - START) // 10 - 30 : (actions[1] - START) // 10] -= 2
    told = rank(window(calm=calm, constant=constant, errors=errors, late=late), actions)
    assert told == [Rank("errors", 2, 2), Rank("late", 1, 2), Rank("calm", 0, 2), Rank("constant", 0, 2)]


def test_actions_that_the_history_does_not_reach_count_for_nothing() -> None:
    told = rank(window(x=np.ones(HOURS * 360)), [START - 50, START + 10])
    assert told == [Rank("x", 0, 0)]
    assert rank(window(x=np.full(HOURS * 360, np.nan)), [START + 7200]) == [Rank("x", 0, 0)]
    assert rank(window(), []) == []


def test_a_gap_is_no_movement() -> None:
    values = np.full(HOURS * 360, 5.0)
    values[600:700] = np.nan
    assert rank(window(x=values), [START + 7200]) == [Rank("x", 0, 1)]


@pytest.mark.parametrize(
    ("line", "times"),
    [
        ({"at": 5.5}, [5.5]),
        ({"unix_ms": 2500}, [2.5]),
        ({"at": 7, "acted": False}, []),
        ({"at": "yesterday"}, []),
        ({"at": True}, []),
        ({}, []),
    ],
)
def test_times_of_actions(line: dict[str, object], times: list[float]) -> None:
    assert action_times([line]) == times
