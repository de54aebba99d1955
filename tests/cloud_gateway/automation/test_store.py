"""Items, answers, labels and levels in a real database: idempotent, bounded, written together, and there after a restart."""

from __future__ import annotations

import json
import threading

import pytest
from sqlalchemy import text

from cloud_gateway.automation.labels import Labels, Taken
from cloud_gateway.automation.levels import Level
from cloud_gateway.automation.queue import ReviewQueue, Why
from cloud_gateway.automation.store import KEEP_S, AutomationStore, DecidedBy
from runtime.errors import ConflictError, InvalidInputError, ModelNotFoundError, OverloadedError, StorageError
from runtime.store import open_database, sqlite_url, writing
from tests.cloud_gateway.automation.conftest import SETTINGS, House


def test_an_item_is_answered_once_and_the_same_again_changes_nothing(house: House) -> None:
    item = house.put("r1")
    assert [one.id for one in house.queue.items()] == [item]
    answered, step = house.queue.answer(item, 7, "ann")
    assert answered.answer == 7
    assert step is None
    assert house.queue.answer(item, 7, "ann")[0] == answered
    assert house.queue.items() == []
    assert [one.id for one in house.queue.items(only_open=False)] == [item]


def test_another_answer_by_the_same_person_or_one_too_many_is_refused(house: House) -> None:
    item = house.put("r1")
    house.queue.answer(item, 7, "ann")
    with pytest.raises(ConflictError, match="answered item .* with 7 already"):
        house.queue.answer(item, 8, "ann")
    with pytest.raises(ConflictError, match="has its 1 answer"):
        house.queue.answer(item, 8, "bob")


@pytest.mark.parametrize(("answer", "reviewer"), [({"a": 1}, "ann"), ([1, 2], "ann"), (1, ""), (1, "x" * 200)])
def test_what_is_no_answer_is_refused_and_the_item_stays_open(house: House, answer: object, reviewer: str) -> None:
    item = house.put("r1")
    with pytest.raises(InvalidInputError):
        house.queue.answer(item, answer, reviewer)
    assert house.queue.item(item).is_open


def test_an_unknown_item_is_named(house: House) -> None:
    with pytest.raises(ModelNotFoundError, match="no review item 'nothing'"):
        house.queue.answer("nothing", 1, "ann")


def test_a_blind_item_hides_the_suggestion_and_the_first_answer(house: House) -> None:
    blind, shown = house.put("r1", wants=2), house.put("r2", is_blind=False, level=Level.ASSIST)
    assert house.queue.item(blind).suggestion is None
    assert house.queue.item(blind).confidence is None
    assert house.queue.item(shown).suggestion == 7
    house.queue.answer(blind, 3, "ann")
    assert house.queue.item(blind).answer is None
    assert blind not in [one.id for one in house.queue.items(reviewer="ann")]
    assert blind in [one.id for one in house.queue.items(reviewer="bob")]
    house.queue.answer(blind, 3, "bob")
    assert house.queue.item(blind).answer == 3


def test_the_same_request_again_has_the_same_item(house: House) -> None:
    assert house.put("r1") == house.put("r1")


def test_a_full_queue_refuses_more_and_says_what_to_do(house: House) -> None:
    for at in range(SETTINGS.most_open_items):
        house.put(f"r{at}")
    with pytest.raises(OverloadedError, match="edgeward review list"):
        house.put("one more")


def test_overrides_are_counted_where_the_suggestion_was_shown(house: House) -> None:
    for at in range(4):
        house.queue.answer(house.put(f"r{at}", is_blind=False, level=Level.ASSIST), 7 if at else 1, "ann")
    told = house.store.standing("digits", "").describe(house.clock.now)
    assert told["suggestions_shown"] == 4
    assert told["override_rate"] == 0.25
    assert told["compared_with_people"] == 0, "a shown suggestion sways"


