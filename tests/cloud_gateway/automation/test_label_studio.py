"""Label Studio: tasks out, annotations in, and what is wrong with a file says where."""

from __future__ import annotations

import copy
import json
from typing import Any
from xml.etree import ElementTree

import pytest

from cloud_gateway.automation.answers import Suggestion
from cloud_gateway.automation.choices import numbered
from cloud_gateway.automation.label_studio import (
    CHOICES_CONFIG,
    TEXT_CONFIG,
    ImportedAnswer,
    export_lines,
    import_lines,
)
from cloud_gateway.automation.levels import Level
from cloud_gateway.automation.queue import NewItem, Why
from cloud_gateway.automation.store import DecidedBy, Served
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
    assert (prediction["score"], prediction["model_version"]) == (0.97, "digits/1")
    assert prediction["result"][0]["value"] == {"text": ["7"]}


def test_a_class_is_suggested_by_its_name_among_the_choices_that_the_configuration_shows(house: House) -> None:
    house.put("r1", is_blind=False)
    names = [f"digit {number}" for number in range(10)]
    (task,) = map(json.loads, export_lines(house.queue.items(), lambda item: names).splitlines())
    (result,) = task["predictions"][0]["result"]
    assert result["value"] == {"choices": ["digit 7"]}
    assert task["data"]["choices"] == [{"value": name} for name in names]
    view = ElementTree.fromstring(CHOICES_CONFIG)
    control = view.find("Choices")
    assert control is not None
    assert (control.get("name"), control.get("toName")) == (result["from_name"], result["to_name"])
    assert result["type"] == control.tag.lower()
    # Whatever a tag shows of a task is in every task.
    shown = [
        tag.get("value", "")[1:]
        for configuration in (CHOICES_CONFIG, TEXT_CONFIG)
        for tag in ElementTree.fromstring(configuration)
    ]
    assert {name for name in shown if name} <= task["data"].keys()


def test_each_row_is_a_task_of_its_own_and_they_come_back_as_one_answer(house: House) -> None:
    served = Served("digits", "r1", "1", "", 3, Suggestion([7, 7, 1], 0.9), DecidedBy.HUMAN_PENDING)
    item = house.queue.put(served, NewItem(Level.ASSIST, Why.LEVEL, False, 1, "three images", ""))
    tasks = [json.loads(line) for line in export_lines(house.queue.items()).splitlines()]
    assert [task["predictions"][0]["result"][0]["value"]["text"] for task in tasks] == [["7"], ["7"], ["1"]]
    for task, said in zip(tasks, ("7", "3", "1"), strict=True):
        task["annotations"] = [{"completed_by": 5, "result": [{"value": {"choices": [said]}}]}]
    (whole,) = import_lines("\n".join(map(json.dumps, reversed(tasks))))
    assert whole == ImportedAnswer(item, ["7", "3", "1"], "label-studio:5")
    house.queue.answer(item, whole.answer, whole.reviewer)
    (partial,) = import_lines(json.dumps(tasks[:1] + tasks[2:]))
    assert partial.answer == ["7", None, "1"]
    tasks[0]["annotations"][0]["result"][0]["value"]["choices"] = ["7", "3"]
    with pytest.raises(InvalidInputError, match="task 1 is one row of 3, and has 2 answers"):
        import_lines(json.dumps(tasks))


# As the documentation has them: labelstud.io/guide/task_format and the samples of the tags, with one of our tasks' data.
DOCUMENTED = {
    "id": 1,
    "created_at": "2021-03-09T21:52:49.513742Z",
    "updated_at": "2021-03-09T22:16:08.746926Z",
    "project": 83,
    "data": {"input": "image", "review_id": "a"},
    "annotations": [
        {
            "id": "1001",
            "result": [
                {
                    "id": "zLSY-XLk64",
                    "type": "choices",
                    "value": {"choices": ["Positive"]},
                    "origin": "manual",
                    "to_name": "input",
                    "from_name": "answer",
                }
            ],
            "was_cancelled": False,
            "ground_truth": False,
            "created_at": "2021-03-09T22:16:08.728353Z",
            "updated_at": "2021-03-09T22:16:08.728378Z",
            "lead_time": 4.288,
            "result_count": 0,
            "task": 1,
            "completed_by": 10,
        }
    ],
    "predictions": [{"created_ago": "3 hours", "model_version": "model 1", "result": []}],
}
RECTANGLE = {
    "from_name": "tag",
    "id": "Dx_aB91ISN",
    "source": "$image",
    "to_name": "img",
    "type": "rectanglelabels",
    "value": {"height": 10.4, "rectanglelabels": ["Moonwalker"], "rotation": 0, "width": 12.4, "x": 50.8, "y": 5.8},
}


