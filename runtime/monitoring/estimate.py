"""How often answers are probably right, without labels: by how sure the model is of them, in bins, so that windows can be merged.

Confidence-based performance estimation: a bin's share of right answers among the bundle's labelled samples, weighted by how often
that confidence comes now.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from runtime.monitoring.performance import ASSUMPTIONS
from runtime.monitoring.reference import Baseline
from runtime.monitoring.summary import Summary
from runtime.tensors import Array

LEAST_ROWS: Final = 200
"""Live rows: of fewer, the shares of the bins are chance."""


@dataclass(frozen=True, slots=True)
class SampleAccuracy:
    """How often the samples' answers are right, and in which bins of confidence."""

    feature: str
    """The confidence, as a feature of the baseline."""
    right: int
    rows: int
    right_share: tuple[float, ...]
    """By bin of that feature."""

    def estimate(self, live: Summary) -> dict[str, Any] | None:
        """Of the rows in `live`, as JSON; None where they are too few."""
        seen = live.features.get(self.feature)
        count = 0 if seen is None else int(seen.counts.sum())
        if seen is None or count < LEAST_ROWS or len(seen.counts) != len(self.right_share):
            return None
        accuracy = float((seen.counts / count * np.asarray(self.right_share)).sum())
        return {
            "accuracy": round(accuracy, 5),
            "sample_accuracy": round(self.right / self.rows, 5),
            "rows": count,
            "assumptions": ASSUMPTIONS,
        }


def sample_accuracy(baseline: Baseline, values: Mapping[str, Any], labels: Array) -> SampleAccuracy | None:
    """Of a classifier's samples: `values` of their features, `labels` [row] the index of each class; None for any other model."""
    named = {feature.take: feature for feature in baseline.features}
    if "class" not in named or "confidence" not in named:
        return None
    confidence = named["confidence"]
    truth = labels.reshape(-1)
    predicted = values[named["class"].name]
    if truth.dtype.kind not in "iu" or len(truth) != len(predicted):
        return None
    is_right = np.array(predicted) == truth.astype(str)
    at = [feature.name for feature in baseline.features].index(confidence.name)
    edges = np.asarray(baseline.references[at].edges, np.float64)
    places = np.searchsorted(edges, np.nan_to_num(np.asarray(values[confidence.name])), side="right")
    rows = np.bincount(places, minlength=len(edges) + 1)
    right = np.bincount(places, is_right.astype(np.float64), minlength=len(edges) + 1)
    # One imagined answer of average accuracy in each bin: an empty one says what the whole says.
    shares = (right + is_right.mean()) / (rows + 1)
    return SampleAccuracy(confidence.name, int(is_right.sum()), len(truth), tuple(shares.tolist()))
