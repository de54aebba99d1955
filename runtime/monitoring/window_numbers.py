"""A window's statistics as a bounded set of numbers, for metrics and charts: of inputs and of outputs. Pure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from runtime.monitoring.layout import Feature, Role
from runtime.monitoring.summary import CategorySummary, NumberSummary, Summary
from runtime.monitoring.verdict import bin_label

MAX_NUMBERS: Final = 96
"""Of a window: the page's history holds 512 series of everything together."""
MAX_SHARES: Final = 10
"""Of one category, the values most frequent in its reference."""
QUANTILES: Final = (("p10", 0.1), ("p50", 0.5), ("p90", 0.9))
_SCORES: Final = ("class", "confidence", "entropy")
_JOINT: Final = "joint"


@dataclass(frozen=True, slots=True)
class WindowNumbers:
    """By feature, and by statistic or category."""

    values: list[tuple[str, str, float]] = field(default_factory=list)
    """Mean and quantiles of numbers."""
    missing: list[tuple[str, float]] = field(default_factory=list)
    """Share of rows without a value, or with one that is not finite."""
    shares: list[tuple[str, str, float]] = field(default_factory=list)
    """Share of rows with each value of a category."""

    def __len__(self) -> int:
        return len(self.values) + len(self.missing) + len(self.shares)


def window_numbers(window: Summary, first: Collection[str] = (), most: int = MAX_NUMBERS) -> WindowNumbers:
    """Feature by feature while there is room: those in `first` (that drift), scores, inputs, other outputs."""
    told = WindowNumbers()
    order = sorted(window.baseline.features, key=lambda feature: (feature.name not in first, _rank(feature)))
    references = dict(
        zip((feature.name for feature in window.baseline.features), window.baseline.references, strict=True)
    )
    for feature in order:
        seen = window.features[feature.name]
        if not seen.rows:
            continue
        values: list[tuple[str, str, float]] = []
        shares: list[tuple[str, str, float]] = []
        if isinstance(seen, NumberSummary) and seen.moments.count:
            values.append((feature.name, "mean", seen.moments.mean))
            if seen.quantiles is not None and seen.quantiles.count:
                at = seen.quantiles.at(np.array([q for _, q in QUANTILES])).tolist()
                values += [(feature.name, word, value) for (word, _), value in zip(QUANTILES, at, strict=True)]
        elif isinstance(seen, CategorySummary):
            reference, named = references[feature.name], max(int(seen.counts.sum()), 1)
            chosen = [*range(min(len(reference.categories), MAX_SHARES))]
            if not reference.is_open:
                chosen.append(len(seen.counts) - 1)
            shares = [(feature.name, bin_label(reference, at), seen.counts[at] / named) for at in chosen]
        if len(told) + len(values) + len(shares) + 1 > most:
            break
        told.values.extend(values)
        told.shares.extend(shares)
        told.missing.append((feature.name, (seen.missing + seen.not_finite) / seen.rows))
    return told


def _rank(feature: Feature) -> int:
    if feature.role is Role.INPUT:
        return 1
    return 0 if feature.take in _SCORES else 3 if feature.take == _JOINT else 2
