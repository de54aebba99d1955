"""How many turns a batch waits: as many as it takes until those who came lately are there."""

from __future__ import annotations

import pytest

from runtime.batching.patience import LOOK_EVERY, MOST_TURNS, REMEMBERED, Patience


def gather(patience: Patience, arriving: list[int]) -> tuple[int, int]:
    """Requests and turns of one gathering, to which so many come in each turn."""
    waiting, turns = arriving[0], 0
    while not patience.is_enough(waiting, turns):
        turns += 1
        waiting += arriving[turns] if turns < len(arriving) else 0
    patience.learn(waiting)
    return waiting, turns


def test_one_client_waits_once_and_then_never_but_for_a_look() -> None:
    patience = Patience()
    assert gather(patience, [1]) == (1, MOST_TURNS)
    waited = [gather(patience, [1])[1] for _ in range(2 * LOOK_EVERY)]
    assert waited.count(MOST_TURNS) == 2
    assert waited.count(0) == len(waited) - 2


def test_clients_that_come_one_a_turn_are_waited_for_until_the_last_is_there() -> None:
    patience = Patience()
    assert gather(patience, [1] * 8) == (8, 7 + MOST_TURNS)
    assert gather(patience, [1] * 8) == (8, 7)


def test_turns_count_from_the_last_newcomer() -> None:
    slow = ([1] + [0] * (MOST_TURNS - 1)) * 4
    patience = Patience()
    assert gather(patience, slow) == (4, 4 * MOST_TURNS)
    assert gather(patience, slow) == (4, 3 * MOST_TURNS)


@pytest.mark.parametrize("few", [1, 7])
def test_one_gathering_that_ended_early_makes_no_later_one_small(few: int) -> None:
    patience = Patience()
    gather(patience, [1] * 8)
    assert gather(patience, [1] * few)[0] == few
    assert gather(patience, [1] * 8) == (8, 7)


def test_one_that_stays_away_is_waited_for_until_it_is_forgotten() -> None:
    patience = Patience()
    gather(patience, [1] * 8)
    for _ in range(REMEMBERED):
        assert gather(patience, [1] * 7) == (7, 6 + MOST_TURNS)
    assert gather(patience, [1] * 7) == (7, 6)


def test_more_of_them_are_found_at_the_next_look() -> None:
    patience = Patience()
    gather(patience, [1])
    found = [gather(patience, [1, 1])[0] for _ in range(LOOK_EVERY + 1)]
    assert found[0] == 1
    assert found[-1] == 2


def test_a_gathering_that_was_broken_off_shortens_no_later_one() -> None:
    patience = Patience()
    for turn in range(MOST_TURNS - 1):
        assert not patience.is_enough(5, turn)
    assert gather(patience, [1, 1]) == (2, 1 + MOST_TURNS), "nobody knows yet how many come"
