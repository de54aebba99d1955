"""How long an arm takes, lately: answers, silences, pauses, and when it is worth another look."""

import pytest

from edge_agent.pace import MIN_ANSWERS, TRIAL_EVERY_S, Pace, Paces


def paced(way_s: float, work_s: float, count: int, now: float = 100.0) -> Pace:
    pace = Pace()
    for _ in range(count):
        pace.note_asked(now)
        pace.note_answer(way_s, work_s, now)
    return pace


def test_it_predicts_way_and_work_together_once_it_has_seen_enough() -> None:
    assert paced(0.02, 0.03, MIN_ANSWERS - 1).predicted_s(100.0) is None
    pace = paced(0.02, 0.03, MIN_ANSWERS)
    assert pace.predicted_s(100.0) == pytest.approx(0.05)
    assert pace.typical_s(100.0) == pytest.approx(0.05)
    assert pace.describe(100.0)["network_p95_ms"] == pytest.approx(20)
    assert pace.describe(100.0)["service_p50_ms"] == pytest.approx(30)
    assert pace.predicted_s(200.0) is None, "old answers say nothing of the link now"


def test_the_tail_and_the_middle_differ() -> None:
    pace = paced(0.01, 0.0, 18)
    for _ in range(2):
        pace.note_answer(1.0, 0.0, 100.0)
    assert pace.typical_s(100.0) == pytest.approx(0.01)
    assert pace.predicted_s(100.0) == pytest.approx(1.0)


def test_a_silence_counts_as_twice_what_was_waited() -> None:
    pace = Pace()
    for _ in range(MIN_ANSWERS):
        pace.note_silence(0.2, 100.0)
    assert pace.typical_s(100.0) == pytest.approx(0.4)


def test_a_fast_answer_after_a_pause_ends_what_was_remembered() -> None:
    pace = paced(1.0, 0.0, 20)
    assert not pace.is_trial_due(100.0 + TRIAL_EVERY_S / 2)
    later = 100.0 + TRIAL_EVERY_S
    assert pace.is_trial_due(later)
    pace.note_asked(later)
    assert not pace.is_trial_due(later), "one trial, not one for every request"
    pace.note_answer(0.05, 0.0, later + 0.05)
    assert pace.predicted_s(later + 0.05) is None
    assert pace.count(later + 0.05) == 1


def test_without_a_pause_one_fast_answer_changes_little() -> None:
    pace = paced(1.0, 0.0, 20)
    pace.note_asked(100.1)
    pace.note_answer(0.05, 0.0, 100.1)
    assert pace.predicted_s(100.1) == pytest.approx(1.0)


def test_models_are_apart_and_their_number_is_bounded() -> None:
    paces = Paces()
    paces.of("a").note_answer(1.0, 0.0, 0.0)
    assert paces.of("b").count(0.0) == 0
    for number in range(Paces.LIMIT + 10):
        paces.of(f"made-up-{number}")
    assert len(paces.items()) == Paces.LIMIT
    assert paces.of("a").count(0.0) == 0, "the one that was not used for longest went first"
