"""Label Studio: tasks out, annotations in, and what is wrong with a file says where."""

from __future__ import annotations

import json

import pytest

from cloud_gateway.automation.label_studio import ImportedAnswer, export_lines, import_lines
from runtime.errors import InvalidInputError
from tests.cloud_gateway.automation.conftest import House


def test_a_task_has_what_a_person_needs_and_a_blind_one_no_prediction(house: House) -> None:
    house.put("r1")
    house.put("r2", is_blind=False)
    tasks = {
        task["data"]["request_id"]: task for task in map(json.loads, export_lines(house.queue.items()).splitlines())
    }
    assert tasks["r1"]["data"]["input"] == "image"
    assert "predictions" not in tasks["r1"]
    (prediction,) = tasks["r2"]["predictions"]
    assert prediction["score"] == 0.97
    assert prediction["result"][0]["value"] == {"choices": ["7"]}


@pytest.mark.parametrize("is_list", [True, False])
def test_annotations_come_back_in_either_form(is_list: bool) -> None:
    annotation = {"completed_by": {"email": "ann@x"}, "result": [{"value": {"choices": ["7"]}}]}
    cancelled = {"was_cancelled": True, "result": []}
    tasks = [{"data": {"review_id": "a"}, "annotations": [annotation, cancelled]}, {"data": {"review_id": "b"}}]
    given = json.dumps(tasks) if is_list else "\n".join(map(json.dumps, tasks))
    assert import_lines(given) == [ImportedAnswer("a", 7, "label-studio:ann@x")]


@pytest.mark.parametrize(
    ("chosen", "answer"),
    [("7", 7), ("-3", -3), ("007", "007"), ("-0", "-0"), ("1.0", "1.0"), ("cat", "cat"), ("--1", "--1"), ("٣", "٣")],
)
def test_a_choice_is_a_number_only_where_the_number_is_written_that_way(chosen: str, answer: int | str) -> None:
    annotation = {"result": [{"value": {"choices": [chosen]}}]}
    (found,) = import_lines(json.dumps({"data": {"review_id": "a"}, "annotations": [annotation]}))
    assert (found.answer, type(found.answer)) == (answer, type(answer))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("{", "neither JSON lines"),
        ("[1]", "task 1 is 1"),
        ('{"data": {}}', "no data.review_id"),
        ('{"data": {"review_id": "a"}, "annotations": [{"result": []}]}', "without choices"),
    ],
)
def test_what_is_wrong_says_where(given: str, said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        import_lines(given)
