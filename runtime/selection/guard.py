"""Whether a candidate's answers are right: accuracy on labels, agreement with the reference's outputs, no new NaN.

Pure: arrays in, shares out. What share is enough is `decide`'s business.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from runtime.bundle.manifest import Task
from runtime.confidence.temperature import are_probabilities
from runtime.tensors import Array

RELATIVE_TOLERANCE: Final = 0.01
"""A value agrees within 1 % of the reference's value ..."""
ABSOLUTE_TOLERANCE_OF_PEAK: Final = 0.01
"""... plus 1 % of the reference's largest magnitude in that output: int8 has 256 steps over the range, 0.4 % each."""
CONFIDENCE_TOLERANCE: Final = 0.25
"""A classifier's row disagrees when the probability of its class is off by more: cascades and rejection live on it."""
FURTHER_TOLERANCE: Final = 0.25
"""Relative error (root mean square) of a row of a classifier's further float outputs. An embedding in honest int8 leaves the
tolerance above in some value of nearly every row and is no worse for it; garbage has 1 and more."""


@dataclass(frozen=True, slots=True)
class GuardResult:
    """How right a candidate's answers were; None where there was nothing to compare with."""

    rows: int
    accuracy: float | None = None
    """Share of rows whose answer is the label."""
    agreement: float | None = None
    """Share of rows whose answer is the reference's."""
    confidence_error: float | None = None
    """Mean difference of the probability that a classifier gives the reference's class; None of other tasks."""
    problem: str | None = None
    """What makes the answers unfit, whatever the shares."""
    is_partial: bool = False
    """Whether there are more rows that should be compared before the shares are believed."""

    def at_best(self) -> GuardResult:
        """With the shares that more rows may yet show, if the first ones had bad luck; the same where all were compared."""
        if not self.is_partial:
            return self
        # Hoeffding: the share of all rows lies further above that of `rows` rows once in a hundred times at most.
        margin = math.sqrt(math.log(100) / (2 * max(self.rows, 1)))
        return replace(
            self,
            accuracy=None if self.accuracy is None else min(1.0, self.accuracy + margin),
            agreement=None if self.agreement is None else min(1.0, self.agreement + margin),
        )


def check_answers(
    task: Task,
    names: Sequence[str],
    outputs: Mapping[str, Array],
    reference: Mapping[str, Array],
    labels: Array | None,
) -> GuardResult:
    """`outputs` against `reference` (may be empty) and `labels`, all with one entry a row.

    `names` are the outputs in the model's order. A classifier's answer is the arg max of its first output; its row agrees when
    that is the same, and its probability and the further float outputs lie within their tolerances. Of other tasks a row agrees
    when every value of every output lies within the tolerances above (integers and bytes: is the same).
    """
    first = outputs[names[0]]
    rows = len(first) if first.ndim else 1
    known = [name for name in names if name in reference]
    problem = next((text for name in known if (text := _find_misfit(name, outputs[name], reference[name]))), None)
    if problem is not None or rows == 0:
        return GuardResult(rows, problem=problem)
    accuracy = agreement = confidence_error = None
    if task is Task.CLASSIFICATION:
        answers = class_of(first)
        if labels is not None:
            accuracy = float(np.mean(answers == labels.reshape(rows, -1)[:, 0]))
        if names[0] in reference:
            expected = reference[names[0]]
            off = _confidence_errors(first, expected)
            further = [name for name in known if name != names[0] and reference[name].dtype.kind in "fV"]
            same = (answers == class_of(expected)) & (off <= CONFIDENCE_TOLERANCE)
            agreement = _joint_share([same, *(_rows_alike(outputs[name], reference[name]) for name in further)])
            confidence_error = float(np.mean(off)) if expected.dtype.kind in "fV" else None
    elif known:
        agreement = _joint_share([rows_agreeing(outputs[name], reference[name]) for name in known])
    return GuardResult(rows, accuracy, agreement, confidence_error)


def class_of(scores: Array) -> Array:
    """The class of every row: the arg max of [row, class]; a single score is the probability of class 1."""
    flat = scores.reshape(len(scores), -1)
    return (flat[:, 0] > 0.5).astype(np.int64) if flat.shape[1] == 1 else flat.argmax(axis=1)


