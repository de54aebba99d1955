"""What a person should hear of rows that are answered all the same: values that are no numbers, or far from what a model knows.

On the wire they are answered without a word too, as the protocol has no place for one; a file of rows has a summary. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from runtime.row_files.block import Group, InputSpec
from runtime.tensors import Array

# Of a range's width: 1.0000001 in 0..1 is a rounding, no mistake of whoever made the file.
SLACK: Final = 1e-6


@dataclass(frozen=True, slots=True)
class Oddities:
    """Of one group of rows."""

    non_finite: tuple[tuple[int, str], ...] = ()
    """Rows with a NaN or an infinity, by number, and what of them."""
    out_of_range: tuple[int, ...] = ()
    """Other rows with a value outside the range that the manifest declares, by number."""
    first_out_of_range: str = ""
    """What is wrong with the first of those."""


def oddities(specs: Sequence[InputSpec], group: Group) -> Oddities:
    """Looks at every value once for its least and once for its greatest; by row only where these are odd."""
    non_finite: dict[int, str] = {}
    outside: dict[int, str] = {}
    for spec in specs:
        value = group.inputs.get(spec.name)
        if value is None or value.dtype.hasobject or value.dtype.kind == "b" or not value.size:
            continue
        if _is_plain(value, spec.value_range):
            continue
        least, greatest = _extremes(value)
        is_finite = np.isfinite(least) & np.isfinite(greatest)
        for at in np.flatnonzero(~is_finite):
            count = int((~np.isfinite(value[at])).sum())
            what = f"input {spec.name!r} holds {count} value{'s' if count > 1 else ''} of NaN or infinity"
            non_finite.setdefault(group.rows[at], what)
        if spec.value_range is not None:
            low, high = spec.value_range
            lowest, highest = _tolerated(spec.value_range)
            for at in np.flatnonzero(is_finite & ((least < lowest) | (greatest > highest))):
                what = f"input {spec.name!r} goes from {least[at]:g} to {greatest[at]:g}, the manifest says {low:g} to {high:g}"
                outside.setdefault(group.rows[at], what)
    only_outside = {row: what for row, what in outside.items() if row not in non_finite}
    first = min(only_outside, default=None)
    return Oddities(
        tuple(sorted(non_finite.items())),
        tuple(sorted(only_outside)),
        "" if first is None else f"row {first}: {only_outside[first]}",
    )


def _is_plain(value: Array, value_range: tuple[float, float] | None) -> bool:
    """Whether nothing is odd about any row: to look at all of them at once costs a fifth of what looking by row does."""
    with np.errstate(invalid="ignore"):
        least, greatest = float(value.min()), float(value.max())
    lowest, highest = (-math.inf, math.inf) if value_range is None else _tolerated(value_range)
    return math.isfinite(least) and math.isfinite(greatest) and lowest <= least and greatest <= highest


def _tolerated(value_range: tuple[float, float]) -> tuple[float, float]:
    low, high = value_range
    slack = SLACK * (high - low)
    return low - slack, high + slack


def _extremes(value: Array) -> tuple[Array, Array]:
    """Each row's least and greatest value as float64; NaN where there is one in it."""
    flat = value.reshape(len(value), -1)
    with np.errstate(invalid="ignore"):
        return flat.min(axis=1).astype(np.float64), flat.max(axis=1).astype(np.float64)
