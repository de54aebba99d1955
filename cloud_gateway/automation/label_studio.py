"""Review items as JSON lines for Label Studio, and its annotations back.

A task is one row of one item (labelstud.io/guide/tasks, "basic Label Studio JSON format"): a control there has one answer a task.
What a person is to see is under `data`, with the classes to choose from, and the model's suggestion under `predictions` unless the
item is blind. Set the project up with `CHOICES_CONFIG`, or for answers that are no classes with `TEXT_CONFIG`: Label Studio checks
predictions against it. Annotations come back as Label Studio exports them ("JSON", labelstud.io/guide/task_format), one task a
line or a list of tasks; of each task the choices, numbers or texts that were annotated.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from cloud_gateway.automation.answers import Answer
from cloud_gateway.automation.queue import ReviewItem
from runtime.errors import InvalidInputError

# Names of the control and the object in the labelling configuration.
CONTROL: Final = "answer"
OBJECT: Final = "input"
CHOICES_CONFIG: Final = """\
<View>
  <Text name="input" value="$input"/>
  <Text name="reference" value="$input_reference"/>
  <Choices name="answer" toName="input" choice="single" value="$choices"/>
</View>
"""
TEXT_CONFIG: Final = """\
<View>
  <Text name="input" value="$input"/>
  <Text name="reference" value="$input_reference"/>
  <TextArea name="answer" toName="input" maxSubmissions="1"/>
</View>
"""
MOST_LINES: Final = 10_000


@dataclass(frozen=True, slots=True)
class ImportedAnswer:
    """What one person said to one item; of an item with several rows a list, None for those that were not annotated."""

    item: str
    answer: Answer
    reviewer: str


def tasks_of(item: ReviewItem, labels: Sequence[str] = ()) -> Iterator[dict[str, Any]]:
    """A task for each row of one item; `labels`: names of the classes to choose from."""
    suggested = item.suggestion if isinstance(item.suggestion, list) else [item.suggestion]
    for row in range(item.rows):
        data = {
            "input": item.summary,
            "input_reference": item.input_reference,
            "review_id": item.id,
            "row": row,
            "rows": item.rows,
            "model": item.model,
            "version": item.version,
            "request_id": item.request_id,
            "segment": item.segment,
        }
        if labels:
            data["choices"] = [{"value": label} for label in labels]
        suggestion = suggested[row] if row < len(suggested) else None
        if suggestion is None:
            yield {"data": data}
            continue
        said = _named(suggestion, labels)
        kind, value = ("choices", {"choices": [said]}) if labels else ("textarea", {"text": [said]})
        result = {"from_name": CONTROL, "to_name": OBJECT, "type": kind, "value": value}
        prediction: dict[str, Any] = {"model_version": f"{item.model}/{item.version}", "result": [result]}
        if item.confidence is not None:
            prediction["score"] = item.confidence
        yield {"data": data, "predictions": [prediction]}


def export_lines(
    items: Iterable[ReviewItem], labels_of: Callable[[ReviewItem], Sequence[str]] = lambda item: ()
) -> str:
    """A task a line."""
    tasks = (task for item in items for task in tasks_of(item, labels_of(item)))
    return "".join(json.dumps(task, ensure_ascii=False) + "\n" for task in tasks)


def import_lines(text: str) -> list[ImportedAnswer]:
    """The annotations in an export, rows of one item by one person together, in the order of their first rows.

    `InvalidInputError` says in which task something is wrong.
    """
    said: dict[tuple[str, str, int], dict[int, Answer]] = {}
    rows_of: dict[str, int] = {}
    for number, task in enumerate(_tasks(text), 1):
        item, row, rows = _place(task.get("data"), number)
        if rows_of.setdefault(item, rows) != rows:
            raise InvalidInputError(
                f"task {number} says that item {item} has {rows} rows, another says {rows_of[item]}"
            )
        annotations = task.get("annotations", [])
        turns: dict[str, int] = {}
        for annotation in annotations if isinstance(annotations, list) else []:
            if not isinstance(annotation, dict) or annotation.get("was_cancelled"):
                continue
            reviewer = _reviewer_of(annotation)
            # Whoever annotated a task twice said two things: the queue takes the first, and says so of the other.
            turns[reviewer] = turns.get(reviewer, 0) + 1
            answer = _answer_of(annotation, number)
            if rows > 1 and isinstance(answer, list):
                raise InvalidInputError(
                    f"task {number} is one row of {rows}, and has {len(answer)} answers; expected one"
                )
            said.setdefault((item, reviewer, turns[reviewer]), {})[row] = answer
    return [
        ImportedAnswer(item, _of_rows(answers, rows_of[item]), reviewer)
        for (item, reviewer, _), answers in said.items()
    ]


def _of_rows(answers: dict[int, Answer], rows: int) -> Answer:
    if rows == 1:
        return answers[0]
    found = [answers.get(row) for row in range(rows)]
    return [one for one in found if not isinstance(one, list)]


def _place(data: Any, number: int) -> tuple[str, int, int]:
    """Item, row and its number of rows."""
    item = data.get("review_id") if isinstance(data, dict) else None
    if not isinstance(item, str):
        raise InvalidInputError(f"task {number} has no data.review_id; expected a task that was exported here")
    row, rows = data.get("row", 0), data.get("rows", 1)
    if type(row) is not int or type(rows) is not int or not 0 <= row < rows <= MOST_LINES:
        raise InvalidInputError(
            f"task {number} is row {row!r:.40} of {rows!r:.40}; expected them as they were exported"
        )
    return item, row, rows


def _named(answer: Any, labels: Sequence[str]) -> str:
    """A class by its name."""
    is_class = isinstance(answer, int) and not isinstance(answer, bool) and 0 <= answer < len(labels)
    return labels[answer] if is_class else str(answer)


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
    answers: list[int | float | str | bool | None] = [_as_value(value) for value in values]
    return answers[0] if len(answers) == 1 else answers


def _as_value(value: Any) -> int | float | str:
    """As it was annotated: whether "7" is the name of a class or a number, only the model's classes say (`choices.numbered`)."""
    if isinstance(value, int | float | str):
        return value
    raise InvalidInputError(f"annotated value {value!r:.40} is neither a text nor a number")


def _reviewer_of(annotation: dict[str, Any]) -> str:
    by = annotation.get("completed_by", "")
    if isinstance(by, dict):
        by = by.get("email") or by.get("id", "")
    return f"label-studio:{by}"[:128]