@pytest.mark.parametrize(
    ("kind", "value", "answer"),
    [
        ("choices", {"choices": ["Positive"]}, "Positive"),
        ("textarea", {"text": ["some words"]}, "some words"),
        ("rating", {"rating": 4}, 4),
        ("number", {"number": 3.5}, 3.5),
    ],
)
def test_tasks_as_label_studio_documents_them(kind: str, value: dict[str, Any], answer: object) -> None:
    task = copy.deepcopy(DOCUMENTED)
    task["annotations"][0]["result"][0] |= {"type": kind, "value": value}  # type: ignore[index]
    cancelled = {**task["annotations"][0], "was_cancelled": True, "result": []}  # type: ignore[index]
    other = {**task["annotations"][0], "completed_by": {"id": 3, "email": "bob@x", "first_name": "", "last_name": ""}}  # type: ignore[index]
    task["annotations"] += [cancelled, other]  # type: ignore[operator]
    expected = [ImportedAnswer("a", answer, f"label-studio:{by}") for by in ("10", "bob@x")]  # type: ignore[arg-type]
    assert import_lines(json.dumps([task], indent=2)) == expected
    assert import_lines(json.dumps(task) + "\n") == expected


def test_an_annotation_of_another_kind_is_said_and_not_guessed() -> None:
    task = copy.deepcopy(DOCUMENTED)
    task["annotations"][0]["result"] = [RECTANGLE]  # type: ignore[index]
    with pytest.raises(InvalidInputError, match="task 1 has an annotation without choices, text or number"):
        import_lines(json.dumps([task]))


@pytest.mark.parametrize("is_list", [True, False])
def test_annotations_come_back_in_either_form(is_list: bool) -> None:
    annotation = {"completed_by": {"email": "ann@x"}, "result": [{"value": {"choices": ["7"]}}]}
    cancelled = {"was_cancelled": True, "result": []}
    tasks = [{"data": {"review_id": "a"}, "annotations": [annotation, cancelled]}, {"data": {"review_id": "b"}}]
    given = json.dumps(tasks) if is_list else "\n".join(map(json.dumps, tasks))
    assert import_lines(given) == [ImportedAnswer("a", "7", "label-studio:ann@x")]


@pytest.mark.parametrize("labels", [("1", "2", "3", "4", "5", "6", "7", "8"), tuple("abcdefgh"), tuple("01234567")])
def test_a_suggestion_that_a_person_lets_stand_comes_back_as_the_class_it_was(
    house: House, labels: tuple[str, ...]
) -> None:
    house.put("r1", is_blind=False)
    (task,) = map(json.loads, export_lines(house.queue.items(), lambda item: labels).splitlines())
    task["annotations"] = [{"completed_by": 5, "result": task["predictions"][0]["result"]}]
    (found,) = import_lines(json.dumps(task))
    assert numbered(found.answer, labels) == 7


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("{", "neither JSON lines"),
        ("[1]", "task 1 is 1"),
        ('{"data": {}}', "no data.review_id"),
        ('{"data": {"review_id": "a"}, "annotations": [{"result": []}]}', "without choices"),
        ('{"data": {"review_id": "a", "row": 2, "rows": 2}}', "row 2 of 2"),
        ('[{"data": {"review_id": "a", "rows": 2}}, {"data": {"review_id": "a", "rows": 3}}]', "another says 2"),
    ],
)
def test_what_is_wrong_says_where(given: str, said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        import_lines(given)
