"""The batch decision, case by case and by property."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.batching.cut import BatchPolicy, Waiting, cut


@dataclass
class Request:
    key: str
    rows: int
    arrived: float
    deadline: float | None


def waiting(rows: int = 1, key: str = "a", arrived: float = 0.0, deadline: float | None = None) -> Waiting:
    return Request(key, rows, arrived, deadline)


def ten_ms(rows: int) -> float:
    return 0.010


def test_an_empty_queue_decides_nothing() -> None:
    assert cut([], 0.0, BatchPolicy(8), ten_ms).take == ()


def test_without_a_delay_everything_that_waits_goes_at_once() -> None:
    decision = cut([waiting(), waiting(), waiting()], 0.0, BatchPolicy(max_rows=8), ten_ms)
    assert decision.take == (0, 1, 2)
    assert decision.reason == "no delay is asked for"


def test_rows_are_counted_not_requests() -> None:
    decision = cut([waiting(3), waiting(3), waiting(3)], 0.0, BatchPolicy(max_rows=6), ten_ms)
    assert decision.take == (0, 1)


def test_a_request_larger_than_the_batch_runs_alone() -> None:
    assert cut([waiting(20), waiting(1)], 0.0, BatchPolicy(max_rows=8), ten_ms).take == (0,)


def test_keys_never_mix_and_the_head_decides() -> None:
    queue = [waiting(key="a"), waiting(key="b"), waiting(key="a")]
    assert cut(queue, 0.0, BatchPolicy(max_rows=8), ten_ms).take == (0, 2)


def test_a_later_request_of_the_same_key_does_not_overtake_one_that_did_not_fit() -> None:
    assert cut([waiting(4), waiting(5), waiting(1)], 0.0, BatchPolicy(max_rows=8), ten_ms).take == (0,)


def test_with_a_delay_the_batch_waits_until_the_oldest_has_waited_long_enough() -> None:
    policy = BatchPolicy(max_rows=8, max_delay_s=0.005)
    early = cut([waiting(arrived=1.0)], 1.001, policy, ten_ms)
    assert early.take == ()
    assert early.wait_until == pytest.approx(1.005)
    assert cut([waiting(arrived=1.0)], 1.005, policy, ten_ms).take == (0,)


def test_a_preferred_size_does_not_wait() -> None:
    policy = BatchPolicy(max_rows=8, max_delay_s=1.0, preferred_rows=(4,))
    assert cut([waiting(2), waiting(2)], 0.0, policy, ten_ms).take == (0, 1)
    assert cut([waiting(2), waiting(1)], 0.0, policy, ten_ms).take == ()


def test_a_deadline_shortens_the_delay() -> None:
    policy = BatchPolicy(max_rows=8, max_delay_s=1.0)
    decision = cut([waiting(deadline=0.1)], 0.0, policy, ten_ms)
    assert decision.wait_until == pytest.approx(0.08)
    assert cut([waiting(deadline=0.1)], 0.08, policy, ten_ms).take == (0,)


def test_the_nearest_deadline_shortens_the_delay_wherever_it_stands() -> None:
    policy = BatchPolicy(max_rows=8, max_delay_s=1.0)
    for deadlines in ((0.1, 0.5), (0.5, 0.1)):
        decision = cut([waiting(deadline=deadline) for deadline in deadlines], 0.0, policy, ten_ms)
        assert decision.wait_until == pytest.approx(0.08)


def test_a_request_that_cannot_end_in_time_leaves_before_it_costs_anything() -> None:
    queue = [waiting(deadline=0.005), waiting()]
    decision = cut(queue, 0.0, BatchPolicy(max_rows=8), ten_ms)
    assert decision.expired == (0,)
    assert decision.take == (1,)


queues = st.lists(
    st.builds(
        Request,
        key=st.sampled_from("abc"),
        rows=st.integers(0, 9),
        arrived=st.floats(0, 1),
        deadline=st.none() | st.floats(0, 2),
    ),
    max_size=30,
)
policies = st.builds(
    BatchPolicy,
    max_rows=st.integers(1, 12),
    max_delay_s=st.sampled_from([0.0, 0.5, 5.0]),
    preferred_rows=st.just((4, 8)),
)


@given(queue=queues, policy=policies, now=st.floats(1, 2))
def test_every_decision_is_safe(queue: list[Waiting], policy: BatchPolicy, now: float) -> None:
    decision = cut(queue, now, policy, ten_ms)
    taken = [queue[i] for i in decision.take]
    assert set(decision.take).isdisjoint(decision.expired)
    assert len({request.key for request in taken}) <= 1
    assert sum(request.rows for request in taken) <= policy.max_rows or len(taken) == 1
    assert all(request.deadline is None or request.deadline >= now + 0.010 for request in taken)
    assert all(queue[i].deadline is not None and queue[i].deadline < now + 0.010 for i in decision.expired)
    left = [i for i in range(len(queue)) if i not in decision.expired]
    if left and not taken:
        assert decision.wait_until is not None, "somebody waits and nobody would ever ask again"
    if taken:
        assert decision.take[0] == left[0], "the oldest request that can still be answered is served first"


@given(queue=queues, policy=policies)
def test_asking_again_when_told_to_makes_progress(queue: list[Waiting], policy: BatchPolicy) -> None:
    now = 1.0
    served = 0
    while queue:
        decision = cut(queue, now, policy, ten_ms)
        gone = {*decision.take, *decision.expired}
        if gone:
            queue = [request for i, request in enumerate(queue) if i not in gone]
            served += 1
            continue
        assert decision.wait_until is not None
        assert decision.wait_until >= now or decision.wait_until == pytest.approx(now)
        now = max(decision.wait_until, now) + 1e-9
        assert served <= 100
