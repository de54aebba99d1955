"""What of a summary may leave the device, and how finely: no text of a row, no number of a single row as it was.

Counts, means and spreads are of many rows (`LEAST_ROWS` at least) and travel as they are. A category travels by name only where
the bundle's reference knows it, for then everybody who has the bundle knows it too. Numbers that stood in one row (range, the
items of a sketch) are told to three digits of their distance from the reference's median. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from runtime.bundle.profile import FeatureReference
from runtime.monitoring.items import MAX_HELD, Item, Items
from runtime.monitoring.moments import LARGEST

LEAST_ROWS: Final = 20
"""Of one row the mean is the row, of two their spread gives both away; among twenty a person is hard to find."""
_PER_CENT: Final = 0.01
"""Further away than three digits can round back: half a unit of the third is at most 0.5 %."""


def told_names(items: Items, reference: FeatureReference, most: int) -> tuple[list[Item], int]:
    """The most frequent values that the reference knows, and how often one that is not among them came at most."""
    known = {*reference.categories, *reference.known}
    ranked = items.top(MAX_HELD)
    told = [item for item in ranked if item.name in known][:most]
    left_out = max((item.high for item in ranked if item not in told), default=0)
    return told, max(items.blind, left_out)


def middle_of(reference: FeatureReference) -> float:
    """Where most rows of the reference lie."""
    return reference.deciles[len(reference.deciles) // 2] if reference.deciles else 0.0


def coarse(values: Sequence[float], middle: float) -> list[float]:
    """Each to three digits of its distance from `middle`. What was in order stays so: decimal rounding has no seams."""
    return [_clipped(middle + float(f"{value - middle:.2e}")) for value in values]


def coarse_range(low: float, high: float, middle: float) -> tuple[float, float]:
    """A range of such numbers that holds low..high."""
    return _beyond(low, middle, -1), _beyond(high, middle, 1)


def _beyond(value: float, middle: float, side: int) -> float:
    (told,) = coarse([value], middle)
    if (told - value) * side >= 0:
        return told
    (told,) = coarse([value + side * _PER_CENT * abs(value - middle)], middle)
    return told


def _clipped(value: float) -> float:
    return min(max(value, -LARGEST), LARGEST)
