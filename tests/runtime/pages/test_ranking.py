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
    told = rank([window(calm=calm, constant=constant, errors=errors, late=late)], actions)
    assert [(one.series, one.preceded, one.actions) for one in told] == [
        ("errors", 2, 2),
        ("late", 1, 2),
        ("calm", 0, 2),
        ("constant", 0, 2),
    ]
    assert told[0].lift > told[1].lift > 1
    assert told[-1].lift == 1, "it never moves, before actions or at any time"


def test_what_jumps_all_day_precedes_every_action_and_tells_nothing() -> None:
    """By the number of actions alone it would be the first."""
    chance = np.random.default_rng(4)
    hours = 24
    count = hours * 60
    times = np.arange(START, START + hours * 3600, 60)
    actions = [START + hour * 3600 for hour in range(3, 23, 3)]
    telling = chance.normal(1, 0.05, count)
    for action in actions[:-1]:
        at = (action - START) // 60
        telling[at - 5 : at] += 2
    # Doubled every twelve minutes, so that any five minutes stand out from the hour before them.
    always = 1e-20 * 2.0 ** (np.arange(count) / 12)
    columns = {name: (values.astype(np.float32),) * 2 for name, values in (("always", always), ("telling", telling))}
    first, second = rank([Window(60, times, columns)], actions)
    assert (first.series, first.preceded) == ("telling", len(actions) - 1)
    assert (second.series, second.preceded) == ("always", len(actions))
    assert first.lift > 5
    assert second.lift == pytest.approx(1, abs=0.05)


def test_each_action_is_looked_at_once_in_the_finest_window_that_reaches_it() -> None:
    days, minutes = 10, 24 * 60
    coarse_times = np.arange(START, START + days * 86_400, 300)
    fine_times = np.arange(START + (days - 1) * 86_400, START + days * 86_400, 60)
    old, new = START + 5 * 86_400, START + days * 86_400 - 3600
    coarse, fine = np.ones(len(coarse_times)), np.ones(minutes)
    coarse[(old - START) // 300 - 1] = 5.0
    coarse[(new - START) // 300 - 1] = 5.0
    fine[(new - int(fine_times[0])) // 60 - 5 : (new - int(fine_times[0])) // 60] = 5.0
    windows = [
        Window(step_s, times, {"x": (values.astype(np.float32),) * 2})
        for step_s, times, values in ((60, fine_times, fine), (300, coarse_times, coarse))
    ]
    (told,) = rank(windows, [float(old), float(new)])
    assert (told.preceded, told.actions) == (2, 2)


def test_actions_that_the_history_does_not_reach_count_for_nothing() -> None:
    told = rank([window(x=np.ones(HOURS * 360))], [START - 50, START + 10])
    assert told == [Rank("x", 0, 0, 1.0)]
    assert rank([window(x=np.full(HOURS * 360, np.nan))], [START + 7200]) == [Rank("x", 0, 0, 1.0)]
    assert rank([window()], []) == []


def test_a_gap_is_no_movement() -> None:
    values = np.full(HOURS * 360, 5.0)
    values[600:700] = np.nan
    assert rank([window(x=values)], [START + 7200]) == [Rank("x", 0, 1, 1.0)]


@pytest.mark.parametrize(
    ("line", "times"),
    [
        ({"at": 5.5, "is_own": True}, [5.5]),
        ({"unix_ms": 2500, "is_own": True}, [2.5]),
        ({"at": 7, "is_own": False}, []),
        ({"at": 7}, []),
        ({"at": "yesterday", "is_own": True}, []),
        ({"at": True, "is_own": True}, []),
        ({"is_own": True}, []),
    ],
)
def test_times_of_actions(line: dict[str, object], times: list[float]) -> None:
    assert action_times([line]) == times
