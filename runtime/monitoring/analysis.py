"""Where a model is wrong, from rows with labels: slices, confusion, calibration, the newest disagreements. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from runtime.monitoring.items import name_of
from runtime.monitoring.moments import Numbers
from runtime.monitoring.tails import log_share_tail

MIN_SLICE_ROWS: Final = 20
MAX_TAG_VALUES: Final = 50
QUARTERS: Final = 4

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Slice:
    """Rows that share a bin of a feature or a tag, and how often the model is wrong on them."""

    label: str
    rows: int
    loss: float
    rest_loss: float
    log_p: float
    """Of the difference by chance, held to the number of slices looked at."""

    @property
    def is_proven(self) -> bool:
        """Whether it is more than the worst of many by chance (5 % over all slices)."""
        return self.log_p <= math.log(0.05)

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "slice": self.label,
            "rows": self.rows,
            "loss": round(self.loss, 5),
            "rest_loss": round(self.rest_loss, 5),
            "log10_p": round(self.log_p / math.log(10), 2),
            "is_proven": self.is_proven,
        }


def worst_slices(values: Mapping[str, Numbers | Sequence[Any]], is_wrong: Flags, most: int = 8) -> list[Slice]:
    """The slices that lose most against the rest of the rows, best proven first.

    `values`: by feature or tag, one value a row; numbers are cut at their quartiles.
    """
    return worst_groups([group for name, value in values.items() for group in _groups(name, value)], is_wrong, most)


def worst_groups(groups: Sequence[tuple[str, Flags]], is_wrong: Flags, most: int = 8) -> list[Slice]:
    """The same of groups that are made already: what each is called, and which rows are in it."""
    wrong, rows = int(is_wrong.sum()), len(is_wrong)
    found = []
    for label, chosen in groups:
        count = int(chosen.sum())
        if count < MIN_SLICE_ROWS or rows - count < MIN_SLICE_ROWS:
            continue
        hits = int(is_wrong[chosen].sum())
        loss, rest = hits / count, (wrong - hits) / (rows - count)
        if loss <= rest:
            continue
        numbers = (np.array(float(value)) for value in (hits, count, wrong - hits, rows - count))
        found.append(Slice(label, count, loss, rest, float(log_share_tail(*numbers))))
    held = math.log(max(len(groups), 1))
    found = [Slice(s.label, s.rows, s.loss, s.rest_loss, min(s.log_p + held, 0.0)) for s in found]
    return sorted(found, key=lambda s: (s.log_p, -(s.loss - s.rest_loss)))[:most]


def confusion(predicted: Sequence[str], labels: Sequence[str], most: int = 10) -> list[dict[str, Any]]:
    """The most frequent mistakes: what was taken for what, how often, and which share of that label's rows."""
    of_label = Counter(labels)
    mistakes = Counter((label, seen) for seen, label in zip(predicted, labels, strict=True) if seen != label)
    return [
        {"label": label, "predicted": seen, "rows": rows, "share": round(rows / of_label[label], 5)}
        for (label, seen), rows in mistakes.most_common(most)
    ]


def calibration(confidence: Numbers, is_right: Flags, bins: int = 10) -> dict[str, Any]:
    """How often answers of each confidence are right, and the expected calibration error (bins of equal width)."""
    places = np.clip((confidence * bins).astype(int), 0, bins - 1)
    curve, error = [], 0.0
    for at in range(bins):
        chosen = places == at
        if not chosen.any():
            continue
        sure, right = float(confidence[chosen].mean()), float(is_right[chosen].mean())
        error += abs(sure - right) * float(chosen.mean())
        curve.append({"confidence": round(sure, 5), "accuracy": round(right, 5), "rows": int(chosen.sum())})
    return {"expected_calibration_error": round(error, 5), "curve": curve}


def newest_disagreements(
    predicted: Sequence[str], labels: Sequence[str], confidence: Numbers, most: int = 10
) -> list[dict[str, Any]]:
    """The last rows whose label is another than the answer, newest first."""
    wrong = [at for at in range(len(labels) - 1, -1, -1) if predicted[at] != labels[at]][:most]
    return [
        {"row": at, "label": labels[at], "predicted": predicted[at], "confidence": round(float(confidence[at]), 5)}
        for at in wrong
    ]


def called(classes: Sequence[str], names: Sequence[str] | None) -> list[str]:
    """Classes by name where the bundle has names."""
    if names is None:
        return list(classes)
    return [names[int(c)] if c.isdigit() and int(c) < len(names) else c for c in classes]


def _groups(name: str, values: Numbers | Sequence[Any]) -> list[tuple[str, Flags]]:
    if isinstance(values, np.ndarray) and values.dtype.kind == "f":
        finite = values[np.isfinite(values)]
        groups = [(f"{name} is missing or not finite", ~np.isfinite(values))]
        if not finite.size:
            return groups
        edges = np.unique(np.quantile(finite, np.arange(1, QUARTERS) / QUARTERS))
        places = np.where(np.isfinite(values), np.searchsorted(edges, values, side="right"), -1)
        bounds = ["", *(f"{edge:.4g}" for edge in edges), ""]
        for at in range(len(edges) + 1):
            low, high = bounds[at], bounds[at + 1]
            words = f"{low} to {high}" if low and high else f"below {high}" if high else f"{low} and above"
            groups.append((f"{name} {words}", places == at))
        return groups
    names = np.array([name_of(value) for value in values], object)
    common = [value for value, _ in Counter(names.tolist()).most_common(MAX_TAG_VALUES)]
    return [(f"{name} = {value}", names == value) for value in common]
