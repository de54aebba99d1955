"""Review items as JSON lines for Label Studio, and its annotations back.

A task a line (labelstud.io/guide/tasks, "basic Label Studio JSON format"): what a person is to see under `data`, the model's
suggestion under `predictions` unless the item is blind. Annotations come back as Label Studio exports them ("JSON"), one
task a line or a list of tasks; of each task the choices, numbers or texts that were annotated.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from cloud_gateway.automation.answers import Answer
from cloud_gateway.automation.queue import ReviewItem
from runtime.errors import InvalidInputError

# Names of the control and the object in the labelling configuration: <Choices name="answer" toName="input"> over <Text
# name="input">.
CONTROL: Final = "answer"
OBJECT: Final = "input"
MOST_LINES: Final = 10_000
_NUMBER: Final = re.compile(r"0|-?[1-9][0-9]{0,14}")


@dataclass(frozen=True, slots=True)
class ImportedAnswer:
    """One annotation of one task."""

    item: str
    answer: Answer
    reviewer: str


def task_of(item: ReviewItem) -> dict[str, Any]:
    """The task of one item."""
    data = {
        "input": item.summary,
        "input_reference": item.input_reference,
        "review_id": item.id,
        "model": item.model,
        "request_id": item.request_id,
        "segment": item.segment,
    }
    if item.suggestion is None:
        return {"data": data}
    answers = item.suggestion if isinstance(item.suggestion, list) else [item.suggestion]
    choices = {"choices": [str(answer) for answer in answers]}
    result = {"from_name": CONTROL, "to_name": OBJECT, "type": "choices", "value": choices}
    prediction: dict[str, Any] = {"model_version": item.model, "result": [result]}
    if item.confidence is not None:
        prediction["score"] = item.confidence
    return {"data": data, "predictions": [prediction]}


def export_lines(items: Iterable[ReviewItem]) -> str:
    """A task a line."""
    return "".join(json.dumps(task_of(item), ensure_ascii=False) + "\n" for item in items)


def import_lines(text: str) -> list[ImportedAnswer]:
    """The annotations in an export; `InvalidInputError` says in which line something is wrong."""
    found = []
    for number, task in enumerate(_tasks(text), 1):
        data = task.get("data")
        item = data.get("review_id") if isinstance(data, dict) else None
        if not isinstance(item, str):
            raise InvalidInputError(f"task {number} has no data.review_id; expected a task that was exported here")
        annotations = task.get("annotations", [])
        for annotation in annotations if isinstance(annotations, list) else []:
            if not isinstance(annotation, dict) or annotation.get("was_cancelled"):
                continue
            found.append(ImportedAnswer(item, _answer_of(annotation, number), _reviewer_of(annotation)))
    return found


def _tasks(text: str) -> list[dict[str, Any]]:
    try:
        if text.lstrip().startswith("["):
            whole: list[Any] = json.loads(text)
        else:
            whole = [json.loads(line) for line in text.splitlines() if line.strip()]
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(f"this is neither JSON lines nor a JSON list of tasks: {error}") from None
    if len(whole) > MOST_LINES:
        raise InvalidInputError(f"there are {len(whole)} tasks; {MOST_LINES} are taken at once")
    for number, task in enumerate(whole, 1):
        if not isinstance(task, dict):
            raise InvalidInputError(f"task {number} is {task!r:.40}; expected a JSON object")
    return whole


def _answer_of(annotation: dict[str, Any], number: int) -> Answer:
    values: list[Any] = []
    results = annotation.get("result", [])
    for result in results if isinstance(results, list) else []:
        value = result.get("value") if isinstance(result, dict) else None
        if not isinstance(value, dict):
            continue
        for kind in ("choices", "text", "number", "rating"):
            if kind in value:
                values += value[kind] if isinstance(value[kind], list) else [value[kind]]
                break
    if not values:
        raise InvalidInputError(
            f"task {number} has an annotation without choices, text or number; label it or leave it out"
        )
    answers: list[int | float | str | bool | None] = [_as_class(value) for value in values]
    return answers[0] if len(answers) == 1 else answers


def _as_class(value: Any) -> int | float | str:
    """Choices are texts, also where a class is a number: a text is a number's only where the number is written that way.

    So "7" is class 7, as it was exported, while "007" and "+7" are names.
    """
    if isinstance(value, str):
        return int(value) if _NUMBER.fullmatch(value) else value
    if isinstance(value, int | float):
        return value
    raise InvalidInputError(f"annotated value {value!r:.40} is neither a text nor a number")


def _reviewer_of(annotation: dict[str, Any]) -> str:
    by = annotation.get("completed_by", "")
    if isinstance(by, dict):
        by = by.get("email") or by.get("id", "")
    return f"label-studio:{by}"[:128]
