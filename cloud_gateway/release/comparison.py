"""How far two answers to one request differ: pure, arrays in, numbers out.

A shadow's batch is compared at once: numpy costs as much for one row as for thirty.
"""

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


Answers = Mapping[str, Array]


def compare_all(task: Task, names: Sequence[str], pairs: Sequence[tuple[Answers, Answers]]) -> list[Comparison | None]:
    """As `compare`, of each pair of stable's and the candidate's outputs: all at once where they are a classifier's, and alike."""
    joined = _joined(names, pairs) if task is Task.CLASSIFICATION and len(pairs) > 1 else None
    if joined is None:
        return [compare(task, names, *pair) for pair in pairs]
    tensors, counts = joined
    starts = np.cumsum(counts) - counts
    is_broken = np.zeros(len(pairs), np.bool_)
    distances = np.zeros(len(pairs))
    for stable, candidate in tensors:
        a, b = (side.reshape(len(side), -1).astype(np.float64) for side in (stable, candidate))
        finite = np.isfinite(a)
        is_broken |= np.logical_or.reduceat((finite & ~np.isfinite(b)).any(axis=1), starts)
        a, b = np.where(finite, a, 0.0), np.where(finite & np.isfinite(b), b, 0.0)
        apart = np.add.reduceat(np.abs(a - b).sum(axis=1), starts)
        scale = np.add.reduceat((np.abs(a) + np.abs(b)).sum(axis=1), starts)
        np.maximum(distances, np.minimum(apart / np.where(scale > 0.0, scale, 1.0), 1.0), out=distances)
    before, after = (class_of(side) for side in tensors[0])
    classes: list[list[tuple[int, int]]] = [[] for _ in pairs]
    for row in np.flatnonzero(before != after).tolist():
        at = int(np.searchsorted(starts, row, "right")) - 1
        classes[at].append((int(before[row]), int(after[row])))
    return [
        Comparison(agrees=False, distance=1.0) if broken else Comparison(not differing, distance, tuple(differing))
        for broken, distance, differing in zip(is_broken.tolist(), distances.tolist(), classes, strict=True)
    ]


def _joined(
    names: Sequence[str], pairs: Sequence[tuple[Answers, Answers]]
) -> tuple[list[tuple[Array, Array]], Array] | None:
    """Stable's and the candidate's rows of every output, one pair after the other, and how many rows each has.

    None where they cannot be joined: outputs that not all have, shapes that differ, no rows, or values that are no floats.
    """
    if any(stable.keys() != pairs[0][0].keys() or candidate.keys() != stable.keys() for stable, candidate in pairs):
        return None
    known = [name for name in names if name in pairs[0][0]]
    if not known or known[0] != names[0]:
        return None
    counts = [len(stable[known[0]]) if stable[known[0]].ndim else 0 for stable, _ in pairs]
    if not all(counts):
        return None
    for name in known:
        like = pairs[0][0][name]
        for (stable, candidate), count in zip(pairs, counts, strict=True):
            one, other = stable[name], candidate[name]
            if one.shape != other.shape or one.shape != (count, *like.shape[1:]):
                return None
            if not one.size or one.dtype.kind not in "fV" or one.dtype != like.dtype or other.dtype != like.dtype:
                return None
    tensors = [
        (np.concatenate([stable[name] for stable, _ in pairs]), np.concatenate([one[name] for _, one in pairs]))
        for name in known
    ]
    return tensors, np.array(counts)


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