def _confidence_errors(got: Array, want: Array) -> Array:
    """For every row, how far the probability of the reference's class is off, in 0..1; 0 where scores are no floats."""
    rows = len(want)
    seen, exact = got.reshape(rows, -1), want.reshape(rows, -1)
    if want.dtype.kind not in "fV":
        return np.zeros(rows)
    seen, exact = seen.astype(np.float64), exact.astype(np.float64)
    if exact.shape[1] == 1:
        shares = np.clip(seen[:, 0], 0, 1), np.clip(exact[:, 0], 0, 1)
    else:
        at = (np.arange(rows), exact.argmax(axis=1))
        if are_probabilities(exact):  # then the candidate's are meant to be, however rounded
            shares = np.clip(seen[at], 0, 1), exact[at]
        else:
            shares = _soft_max(seen)[at], _soft_max(exact)[at]
    errors: Array = np.nan_to_num(np.abs(shares[0] - shares[1]))
    return errors


def _soft_max(scores: Array) -> Array:
    # Infinite scores become NaN, which the caller takes for no difference: `_find_misfit` and the class have looked at them.
    with np.errstate(invalid="ignore", over="ignore"):
        powers = np.exp(scores - scores.max(axis=1, keepdims=True))
        shares: Array = powers / powers.sum(axis=1, keepdims=True)
    return shares


def _rows_alike(got: Array, want: Array) -> Array:
    """For every row, whether its relative error is within `FURTHER_TOLERANCE`; values that are no numbers do not count."""
    rows = len(want) if want.ndim else 1
    seen, exact = got.reshape(rows, -1).astype(np.float64), want.reshape(rows, -1).astype(np.float64)
    is_number = np.isfinite(exact) & np.isfinite(seen)
    error = np.where(is_number, seen - exact, 0.0) if exact.size else exact
    size = np.where(is_number, exact, 0.0)
    # A row of zeros has no scale of its own.
    scale = np.maximum(np.linalg.norm(size, axis=1), ABSOLUTE_TOLERANCE_OF_PEAK * np.abs(size).max(initial=0.0))
    alike: Array = np.linalg.norm(error, axis=1) <= FURTHER_TOLERANCE * scale
    return alike


def rows_agreeing(got: Array, want: Array) -> Array:
    """For every row, whether all its values lie within the tolerances; NaN agrees with NaN. Shapes are the same."""
    rows = len(want) if want.ndim else 1
    got, want = got.reshape(rows, -1), want.reshape(rows, -1)
    if want.dtype.kind not in "fV":
        return _all_of_row(got == want)
    exact, seen = want.astype(np.float64), got.astype(np.float64)
    finite = np.abs(exact[np.isfinite(exact)])
    tolerance = ABSOLUTE_TOLERANCE_OF_PEAK * float(finite.max()) if finite.size else 0.0
    return _all_of_row(np.isclose(seen, exact, rtol=RELATIVE_TOLERANCE, atol=tolerance, equal_nan=True))


def _joint_share(agreeing: Sequence[Array]) -> float:
    """The share of rows that agree in every output; where an output has rows of its own, the least share of any."""
    if len({len(rows) for rows in agreeing}) == 1:
        return float(np.mean(np.logical_and.reduce(agreeing)))
    return min(float(np.mean(rows)) for rows in agreeing if len(rows))


def _all_of_row(same: Array) -> Array:
    result: Array = np.logical_and.reduce(same, axis=1)
    return result


def _find_misfit(name: str, got: Array, want: Array) -> str | None:
    if got.shape != want.shape:
        return f"output {name!r} has shape {list(got.shape)}, the reference's has {list(want.shape)}"
    if want.dtype.kind not in "fV" or got.dtype.kind not in "fV":
        return None
    broken = ~np.isfinite(got.astype(np.float64)) & np.isfinite(want.astype(np.float64))
    if not broken.any():
        return None
    rows = int(broken.reshape(len(broken) if broken.ndim else 1, -1).any(axis=1).sum())
    of = len(want) if want.ndim else 1
    return f"output {name!r} is NaN or infinite in {rows} of {of} rows where the reference is finite"
