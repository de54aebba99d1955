"""Whether the source itself is right on the rows; where it is not, which mistake of preprocessing explains it."""

from __future__ import annotations

from typing import Final

import numpy as np

from runtime.backends.preprocess import steps_of
from runtime.building.causes import DECISIVE_GAIN, advice, alterations_for, is_decisive, is_guessing
from runtime.building.workshop import Rows, Workshop
from runtime.bundle.manifest import ModelDescription, Tensor, Variant
from runtime.errors import BundleError
from runtime.tensors import Array

CAUSE_ROWS: Final = 200
"""Enough to tell 10 points from chance."""
CAUSE_TIME_S: Final = 20.0


def check_source(shop: Workshop, accuracy: float, model: ModelDescription, variant: Variant, held_out: Rows) -> None:
    """`BundleError` when the source itself is wrong on the rows: then rows and model do not mean the same.

    With a floor, below it; without one, when it only guesses, or when an alteration of its inputs gains decisively.
    """
    labels = held_out.samples.labels
    assert labels is not None
    floor = model.targets.accuracy_floor
    if floor is not None and accuracy >= floor:
        return
    problem = None
    if floor is not None:
        problem = f"below the floor {floor:.2%}"
    elif is_guessing(accuracy, labels):
        problem = "no better than always giving the most frequent label"
    is_worth_it = problem is not None or 1 - accuracy > DECISIVE_GAIN
    best = _find_cause(shop, accuracy, model, variant, held_out) if is_worth_it else None
    if problem is None and best is None:
        return
    text = f"the source is right in {accuracy:.2%} of {len(labels)} held-out rows"
    text += f", {problem}" if problem else ""
    if best is None:
        raise BundleError(
            f"{text}; no usual mistake of preprocessing explains it (other ranges of values, BGR, swapped axes and layouts "
            "were tried): check the labels and that the rows are what the model was trained on, or lower the floor"
        )
    name, other, rows = best
    raise BundleError(
        f"{text}; the declared preprocessing is likely wrong: the accuracy is {other:.2%} (first {rows} rows) "
        f"with the model's input {advice(name)}"
    )


def notes_on_regression(answers: Array, labels: Array) -> list[str]:
    """What a person should hear of a regressor whose labels are known: how near its answers are, and what that means here."""
    note = "the task is regression: variants are held to agreement with the source"
    rows = len(labels)
    if not {answers.dtype.kind, labels.dtype.kind} <= set("fiu"):
        return [f"{note}; its first output or the labels are no numbers, so they are compared with nothing"]
    if answers.size != rows:
        return [
            f"{note}; its first output has {answers.size // rows} values a row, so labels are compared with nothing"
        ]
    seen, true = answers.reshape(rows).astype(np.float64), labels.astype(np.float64)
    known = np.isfinite(seen) & np.isfinite(true)
    if not known.any():
        return [f"{note}; no row has both an answer and a label that are numbers"]
    error = float(np.mean(np.abs(seen - true)[known]))
    mean_error = float(np.mean(np.abs(true[known] - np.median(true[known]))))
    notes = [f"{note}; it is off by {error:.4g} on average (always answering the labels' median: {mean_error:.4g})"]
    if error >= mean_error > 0:
        notes.append(
            "the source is no nearer to the labels than their median: check that the rows are what it was trained on, the "
            "declared preprocessing (0..255 or 0..1?) and the unit of the labels"
        )
    return notes


def _find_cause(
    shop: Workshop, accuracy: float, model: ModelDescription, variant: Variant, held_out: Rows
) -> tuple[str, float, int] | None:
    """The alteration of the model's tensors that brings the accuracy back, that accuracy, and over how many rows."""
    labels = held_out.samples.labels
    assert labels is not None
    count = min(len(labels), CAUSE_ROWS)
    tensors: dict[str, Array] = {}
    for tensor in model.inputs:
        steps = steps_of(tensor.spec, tensor.preprocess)
        value = held_out.samples.inputs[tensor.name][:count]
        tensors[tensor.name] = value if steps is None else steps(value)
    plain = model.model_copy(update={"inputs": tuple(_without_steps(tensor) for tensor in model.inputs)})
    rows = shop.lay_out("altered", tensors, labels[:count])
    found = shop.try_alterations(plain, variant, rows, alterations_for(tensors), CAUSE_TIME_S)
    if not found:
        return None
    name = max(found, key=lambda key: found[key])
    return (name, found[name], count) if is_decisive(accuracy, found[name], count) else None


def _without_steps(tensor: Tensor) -> Tensor:
    spec = tensor.model_spec
    return Tensor(name=spec.name, datatype=spec.datatype, shape=spec.shape)
