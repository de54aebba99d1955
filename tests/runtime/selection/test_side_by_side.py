"""Candidates compared pass by pass, on machines of two kinds of moment."""

import random
from statistics import median

import pytest

from runtime.selection.latency import Latency
from runtime.selection.side_by_side import Lag, lag_of, levelled_ms, told_beside


def test_a_moment_that_slows_all_of_them_tells_nothing() -> None:
    quiet, busy = dict.fromkeys(range(10), 1.0), dict.fromkeys(range(10, 21), 2.0)
    one = quiet | busy
    other = {at: 1.1 * ms for at, ms in one.items()}
    lag = lag_of(other, one)
    assert lag is not None
    assert (lag.share, lag.error, lag.passes) == (pytest.approx(0.1), pytest.approx(0), 21)
    ms = levelled_ms({"one": one, "other": other})
    assert ms["other"] / ms["one"] == pytest.approx(1.1)


def test_only_passes_that_both_took_part_in_count() -> None:
    one, other = {1: 9.0, 2: 1.0, 3: 1.0}, {2: 2.0, 3: 2.0, 4: 0.1}
    assert lag_of(other, one) == Lag(1.0, 0.0, 2)
    assert lag_of({1: 1.0}, {2: 1.0}) is None
    assert levelled_ms({"one": {1: 1.0}, "other": {2: 1.0}}) == {}
    assert levelled_ms({}) == {}


def test_who_saw_the_quiet_moments_alone_is_told_as_if_it_had_seen_all() -> None:
    leader = {at: [1.0] * 40 + [1.2] * 10 for at in range(5)} | {at: [2.0] * 40 + [2.4] * 10 for at in range(5, 15)}
    dropped = {at: [1.1] * 40 + [1.6] * 10 for at in range(5)}
    calls = {"dropped": dropped, "leader": leader, "elsewhere": {20: [1.0]}}
    told = told_beside("dropped", "leader", calls)
    assert told is not None
    latency, error = told
    assert latency == Latency(pytest.approx(2.2), pytest.approx(2.4 * 1.6 / 1.2), 0.0, 5, 250)  # type: ignore[arg-type]
    assert error == 0.0
    assert told_beside("leader", "leader", calls) == (Latency(2.0, 2.4, pytest.approx(0.5), 15, 750), 0.0)  # type: ignore[arg-type]
    assert told_beside("elsewhere", "leader", calls) is None


def test_of_three_passes_a_good_turn_of_one_and_a_bad_one_of_the_other_do_not_decide() -> None:
    """The slowest of nine is alone in having a quiet turn in the first pass, the fastest in having a busy one in the last."""
    calls = {f"c{i}": {0: [1.9 * 1.06**i], 1: [1.06**i], 2: [1.06**i]} for i in range(9)}
    calls["c8"][0] = [1.06**8]
    calls["c0"] = {0: [1.9], 1: [1.0], 2: [1.9], 3: [1.0], 4: [1.0]}
    told = told_beside("c8", "c0", calls)
    assert told is not None
    assert told[0].median_ms > 1.3
    lag = lag_of({at: turn[0] for at, turn in calls["c8"].items()}, {at: turn[0] for at, turn in calls["c0"].items()})
    assert lag is not None
    assert lag.share < 0


def test_one_alone_is_told_by_its_median() -> None:
    assert levelled_ms({"only": {1: 3.0, 2: 1.0, 3: 2.0}}) == {"only": pytest.approx(2.0)}


def test_the_faster_one_is_found_on_a_machine_of_two_moments_where_medians_are_wrong() -> None:
    """Moments last ten turns or so and slow both to 1.9 times; one candidate takes 7 % longer than the other."""
    noise = random.Random(1)
    wrong = {"medians": 0, "side by side": 0}
    for _ in range(200):
        fast, slow, is_busy = {}, {}, False
        for at in range(30):
            for turns, ms in ((fast, 1.0), (slow, 1.07)):
                is_busy ^= noise.random() < 0.1
                turns[at] = ms * (1.9 if is_busy else 1.0) * noise.gauss(1, 0.03)
        wrong["medians"] += median(fast.values()) > median(slow.values())
        ms = levelled_ms({"fast": fast, "slow": slow})
        wrong["side by side"] += ms["fast"] > ms["slow"]
    assert wrong["side by side"] < wrong["medians"] / 4
