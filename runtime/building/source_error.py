"""How near a regressor's answers are to its labels; where they are not near, which mistake of preprocessing explains it."""

from __future__ import annotations

from typing import Final

import numpy as np

from runtime.building.causes import DECISIVE_GAIN, advice
from runtime.building.source_accuracy import CAUSE_TIME_S, Trial
from runtime.building.workshop import Rows, Workshop
from runtime.bundle.manifest import ModelDescription, Variant
from runtime.errors import BundleError
from runtime.tensors import Array

DECISIVE_SHARE: Final = 0.5
"""An alteration that leaves so much of the error, beyond three standard errors, was meant: a judgement, not a measurement."""


def check_regressor(
    shop: Workshop, answers: Array, model: ModelDescription, variant: Variant, held_out: Rows
) -> list[str]:
    """What a person should hear of a source whose labels are numbers; `BundleError` when rows and model do not mean the same.

    That is so where it is no nearer to the labels than their median, always answered, would be, or where an alteration of its
    inputs takes most of its error away.
    """
    labels = held_out.samples.labels
    assert labels is not None
    note, rows = "the task is regression: variants are held to agreement with the source", len(labels)
    if not {answers.dtype.kind, labels.dtype.kind} <= set("fiu"):
        return [f"{note}; its first output or the labels are no numbers, so they are compared with nothing"]
    if answers.size != rows:
        return [
            f"{note}; its first output has {answers.size // rows} values a row, so labels are compared with nothing"
        ]
    true = labels.astype(np.float64)
    errors = np.abs(answers.reshape(rows).astype(np.float64) - true)
    known = np.isfinite(errors)
    if not known.any():
        return [f"{note}; no row has both an answer and a label that are numbers"]
    error = float(np.mean(errors[known]))
    of_median = float(np.mean(np.abs(true[known] - np.median(true[known]))))
    if of_median > 0 and error > DECISIVE_GAIN * of_median:
        _refuse_mistakes(shop, errors, of_median, model, variant, held_out)
    return [f"{note}; it is off by {error:.4g} on average (always answering the labels' median: {of_median:.4g})"]


def _refuse_mistakes(
    shop: Workshop, errors: Array, of_median: float, model: ModelDescription, variant: Variant, held_out: Rows
) -> None:
    trial = Trial(shop, model, held_out)
    found = shop.errors_altered(trial.model, variant, trial.rows, trial.alterations, CAUSE_TIME_S)
    best = min(found, key=lambda name: mean_error(found[name]), default=None)
    error = float(np.mean(errors[np.isfinite(errors)]))
    text = f"the source is off by {error:.4g} on average in {len(errors)} held-out rows, "
    text += f"always answering the labels' median by {of_median:.4g}"
    if best is not None and is_collapse(errors[: trial.count], found[best], of_median):
        raise BundleError(
            f"{text}; the declared preprocessing is likely wrong: it is off by {mean_error(found[best]):.4g} (first {trial.count} "
            f"rows) with the model's input {advice(best)}"
        )
    if error >= of_median:
        raise BundleError(
            f"{text}; no usual mistake of preprocessing explains it (other ranges of values, BGR, swapped axes and layouts were "
            "tried): check that the rows are what the model was trained on and the unit of the labels, or leave the labels out"
        )


def is_collapse(errors: Array, others: Array, of_median: float) -> bool:
    """Whether `others`, by row, are so much smaller than `errors` that chance does not make them so, and of some use."""
    known = np.isfinite(errors)
    gains = errors[known] - others[known]
    if not len(gains) or not np.isfinite(gains).all():
        return False
    error, other = float(np.mean(errors[known])), mean_error(others)
    chance = 3 * float(np.std(gains)) / len(gains) ** 0.5
    return other < min(DECISIVE_SHARE * error, of_median) and float(np.mean(gains)) > chance


def mean_error(errors: Array) -> float:
    """Of those rows; infinite where one has no number, which no right model gives."""
    return float(np.mean(errors)) if np.isfinite(errors).all() else float("inf")
