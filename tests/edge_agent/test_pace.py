"""How long an arm takes, lately: answers, silences, pauses, and when it is worth another look."""

import math

import pytest

from edge_agent.pace import HEALED_RUN, MIN_ANSWERS, Pace, Paces


def paced(way_s: float, work_s: float, count: int, now: float = 100.0) -> Pace:
    pace = Pace()
    for _ in range(count):
        pace.note_asked(now)
        pace.note_answer(way_s, work_s, now)
    return pace


def test_it_predicts_way_and_work_together_once_it_has_seen_enough() -> None:
    assert paced(0.02, 0.03, MIN_ANSWERS - 1).read(100.0).predicted_s is None
    pace = paced(0.02, 0.03, MIN_ANSWERS)
    assert pace.read(100.0).predicted_s == pytest.approx(0.05)
    assert pace.read(100.0).typical_s == pytest.approx(0.05)
    assert pace.describe(100.0)["network_p95_ms"] == pytest.approx(20)
    assert pace.describe(100.0)["service_p50_ms"] == pytest.approx(30)
    assert pace.read(200.0).predicted_s is None, "old answers say nothing of the link now"


def test_the_tail_and_the_middle_differ() -> None:
    pace = paced(0.01, 0.0, 18)
    for _ in range(2):
        pace.note_answer(1.0, 0.0, 100.0)
    assert pace.read(100.0).typical_s == pytest.approx(0.01)
    assert pace.read(100.0).predicted_s == pytest.approx(1.0)


def test_a_silence_counts_as_twice_what_was_waited() -> None:
    pace = Pace()
    for _ in range(MIN_ANSWERS):
        pace.note_silence(0.2, 100.0)
    assert pace.read(100.0).typical_s == pytest.approx(0.4)


def silenced() -> Pace:
    pace = paced(0.05, 0.0, 20)
    for _ in range(30):
        pace.note_asked(100.0)
        pace.note_silence(0.3, 100.0)
    return pace


def test_after_a_pause_one_request_tries_and_fast_answers_in_a_row_end_the_trouble() -> None:
    pace = silenced()
    assert pace.read(100.0).typical_s == pytest.approx(0.6)
    assert pace.read(100.5).unasked_s == pytest.approx(0.5)
    later = 102.0
    pace.note_asked(later)
    assert pace.read(later).unasked_s == 0.0, "one trial, not one for every request"
    for _ in range(HEALED_RUN):
        pace.note_answer(0.05, 0.0, later + 0.05)
        assert pace.read(later + 0.05).unasked_s == math.inf, "it was well served, so the next one may go there"
    assert pace.read(later + 0.05).predicted_s == pytest.approx(0.05)


def test_a_silence_between_fast_answers_says_that_it_is_not_over() -> None:
    pace = silenced()
    for _ in range(HEALED_RUN - 1):
        pace.note_answer(0.05, 0.0, 101.0)
    pace.note_asked(101.0)
    pace.note_silence(0.3, 101.0)
    assert pace.read(101.0).unasked_s == 0.0
    pace.note_answer(0.05, 0.0, 101.0)
    assert pace.read(101.0).typical_s == pytest.approx(0.6)


def test_two_silences_in_a_row_outweigh_everything_before_them_until_an_answer() -> None:
    pace = paced(0.05, 0.0, 100)
    pace.note_silence(0.2, 100.0)
    assert pace.read(100.0).predicted_s == pytest.approx(0.05), "one may be bad luck"
    pace.note_silence(0.2, 100.0)
    assert pace.read(100.0).typical_s == pytest.approx(0.4)
    pace.note_answer(0.05, 0.0, 100.0)
    assert pace.read(100.0).typical_s == pytest.approx(0.05)


def test_models_are_apart_and_their_number_is_bounded() -> None:
    paces = Paces()
    paces.of("a").note_answer(1.0, 0.0, 0.0)
    assert paces.of("b").count(0.0) == 0
    for number in range(Paces.LIMIT + 10):
        paces.of(f"made-up-{number}")
    assert len(paces.items()) == Paces.LIMIT
    assert paces.of("a").count(0.0) == 0, "the one that was not used for longest went first"
