"""When a request gets its turn where several batches run at once, and how batches that run beside each other are judged."""

from __future__ import annotations

import heapq

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.batching.contention import MAX_FACTOR, Contention
from runtime.batching.wait import starts_in_s


def dealt_out(busy_s: list[float], slots: int, full: int, full_s: float, rest_s: float) -> float:
    """The oracle: every batch, one by one, in the slot that is free first."""
    free = [max(each, 0.0) for each in busy_s] + [0.0] * (slots - len(busy_s))
    heapq.heapify(free)
    for cost_s in [full_s] * full + [rest_s] * (rest_s > 0):
        heapq.heapreplace(free, free[0] + cost_s)
    return free[0]


# Eighths of a second add up exactly, so that the oracle's order of adding does not matter.
seconds = st.integers(-8, 80).map(lambda eighths: eighths / 8)


@given(
    busy_s=st.lists(seconds, max_size=5),
    more_slots=st.integers(0, 4),
    full=st.integers(0, 60),
    full_s=st.integers(1, 40).map(lambda eighths: eighths / 8),
    rest_s=st.integers(0, 40).map(lambda eighths: eighths / 8),
)
def test_it_is_what_dealing_the_batches_out_one_by_one_gives(
    busy_s: list[float], more_slots: int, full: int, full_s: float, rest_s: float
) -> None:
    slots = max(len(busy_s) + more_slots, 1)
    told = starts_in_s(busy_s, slots, full, full_s, rest_s)
    assert told == pytest.approx(dealt_out(busy_s, slots, full, full_s, rest_s), abs=1e-9)


def test_one_slot_is_the_sum_of_what_is_before() -> None:
    assert starts_in_s([0.5], 1, 3, 2.0, 0.25) == 0.5 + 3 * 2.0 + 0.25
    assert starts_in_s([], 1, 0, 0.0, 0.0) == 0.0


def test_a_free_slot_is_taken_at_once() -> None:
    assert starts_in_s([9.0], 2, 0, 0.0, 0.0) == 0.0
    assert starts_in_s([9.0, 4.0], 2, 0, 0.0, 0.0) == 4.0


def test_a_queue_of_thousands_costs_no_more_than_a_short_one() -> None:
    assert starts_in_s([1.0, 2.0], 2, 1_000_000, 1.0, 0.0) == 500_001.0


def test_what_running_beside_others_costs_is_learnt_for_each_number_of_them() -> None:
    learnt = Contention()
    assert learnt.factor(2) == 1.0
    learnt.learn(2, took_s=0.3, cost_s=0.1)
    assert (learnt.factor(1), learnt.factor(2), learnt.factor(3)) == (1.0, pytest.approx(1.2), 1.0)
    for _ in range(100):
        learnt.learn(2, took_s=0.2, cost_s=0.1)
    assert learnt.factor(2) == pytest.approx(2.0, abs=0.01)


def test_one_alone_faster_than_measured_or_absurdly_slow_teaches_nothing_wrong() -> None:
    learnt = Contention()
    learnt.learn(1, took_s=9.0, cost_s=0.1)
    assert learnt.factor(1) == 1.0
    learnt.learn(2, took_s=0.01, cost_s=0.1)
    assert learnt.factor(2) == 1.0
    learnt.learn(3, took_s=1e6, cost_s=0.1)
    assert learnt.factor(3) == pytest.approx(1 + (MAX_FACTOR - 1) / 10), "one bad moment"
    for _ in range(500):
        learnt.learn(1, took_s=0.1, cost_s=0.1)
    assert learnt.factor(3) == pytest.approx(1.0, abs=0.02), "batches that are kept apart for it unlearn it"
