"""How far two answers to one request differ: pure, arrays in, numbers out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from runtime.bundle.manifest import Task
from runtime.selection.guard import class_of, rows_agreeing
from runtime.tensors import Array


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two answers, side by side."""

    agrees: bool
    """In every row: the same class, or of other tasks every value within the guard's tolerances."""
    distance: float
    """0 (the same) to 1: the Bray-Curtis dissimilarity of the outputs, of probabilities half the sum of differences; of integers
    and bytes the share that differs. The largest of any output."""
    classes: tuple[tuple[int, int], ...] = ()
    """Of a classifier: stable's and the candidate's class of every row where they differ."""


def compare(
    task: Task, names: Sequence[str], stable: Mapping[str, Array], candidate: Mapping[str, Array]
) -> Comparison | None:
    """The candidate's outputs against stable's; `names` in the model's order. None where no output is in both."""
    known = [name for name in names if name in stable and name in candidate]
    if not known:
        return None
    for name in known:
        if stable[name].shape != candidate[name].shape or not _is_as_finite(stable[name], candidate[name]):
            return Comparison(agrees=False, distance=1.0)
    distance = max(_distance(stable[name], candidate[name]) for name in known)
    if task is Task.CLASSIFICATION and known[0] == names[0] and stable[known[0]].ndim:
        first = known[0]
        before, after = class_of(stable[first]), class_of(candidate[first])
        differing = np.flatnonzero(before != after)
        pairs = tuple((int(before[row]), int(after[row])) for row in differing)
        return Comparison(not pairs, distance, pairs)
    agrees = all(bool(rows_agreeing(candidate[name], stable[name]).all()) for name in known)
    return Comparison(agrees, distance)


def _distance(stable: Array, candidate: Array) -> float:
    if stable.size == 0:
        return 0.0
    if stable.dtype.kind not in "fV":
        return float(np.mean(stable != candidate))
    a, b = stable.astype(np.float64), candidate.astype(np.float64)
    finite = np.isfinite(a)
    a, b = np.where(finite, a, 0.0), np.where(finite, b, 0.0)
    scale = float(np.abs(a).sum() + np.abs(b).sum())
    return min(float(np.abs(a - b).sum()) / scale, 1.0) if scale else 0.0


def _is_as_finite(stable: Array, candidate: Array) -> bool:
    """Whether the candidate is finite wherever stable is; what stable cannot say, nobody is held to."""
    if stable.dtype.kind not in "fV" or candidate.dtype.kind not in "fV":
        return True
    good = np.isfinite(stable.astype(np.float64))
    return bool(np.isfinite(candidate.astype(np.float64))[good].all())