def test_items_that_were_chosen_by_low_confidence_are_no_evidence(house: House) -> None:
    for at in range(3):
        item = house.put(f"r{at}", why=Why.LOW_CONFIDENCE, wants=2)
        house.queue.answer(item, 7, "ann")
        house.queue.answer(item, 7, "bob")
        house.labels.take("digits", f"r{at}", 7)
    assert house.store.standing("digits", "").describe(house.clock.now)["compared_with_people"] == 0


def test_answers_move_the_level_and_the_log_says_why(house: House) -> None:
    step = None
    for at in range(400):
        item = house.put(f"r{at}", wants=2)
        house.queue.answer(item, 7, "ann")
        _, step = house.queue.answer(item, 7, "bob")
        if step is not None:
            break
    assert step is not None
    assert step.level is Level.ASSIST
    line = house.store.history()[0]
    assert line["event"] == "moved"
    assert line["document"]["from"] == "shadow"
    assert line["document"]["to"] == "assist"
    assert line["document"]["evidence"]["e_proven"] >= 20


def test_the_log_is_append_only(house: House) -> None:
    house.store.move("digits", "", Level.ASSIST, "try", "ann")
    for change in ("update automation_log set event = 'x'", "delete from automation_log"):
        with pytest.raises(StorageError, match="append-only"), writing(house.store.engine) as connection:
            connection.execute(text(change))
    assert [line["event"] for line in house.store.history()] == ["moved_by_hand"]


def test_a_level_above_the_highest_is_refused(house: House) -> None:
    house.store.settings["digits"] = SETTINGS.model_copy(update={"highest_level": Level.ASSIST})
    with pytest.raises(ConflictError, match="above highest_level assist"):
        house.store.move("digits", "", Level.FULL, "", "ann")


def test_time_alone_ends_a_level_without_audits(house: House) -> None:
    house.store.move("digits", "", Level.FULL, "by hand", "ann")
    assert house.store.review_levels() == []
    house.clock.now += SETTINGS.audit_lapse_s + 1
    ((model, segment, step),) = house.store.review_levels()
    assert (model, segment, step.level) == ("digits", "", Level.ASSIST)
    assert "last audit" in step.reason


def test_audits_lapse_of_a_model_that_began_by_answering_itself(house: House) -> None:
    house.store.settings["digits"] = SETTINGS.model_copy(update={"start_level": Level.FULL})
    for _ in range(3):
        assert house.store.standing("digits", "night").level is Level.FULL
        house.clock.now += SETTINGS.audit_lapse_s / 2
    ((_, segment, step),) = house.store.review_levels()
    assert (segment, step.level) == ("night", Level.ASSIST)
    assert house.store.standing("digits", "night").level is Level.ASSIST


