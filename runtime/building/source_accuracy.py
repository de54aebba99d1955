"""Whether the source itself is right on the rows; where it is not, which mistake of preprocessing explains it."""

from __future__ import annotations

from typing import Final

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


def _find_cause(
    shop: Workshop, accuracy: float, model: ModelDescription, variant: Variant, held_out: Rows
) -> tuple[str, float, int] | None:
    """The alteration of the model's tensors that brings the accuracy back, that accuracy, and over how many rows."""
    trial = Trial(shop, model, held_out)
    found = shop.try_alterations(trial.model, variant, trial.rows, trial.alterations, CAUSE_TIME_S)
    if not found:
        return None
    name = max(found, key=lambda key: found[key])
    return (name, found[name], trial.count) if is_decisive(accuracy, found[name], trial.count) else None


class Trial:
    """The first of the held-out rows as the model's own tensors, laid out for alterations of them."""

    def __init__(self, shop: Workshop, model: ModelDescription, held_out: Rows) -> None:
        labels = held_out.samples.labels
        assert labels is not None
        self.count = min(len(labels), CAUSE_ROWS)
        tensors: dict[str, Array] = {}
        for tensor in model.inputs:
            steps = steps_of(tensor.spec, tensor.preprocess)
            value = held_out.samples.inputs[tensor.name][: self.count]
            tensors[tensor.name] = value if steps is None else steps(value)
        self.model = model.model_copy(update={"inputs": tuple(_without_steps(tensor) for tensor in model.inputs)})
        """Without preprocessing, which the rows have behind them."""
        self.rows = shop.lay_out("altered", tensors, labels[: self.count])
        self.alterations = alterations_for(tensors)


def _without_steps(tensor: Tensor) -> Tensor:
    spec = tensor.model_spec
    return Tensor(name=spec.name, datatype=spec.datatype, shape=spec.shape)
