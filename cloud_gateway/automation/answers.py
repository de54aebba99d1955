"""Answers of models and of people, and how far one is from another.

An answer is a JSON value: a class (number or name), a number, or a list with one of those for each row of the request; in a
label, null stands for a row that is not labelled yet.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any, Final

import numpy as np

from cloud_gateway.automation.chances import chances_of
from runtime.errors import InvalidInputError
from runtime.store import check_text, kept_text
from runtime.tensors import Array

Answer = int | float | str | bool | list[int | float | str | bool | None] | None

MOST_ROWS: Final = 1024
MOST_BYTES: Final = 16 << 10
# Of an input that is shown to a person beside its reference.
SUMMARY_VALUES: Final = 16


@dataclass(frozen=True, slots=True)
class Suggestion:
    """What a model says, as people would say it."""

    answer: Answer
    confidence: float | None
    """The lowest over the rows; None where the output is no distribution over classes."""
    confidences: tuple[float, ...] = ()
    """Of each row; empty for what is no distribution."""


def suggestion_of(outputs: Mapping[str, Array], output: str = "") -> Suggestion:
    """The answer in a model's outputs: the class of a row of scores with its softmax-like confidence, or the numbers themselves.

    `InvalidInputError` where there is no such output, nothing in it, or more than a person would look at.
    """
    name = output or next(iter(outputs), "")
    if name not in outputs:
        raise InvalidInputError(f"the model has no output {name!r}; it has {', '.join(outputs) or 'none'}")
    values = np.asarray(outputs[name])
    if not values.size:
        raise InvalidInputError(
            f"output {name!r} is empty: {list(values.shape)}; expected scores or one value for each row"
        )
    rows = values.reshape(values.shape[0] if values.ndim > 1 else values.size, -1)
    if len(rows) > MOST_ROWS:
        raise InvalidInputError(f"the request has {len(rows)} rows; a person is asked about {MOST_ROWS} at most")
    if rows.shape[1] == 1:
        found: list[int | float | str | bool | None] = [_said(value) for value in rows[:, 0].tolist()]
        return Suggestion(found[0] if len(found) == 1 else found, None)
    if not np.issubdtype(rows.dtype, np.number):
        raise InvalidInputError(
            f"output {name!r} has {rows.shape[1]} values of {rows.dtype} a row; expected scores or one value"
        )
    best: list[int | float | str | bool | None] = [int(at) for at in rows.astype(np.float64).argmax(1)]
    answer: Answer = best[0] if len(best) == 1 else best
    chances = chances_of(rows)
    if chances is None:
        return Suggestion(answer, None)
    sure = chances.max(1)
    return Suggestion(answer, float(sure.min()), tuple(sure.tolist()))


def _said(value: Any) -> int | float | str | bool:
    """A value of an output as an answer that can be kept: JSON has no NaN, which no label is right about either."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, str):
        return kept_text(value)
    return str(value) if isinstance(value, float) and not isfinite(value) else value


def check_answer(answer: object, rows: int | None = None) -> Answer:
    """`answer` where it is one; `InvalidInputError` with what was expected otherwise. `rows`: so many must be in a list."""
    values = answer if isinstance(answer, list) else [answer]
    for value in values:
        if not isinstance(value, int | float | str) and not (value is None and isinstance(answer, list)):
            raise InvalidInputError(
                f"answer {answer!r:.80} is none; expected a class, a number, or a list with one for each row"
            )
        if isinstance(value, float) and not isfinite(value):
            raise InvalidInputError(f"answer {answer!r:.80} has a number that is not finite")
        if isinstance(value, str):
            check_text(value, "an answer")
    if len(json.dumps(answer)) > MOST_BYTES:
        raise InvalidInputError(f"the answer has over {MOST_BYTES} bytes; expected a class or number for each row")
    if rows is not None and (len(values) != rows or (rows > 1) != isinstance(answer, list)):
        raise InvalidInputError(f"the request has {rows} rows, the answer {len(values)}; expected one for each row")
    return answer  # type: ignore[return-value]  # checked value by value


def loss(said: Answer, truth: Answer, tolerance: float = 0.0) -> float | None:
    """The share of labelled rows where `said` is another answer; None where nothing is labelled."""
    if len(_rows(said)) != len(_rows(truth)):
        return 1.0
    found = compared(said, truth, tolerance)
    return sum(not one.is_right for one in found) / len(found) if found else None


@dataclass(frozen=True, slots=True)
class ComparedRow:
    """One row that is labelled, beside what was said to it."""

    row: int
    said: str
    truth: str
    is_right: bool


def compared(said: Answer, truth: Answer, tolerance: float = 0.0) -> list[ComparedRow]:
    """The rows that are labelled; none where the two are of other rows."""
    pairs = list(zip(_rows(said), _rows(truth), strict=False)) if len(_rows(said)) == len(_rows(truth)) else []
    return [
        ComparedRow(at, str(one), str(true), _is_same(one, true, tolerance))
        for at, (one, true) in enumerate(pairs)
        if true is not None
    ]


def _rows(answer: Answer) -> list[int | float | str | bool | None]:
    return answer if isinstance(answer, list) else [answer]


def completed(known: Answer, more: Answer) -> Answer | None:
    """`known` with its unlabelled rows filled in from `more`; None where the two contradict each other."""
    if not isinstance(known, list) or not isinstance(more, list) or len(known) != len(more):
        return known if known == more else None
    if any(one is not None and other is not None and one != other for one, other in zip(known, more, strict=True)):
        return None
    return [one if one is not None else other for one, other in zip(known, more, strict=True)]


def summarize(inputs: Mapping[str, Array]) -> str:
    """Names, types, shapes and the first values of inputs: enough to recognise a request, a few hundred bytes."""
    parts = []
    for name, value in inputs.items():
        first = np.asarray(value).reshape(-1)[:SUMMARY_VALUES]
        shown = ", ".join(
            one.decode("utf-8", "replace")[:80]
            if isinstance(one, bytes)
            else f"{one:.4g}"
            if isinstance(one, float)
            else str(one)[:80]
            for one in first.tolist()
        )
        more = ", …" if np.asarray(value).size > SUMMARY_VALUES else ""
        parts.append(f"{name} {np.asarray(value).dtype} {list(np.asarray(value).shape)}: {shown}{more}")
    return "\n".join(parts)


def _is_same(one: object, other: object, tolerance: float) -> bool:
    if isinstance(one, int | float) and isinstance(other, int | float):
        return abs(one - other) <= tolerance
    return str(one) == str(other)
