"""Where a model errs, by the newest labelled answers: slices, confusion, calibration, disagreements. Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from runtime.monitoring.analysis import Flags, calibration, called, confusion, worst_groups
from runtime.monitoring.performance import Labelled

NEWEST: Final = 4000
"""Rows that are kept, some hundred bytes each: a share of wrong answers in a tenth of them is known to 2 % or so."""
DISAGREEMENTS: Final = 10


@dataclass(frozen=True, slots=True)
class SeenRow:
    """A labelled answer, and what is known of the row that it was given to."""

    labelled: Labelled
    request_id: str
    row: int
    confidence: float | None
    groups: Mapping[str, str]
    """By feature or tag, the bin or value that the row lies in, in words."""


class ErrorLog:
    """The newest `NEWEST` rows of one version, each once; one whose labels contradict each other counts for nothing.

    Not thread-safe.
    """

    def __init__(self, names: Sequence[str] | None) -> None:
        """`names`: of the classes, where the bundle has them."""
        self._names = names
        self._rows: OrderedDict[str, SeenRow | None] = OrderedDict()
        self._told: dict[str, Any] | None = None

    def add(self, row: SeenRow) -> None:
        """Takes one row."""
        key = row.labelled.answer_id
        if key in self._rows:
            before = self._rows[key]
            if before is None or before.labelled.label == row.labelled.label:
                return
            self._rows[key] = None
        else:
            self._rows[key] = row
            while len(self._rows) > NEWEST:
                self._rows.popitem(last=False)
        self._told = None

    def document(self) -> dict[str, Any] | None:
        """As JSON; None while nothing is labelled."""
        if self._told is None:
            rows = [row for row in self._rows.values() if row is not None]
            self._told = _analysed(rows, self._names) if rows else None
        return self._told


def _analysed(rows: Sequence[SeenRow], names: Sequence[str] | None) -> dict[str, Any]:
    is_right = np.array([row.labelled.is_right for row in rows], bool)
    predicted = called([row.labelled.predicted for row in rows], names)
    labels = called([row.labelled.label for row in rows], names)
    sure = np.array([np.nan if row.confidence is None else row.confidence for row in rows], np.float64)
    is_known = np.isfinite(sure)
    return {
        "rows": len(rows),
        "accuracy": round(float(is_right.mean()), 5),
        "wrong_rows": int((~is_right).sum()),
        "slices": [one.to_dict() for one in worst_groups(_groups(rows, labels), ~is_right)],
        # What is told apart by a tolerance is no confusion of classes.
        "confusion": confusion(
            [label if right else said for said, label, right in zip(predicted, labels, is_right, strict=True)], labels
        ),
        "calibration": calibration(sure[is_known], is_right[is_known]) if is_known.any() else None,
        "newest_disagreements": _disagreements(rows, predicted, labels),
    }


def _groups(rows: Sequence[SeenRow], labels: Sequence[str]) -> list[tuple[str, Flags]]:
    places: dict[str, list[int]] = {}
    for at, (row, label) in enumerate(zip(rows, labels, strict=True)):
        for name, words in row.groups.items():
            places.setdefault(f"{name} {words}", []).append(at)
        places.setdefault(f"label = {label}", []).append(at)
    found = []
    for name, chosen in places.items():
        flags = np.zeros(len(rows), bool)
        flags[chosen] = True
        found.append((name, flags))
    return found


def _disagreements(rows: Sequence[SeenRow], predicted: Sequence[str], labels: Sequence[str]) -> list[dict[str, Any]]:
    wrong = [at for at, row in enumerate(rows) if not row.labelled.is_right]
    newest = sorted(wrong, key=lambda at: (-rows[at].labelled.answered_at, -at))[:DISAGREEMENTS]
    return [
        {
            "request": rows[at].request_id,
            "row": rows[at].row,
            "at_unix": rows[at].labelled.answered_at,
            "label": labels[at],
            "predicted": predicted[at],
            "confidence": rows[at].confidence,
        }
        for at in newest
    ]
