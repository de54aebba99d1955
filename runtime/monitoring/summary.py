"""What is kept of a window of rows: one small record a feature, mergeable, whoever saw the rows.

Parts joined equal one stream: counts, bins and ranges exactly, moments to rounding, quantiles within the sketch's error.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from runtime.bundle.profile import FeatureReference
from runtime.monitoring.items import Items, make_items, names_of
from runtime.monitoring.layout import Feature, Kind, columns
from runtime.monitoring.moments import Moments, Numbers
from runtime.monitoring.quantiles import Quantiles, has_sketches, make_quantiles
from runtime.monitoring.reference import Baseline, count_outside
from runtime.tensors import Array

Counts = npt.NDArray[np.int64]

UNKNOWN_BOUNDS: Final = (-1e6, 1e6)
"""Of a fixed histogram where neither a schema nor a reference says where values lie."""


class NumberSummary:
    """Of one feature that is a number."""

    def __init__(self, feature: Feature, reference: FeatureReference, *, use_sketches: bool) -> None:
        self._feature = feature
        self._edges = np.asarray(reference.edges, np.float64)
        self.rows = 0
        self.missing = 0
        """NaN."""
        self.not_finite = 0
        """Infinities."""
        self.out_of_schema = 0
        self.moments = Moments()
        self.counts: Counts = np.zeros(len(reference.counts), np.int64)
        self.quantiles: Quantiles | None = make_quantiles(*_bounds(reference), use_sketches=use_sketches)
        """None: left out to save bytes."""

    def update(self, values: Numbers | list[Any]) -> None:
        """Takes one value a row."""
        values = np.asarray(values, np.float64)
        self.rows += len(values)
        finite = values[np.isfinite(values)]
        if len(finite) != len(values):
            missing = int(np.isnan(values).sum())
            self.missing += missing
            self.not_finite += len(values) - len(finite) - missing
        if not finite.size:
            return
        self.out_of_schema += count_outside(self._feature, finite)
        self.moments = self.moments.merged(Moments.of(finite))
        places = np.searchsorted(self._edges, finite, side="right")
        self.counts += np.bincount(places, minlength=len(self.counts))
        if self.quantiles is not None:
            self.quantiles.update(finite)

    def merge(self, other: FeatureSummary) -> None:
        """Takes what `other`, of the same bins, has seen."""
        assert isinstance(other, NumberSummary), "the same baseline, so the same kind"
        self.rows += other.rows
        self.missing += other.missing
        self.not_finite += other.not_finite
        self.out_of_schema += other.out_of_schema
        self.moments = self.moments.merged(other.moments)
        self.counts += other.counts
        if other.quantiles is None or self.quantiles is None:
            # Half a stream's quantiles would pass for the whole's.
            if other.moments.count:
                self.quantiles = None
        elif other.quantiles.kind == self.quantiles.kind:
            self.quantiles.merge(other.quantiles)
        else:
            self.quantiles = None

    def deciles(self) -> Numbers | None:
        """Least, nine tenths, greatest; None where they are not known."""
        if self.quantiles is None or not self.quantiles.count:
            return None
        return self.quantiles.at(np.linspace(0.0, 1.0, 11))


class CategorySummary:
    """Of one feature that is a category."""

    def __init__(self, reference: FeatureReference, *, use_sketches: bool) -> None:
        self._place = {name: at for at, name in enumerate(reference.categories)}
        self._place |= dict.fromkeys(reference.known, len(reference.categories))
        self._unseen = len(reference.categories) + (0 if reference.is_open else 1)
        self._is_open = reference.is_open
        self.rows = 0
        self.missing = 0
        """Empty values."""
        self.not_finite = 0
        self.out_of_schema = 0
        """Never seen in the reference; 0 where an unseen value says nothing."""
        self.counts: Counts = np.zeros(len(reference.counts), np.int64)
        self.items: Items = make_items(use_sketches=use_sketches)

    def update(self, values: Numbers | list[Any]) -> None:
        """Takes one value a row."""
        self.rows += len(values)
        named = names_of(list(values))
        self.missing += named.pop("", 0)
        unseen = 0
        for name, count in named.items():
            place = self._place.get(name, self._unseen)
            self.counts[place] += count
            if place == self._unseen:
                unseen += count
        if not self._is_open:
            self.out_of_schema += unseen
        self.items.update(named)

    def merge(self, other: FeatureSummary) -> None:
        """Takes what `other`, of the same categories, has seen."""
        assert isinstance(other, CategorySummary), "the same baseline, so the same kind"
        self.rows += other.rows
        self.missing += other.missing
        self.out_of_schema += other.out_of_schema
        self.counts += other.counts
        self.items.merge(other.items)


FeatureSummary = NumberSummary | CategorySummary


class Summary:
    """Of a window of rows of one model. Not thread-safe."""

    def __init__(self, baseline: Baseline, *, use_sketches: bool | None = None) -> None:
        sketches = has_sketches() if use_sketches is None else use_sketches
        self.baseline = baseline
        self.rows = 0
        self.features: dict[str, FeatureSummary] = {
            feature.name: empty(feature, reference, use_sketches=sketches)
            for feature, reference in zip(baseline.features, baseline.references, strict=True)
        }

    def update(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> None:
        """Takes rows as the model got and answered them."""
        self.update_columns(columns(self.baseline.features, inputs, outputs))

    def update_columns(self, values: Mapping[str, Numbers | list[Any]]) -> None:
        """Takes the values of each feature."""
        self.rows += max((len(value) for value in values.values()), default=0)
        for name, value in values.items():
            if name in self.features:
                self.features[name].update(value)

    def merge(self, other: Summary) -> None:
        """Takes what `other` has seen; `ValueError` unless both count by the same baseline."""
        if other.baseline is not self.baseline and other.baseline.key != self.baseline.key:
            raise ValueError(
                f"statistics of baseline {other.baseline.key} do not join those of {self.baseline.key}: "
                "another bundle, version or bins"
            )
        self.rows += other.rows
        for name, mine in self.features.items():
            mine.merge(other.features[name])


def empty(feature: Feature, reference: FeatureReference, *, use_sketches: bool) -> FeatureSummary:
    """Of one feature, nothing seen yet."""
    if feature.kind is Kind.NUMBER:
        return NumberSummary(feature, reference, use_sketches=use_sketches)
    return CategorySummary(reference, use_sketches=use_sketches)


def restated(reference: FeatureReference, seen: FeatureSummary) -> FeatureReference:
    """A reference of the same bins that says how `seen` lay."""
    counted: dict[str, Any] = {
        "rows": seen.rows,
        "missing": seen.missing,
        "not_finite": seen.not_finite,
        "out_of_schema": seen.out_of_schema,
        "counts": tuple(seen.counts.tolist()),
    }
    if isinstance(seen, NumberSummary):
        tenths = seen.deciles()
        counted |= {
            "mean": seen.moments.mean if seen.moments.count else None,
            "std": seen.moments.std if seen.moments.count else None,
            "deciles": () if tenths is None else tuple(tenths.tolist()),
        }
    return reference.model_copy(update=counted)


def _bounds(reference: FeatureReference) -> tuple[float, float]:
    """Where a fixed histogram has its bins: what was declared and seen, and half as much to each side."""
    known = [
        v for v in (reference.low, reference.high, *reference.deciles[:1], *reference.deciles[-1:]) if v is not None
    ]
    if not known:
        return UNKNOWN_BOUNDS
    low, high = min(known), max(known)
    room = (high - low) / 2 or max(abs(low) / 2, 0.5)
    return low - room, high + room
