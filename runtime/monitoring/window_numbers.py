"""A window's statistics as a bounded set of numbers, for metrics and charts: of inputs and of outputs. Pure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from runtime.bundle.profile import FeatureReference
from runtime.monitoring.layout import Feature, Role
from runtime.monitoring.summary import CategorySummary, FeatureSummary, NumberSummary, Summary
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

    def add(self, number: _Number) -> None:
        """Puts one where it belongs."""
        if number.word is None:
            self.missing.append((number.feature, number.value))
        elif number.is_share:
            self.shares.append((number.feature, number.word, number.value))
        else:
            self.values.append((number.feature, number.word, number.value))


@dataclass(frozen=True, slots=True)
class _Number:
    feature: str
    word: str | None
    """The statistic or the category; None: the share that is missing."""
    value: float
    is_share: bool = False


def window_numbers(window: Summary, first: Collection[str] = (), most: int = MAX_NUMBERS) -> WindowNumbers:
    """What there is room for: all of the features in `first` (that drift) and of scores, then of every other one the mean, or the
    share that says most of a category, before any has its other numbers. Inputs come before other outputs.
    """
    told = WindowNumbers()
    references = {
        feature.name: reference
        for feature, reference in zip(window.baseline.features, window.baseline.references, strict=True)
    }
    order = sorted(window.baseline.features, key=lambda feature: (feature.name not in first, _rank(feature)))
    whole: list[_Number] = []
    steps: list[list[_Number]] = [[], [], []]
    for feature in order:
        seen = window.features[feature.name]
        if not seen.rows:
            continue
        parts = _parts(feature.name, seen, references[feature.name])
        is_whole = feature.name in first or not _rank(feature)
        for step, part in zip([whole] * 3 if is_whole else steps, parts, strict=True):
            step += part
    for number in [*whole, *steps[0], *steps[1], *steps[2]][:most]:
        told.add(number)
    return told


def _parts(
    name: str, seen: FeatureSummary, reference: FeatureReference
) -> tuple[list[_Number], list[_Number], list[_Number]]:
    """What says most, what is missing, and the rest."""
    found: list[_Number] = []
    if isinstance(seen, NumberSummary) and seen.moments.count:
        found.append(_Number(name, "mean", seen.moments.mean))
        if seen.quantiles is not None and seen.quantiles.count:
            at = seen.quantiles.at(np.array([q for _, q in QUANTILES])).tolist()
            found += [_Number(name, word, value) for (word, _), value in zip(QUANTILES, at, strict=True)]
    elif isinstance(seen, CategorySummary):
        named = max(int(seen.counts.sum()), 1)
        unseen = [] if reference.is_open else [len(seen.counts) - 1]
        chosen = [*unseen, *range(min(len(reference.categories), MAX_SHARES))]
        found = [_Number(name, bin_label(reference, at), seen.counts[at] / named, is_share=True) for at in chosen]
    missing = _Number(name, None, (seen.missing + seen.not_finite) / seen.rows)
    return found[:1], [missing], found[1:]


def _rank(feature: Feature) -> int:
    if feature.role is Role.INPUT:
        return 1
    return 0 if feature.take in _SCORES else 3 if feature.take == _JOINT else 2
