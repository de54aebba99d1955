"""Which bin of each input a row lies in, and what that bin is called: enough to find slices later without the row. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from runtime.bundle.profile import FeatureReference
from runtime.monitoring.items import name_of
from runtime.monitoring.layout import Feature, Kind, Role, columns
from runtime.monitoring.reference import Baseline
from runtime.monitoring.verdict import bin_label
from runtime.tensors import Array

MAX_FEATURES: Final = 24
"""Of a row; a wider one is told by its first inputs."""
NOWHERE: Final = -1
"""Missing or not finite."""
QUARTERS: Final = 4


def binned_features(baseline: Baseline) -> list[tuple[Feature, FeatureReference]]:
    """The inputs that `bins_of_rows` tells of, in its order."""
    pairs = zip(baseline.features, baseline.references, strict=True)
    return [(feature, reference) for feature, reference in pairs if feature.role is Role.INPUT][:MAX_FEATURES]


def bins_of_rows(baseline: Baseline, inputs: Mapping[str, Array]) -> list[list[int]]:
    """The bins [row][feature] of rows as the model got them; none where a tensor is missing."""
    chosen = binned_features(baseline)
    values = columns([feature for feature, _ in chosen], inputs, {})
    if len(values) < len(chosen) or not chosen:
        return []
    bins = [_bins(feature, reference, values[feature.name]) for feature, reference in chosen]
    found: list[list[int]] = np.stack(bins, axis=1).tolist()
    return found


def bin_words(reference: FeatureReference) -> list[str]:
    """What each bin is called where slices are told: of numbers, quarters of the reference and what lies beyond it."""
    bins = len(reference.counts)
    if reference.kind == "category" or bins <= QUARTERS + 2:
        return [bin_label(reference, at) for at in range(bins)]
    counts, edges = np.asarray(reference.counts[1:-1], np.float64), reference.edges
    middle = (np.cumsum(counts) - counts / 2) / max(counts.sum(), 1.0)
    quarter = np.minimum((middle * QUARTERS).astype(int), QUARTERS - 1)
    words = []
    for at in range(bins - 2):
        mates = np.flatnonzero(quarter == quarter[at])
        words.append(f"{edges[mates[0]]:.4g} to {edges[mates[-1] + 1]:.4g}")
    return [bin_label(reference, 0), *words, bin_label(reference, bins - 1)]


def _bins(feature: Feature, reference: FeatureReference, values: Any) -> Any:
    if feature.kind is Kind.NUMBER:
        numbers = np.asarray(values, np.float64)
        places = np.searchsorted(np.asarray(reference.edges, np.float64), numbers, side="right")
        return np.where(np.isfinite(numbers), places, NOWHERE)
    return np.array(_categories(reference, values), np.int64)


def _categories(reference: FeatureReference, values: Sequence[Any]) -> list[int]:
    known = {name: at for at, name in enumerate(reference.categories)}
    known |= dict.fromkeys(reference.known, len(reference.categories))
    unseen = len(reference.categories) + (0 if reference.is_open else 1)
    names = [name_of(value) for value in values]
    return [known.get(name, unseen) if name else NOWHERE for name in names]
