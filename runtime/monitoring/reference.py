"""What live rows are compared with: each feature's reference, from rows of the bundle or from the first rows seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final, Literal

import numpy as np

from runtime.bundle.profile import FeatureReference
from runtime.monitoring.items import names_of
from runtime.monitoring.layout import Feature, Kind
from runtime.monitoring.moments import Moments, Numbers

BINS: Final = 16
"""Of equal reference mass. More bins cost power on shifts and need more rows each; fewer hide what happens inside one."""
MAX_CATEGORIES: Final = 30
MAX_KNOWN: Final = 200
"""Distinct values of a category; above it is an identifier, and a new one no news."""
MIN_ROWS: Final = 50
_TENTHS: Final = np.linspace(0.0, 1.0, 11)


@dataclass(frozen=True, slots=True)
class Baseline:
    """A model's features and how each lay; what two processes must share for their statistics to be joined."""

    model: str
    version: int
    source: Literal["bundle", "first rows", "none"]
    features: tuple[Feature, ...]
    references: tuple[FeatureReference, ...]

    @property
    def rows(self) -> int:
        """Rows that the references stand on."""
        return max((reference.rows for reference in self.references), default=0)

    @property
    def key(self) -> str:
        """A digest of what statistics are counted by: bins and categories, not how the reference lay in them."""
        parts = [
            (f.name, f.kind, f.take, f.low, f.high, r.edges, r.categories, r.known, r.is_open)
            for f, r in zip(self.features, self.references, strict=True)
        ]
        return blake2b(repr((self.model, self.version, parts)).encode(), digest_size=12).hexdigest()


def make_baseline(
    model: str,
    version: int,
    features: Sequence[Feature],
    values: Mapping[str, Numbers | list[Any]],
    source: Literal["bundle", "first rows"] = "bundle",
) -> Baseline:
    """From the values of each feature (`layout.columns`); a feature without values is left out."""
    kept = tuple(feature for feature in features if feature.name in values)
    return Baseline(model, version, source, kept, tuple(refer(f, values[f.name]) for f in kept))


def baseline_of(
    model: str, version: int, features: Sequence[Feature], references: Mapping[str, FeatureReference]
) -> Baseline:
    """From references that a profile holds; features that it does not hold are left out."""
    kept = tuple(f for f in features if f.name in references and references[f.name].kind == f.kind)
    return Baseline(model, version, "bundle", kept, tuple(references[f.name] for f in kept))


def refer(feature: Feature, values: Numbers | list[Any]) -> FeatureReference:
    """The reference of one feature."""
    if feature.kind is Kind.CATEGORY:
        return _refer_categories(feature, list(values))
    numbers = np.asarray(values, np.float64)
    finite = numbers[np.isfinite(numbers)]
    moments = Moments.of(finite)
    edges = equal_mass_edges(finite)
    counts = np.bincount(np.searchsorted(edges, finite, side="right"), minlength=len(edges) + 1)
    missing = int(np.isnan(numbers).sum())
    return FeatureReference(
        tensor=feature.tensor,
        role=feature.role.value,
        take=feature.take,
        kind="number",
        rows=len(numbers),
        missing=missing,
        not_finite=len(numbers) - len(finite) - missing,
        out_of_schema=count_outside(feature, finite),
        low=feature.low,
        high=feature.high,
        edges=tuple(edges.tolist()),
        counts=tuple(counts.tolist()),
        mean=moments.mean if moments.count else None,
        std=moments.std if moments.count else None,
        deciles=tuple(np.quantile(np.clip(finite, -1e140, 1e140), _TENTHS).tolist()) if moments.count else (),
    )


def count_outside(feature: Feature, finite: Numbers) -> int:
    """How many lie beyond the declared bounds, by more than rounding."""
    if feature.low is None or feature.high is None:
        return 0
    slack = (feature.high - feature.low) * 1e-6
    return int(np.count_nonzero((finite < feature.low - slack) | (finite > feature.high + slack)))


def equal_mass_edges(finite: Numbers, bins: int = BINS) -> Numbers:
    """Inner edges of `bins` bins that hold the same share each, fewer where values repeat.

    A value that stands alone (a constant, a flag, a zero that is padding) gets a bin: its edge lies on it and one just above.
    What lies below the least and above the greatest gets one too, empty in the reference: few rows there are much.
    """
    if not finite.size:
        return np.array([], np.float64)
    edges = np.unique(np.quantile(finite, np.arange(1, bins) / bins, method="higher"))
    values, counts = np.unique(finite, return_counts=True)
    heavy = values[counts >= max(2, finite.size / bins)]
    outer = [finite.min(), np.nextafter(finite.max(), np.inf)]
    edges = np.unique(np.concatenate([edges, heavy, np.nextafter(heavy, np.inf), outer]))
    return edges if len(edges) <= 2 * bins else edges[np.linspace(0, len(edges) - 1, 2 * bins).astype(int)]


def _refer_categories(feature: Feature, values: list[Any]) -> FeatureReference:
    named = names_of(values)
    missing = named.pop("", 0)
    ranked = sorted(named.items(), key=lambda pair: (-pair[1], pair[0]))
    # A new combination of known answers is no news either.
    is_open = len(ranked) > MAX_KNOWN or feature.take == "joint"
    # A bin needs some rows before a share of it says something.
    binned = [name for name, count in ranked[:MAX_CATEGORIES] if count >= 5]
    known = [] if is_open else [name for name, _ in ranked if name not in binned]
    others = sum(count for name, count in ranked if name not in binned)
    return FeatureReference(
        tensor=feature.tensor,
        role=feature.role.value,
        take=feature.take,
        kind="category",
        rows=len(values),
        missing=missing,
        not_finite=0,
        out_of_schema=0,
        categories=tuple(binned),
        known=tuple(known),
        is_open=is_open,
        counts=(*(named[name] for name in binned), others, 0),
    )
