"""Steps between levels: up by one on proof, down at once on each of the reasons, and why."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cloud_gateway.automation.levels import Facts, Level, decide
from cloud_gateway.automation.settings import AutomationSettings

RULES = AutomationSettings(model="digits", audit_lapse_s=100.0, calibration_age_s=1000.0)
NOW = 10_000.0
FINE = Facts(
    is_proven=True, is_harmful=False, is_risky=False, threshold=0.9, needed=0, calibrated_at=NOW, audited_at=NOW
)


@pytest.mark.parametrize(
    ("level", "next_level"), [(Level.SHADOW, Level.ASSIST), (Level.ASSIST, Level.PARTIAL), (Level.PARTIAL, Level.FULL)]
)
def test_proof_leads_one_level_up(level: Level, next_level: Level) -> None:
    assert decide(level, FINE, RULES, NOW).level is next_level


@pytest.mark.parametrize("level", [Level.SHADOW, Level.ASSIST, Level.PARTIAL])
def test_without_proof_it_stays_and_says_what_is_missing(level: Level) -> None:
    step = decide(level, replace(FINE, is_proven=False, needed=321), RULES, NOW)
    assert step.level is level
    assert "about 321 blind answers more" in step.reason


def test_from_human_only_a_person_lets_it_go_on() -> None:
    assert decide(Level.HUMAN_ONLY, FINE, RULES, NOW).level is Level.HUMAN_ONLY


def test_it_goes_no_higher_than_allowed() -> None:
    rules = RULES.model_copy(update={"highest_level": Level.ASSIST})
    assert decide(Level.ASSIST, FINE, rules, NOW).level is Level.ASSIST


def test_partial_needs_a_proven_confidence() -> None:
    step = decide(Level.ASSIST, replace(FINE, threshold=None), RULES, NOW)
    assert step.level is Level.ASSIST
    assert "at no confidence" in step.reason


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"is_harmful": True}, "worse than people"),
        ({"is_risky": True}, "wrong more often than wished"),
        ({"drift": "PSI 0.4 of pixel 7"}, "PSI 0.4"),
        ({"calibrated_at": NOW - 1001}, "confidence was last checked"),
        ({"calibrated_at": None}, "checked never"),
        ({"audited_at": NOW - 101}, "last audit"),
    ],
)
@pytest.mark.parametrize("level", [Level.PARTIAL, Level.FULL])
def test_each_reason_leads_down_to_where_people_decide(level: Level, change: dict[str, object], said: str) -> None:
    step = decide(level, replace(FINE, **change), RULES, NOW)  # type: ignore[arg-type]
    assert step.level is Level.ASSIST
    assert said in step.reason


def test_a_harmful_suggestion_is_not_shown_any_more() -> None:
    assert decide(Level.ASSIST, replace(FINE, is_harmful=True), RULES, NOW).level is Level.SHADOW


@pytest.mark.parametrize("level", [Level.SHADOW, Level.ASSIST])
def test_what_concerns_only_its_own_answers_leaves_lower_levels_alone(level: Level) -> None:
    facts = replace(FINE, is_proven=False, drift="some", calibrated_at=None, audited_at=None)
    assert decide(level, facts, RULES, NOW).level is level


@pytest.mark.parametrize(("level", "expected"), [(Level.SHADOW, Level.ASSIST), (Level.ASSIST, Level.ASSIST)])
def test_while_rows_drift_no_proof_lets_the_model_answer_by_itself(level: Level, expected: Level) -> None:
    assert decide(level, replace(FINE, drift="PSI 0.4"), RULES, NOW).level is expected


def test_a_clock_that_was_set_back_is_no_reason() -> None:
    assert decide(Level.FULL, FINE, RULES, NOW - 1e6).level is Level.FULL