def test_a_full_disk_keeps_no_standing_from_being_read(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.store.settings["digits"] = SETTINGS.model_copy(update={"start_level": Level.FULL})

    def full(*_: object) -> None:
        raise StorageError("disk full")

    monkeypatch.setattr("cloud_gateway.automation.store.writing", full)
    assert house.store.standing("digits", "").level is Level.FULL


def test_drift_leads_down_and_is_remembered(house: House) -> None:
    house.store.move("digits", "", Level.PARTIAL, "by hand", "ann")
    step = house.store.note_drift("digits", "", "PSI 0.4")
    assert step is not None
    assert step.level is Level.ASSIST
    assert house.store.standing("digits", "").drift == "PSI 0.4"
    assert house.store.note_drift("digits", "", "") is None


def test_segments_stand_apart(house: House) -> None:
    house.store.move("digits", "night", Level.ASSIST, "", "ann")
    assert house.store.standing("digits", "").level is Level.SHADOW
    assert house.store.standing("digits", "night").level is Level.ASSIST


def test_a_model_without_settings_is_named(house: House) -> None:
    with pytest.raises(ModelNotFoundError, match="those that have: digits"):
        house.store.move("mnist", "", Level.ASSIST, "", "ann")


def test_labels_come_late_twice_or_never_match(house: House) -> None:
    house.put("r1")
    house.clock.now += 86_400
    assert house.labels.take("digits", "r1", 7).taken is Taken.ACCEPTED
    assert house.labels.take("digits", "r1", 7).taken is Taken.KNOWN
    again = house.labels.take("digits", "r1", 8)
    assert again.taken is Taken.REFUSED
    assert "the first one stands" in again.reason
    unknown = house.labels.take("digits", "r2", 7)
    assert unknown.taken is Taken.REFUSED
    assert "never served here" in unknown.reason
    assert house.labels.take("mnist", "r1", 7).taken is Taken.REFUSED
    odd = house.labels.take("digits", "r1", [1, 2])
    assert odd.taken is Taken.REFUSED
    assert "has 1 rows" in odd.reason


def test_a_label_counts_once(house: House) -> None:
    item = house.put("r1")
    house.queue.answer(item, 7, "ann")
    before = house.store.standing("digits", "").describe(0.0)["compared_with_people"]
    for _ in range(3):
        house.labels.take("digits", "r1", 7)
    assert house.store.standing("digits", "").describe(0.0)["compared_with_people"] == before + 1


@pytest.mark.parametrize(
    ("model", "request_id", "label", "source"),
    [("digits\0", "r1", 7, ""), ("digits", "r\ud800", 7, ""), ("digits", "r1", "7\0", ""), ("digits", "r1", 7, "\0")],
)
def test_a_label_with_a_text_that_no_database_keeps_is_refused_alone(
    house: House, model: str, request_id: str, label: object, source: str
) -> None:
    house.put("r1")
    outcome = house.labels.take(model, request_id, label, source)
    assert (outcome.taken, "which no database keeps" in outcome.reason) == (Taken.REFUSED, True)
    json.dumps(outcome.to_dict(), ensure_ascii=False).encode()
    assert house.labels.take("digits", "r1", 7).taken is Taken.ACCEPTED


def test_labels_of_rows_complete_each_other(house: House) -> None:
    from cloud_gateway.automation.answers import Suggestion
    from cloud_gateway.automation.store import Served

    house.store.record([Served("digits", "r1", "1", "", 2, Suggestion([1, 2], 0.9), DecidedBy.MODEL)])
    assert house.labels.take("digits", "r1", [1, None]).taken is Taken.ACCEPTED
    assert house.labels.take("digits", "r1", [1, None]).taken is Taken.KNOWN
    assert house.labels.take("digits", "r1", [None, 3]).taken is Taken.COMPLETED
    assert house.labels.take("digits", "r1", [2, 3]).taken is Taken.REFUSED


def test_old_requests_are_forgotten_but_not_those_a_person_has(house: House) -> None:
    from cloud_gateway.automation.answers import Suggestion
    from cloud_gateway.automation.store import Served

    house.store.record([Served("digits", "old", "1", "", 1, Suggestion(1, 0.9), DecidedBy.MODEL)])
    house.put("waiting")
    house.clock.now += KEEP_S + 1
    assert house.store.forget() == 1
    assert house.labels.take("digits", "old", 1).taken is Taken.REFUSED
    assert house.labels.take("digits", "waiting", 1).taken is Taken.ACCEPTED


def test_everything_is_there_after_a_restart(house: House) -> None:
    item = house.put("r1")
    house.store.move("digits", "", Level.ASSIST, "try", "ann")
    house.store.engine.dispose()
    store = AutomationStore(open_database(sqlite_url(house.file)), [SETTINGS], house.clock)
    assert store.standing("digits", "").level is Level.ASSIST
    assert ReviewQueue(store).item(item).request_id == "r1"
    assert Labels(store).take("digits", "r1", 7).taken is Taken.ACCEPTED
    store.engine.dispose()


def test_people_who_answer_at_once_are_counted_once_each(house: House) -> None:
    item = house.put("r1")
    outcomes: list[str] = []

    def answer(name: str) -> None:
        try:
            house.queue.answer(item, 7, name)
            outcomes.append("taken")
        except ConflictError:
            outcomes.append("refused")

    threads = [threading.Thread(target=answer, args=(f"person {at}",)) for at in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(outcomes) == ["refused"] * 5 + ["taken"]
