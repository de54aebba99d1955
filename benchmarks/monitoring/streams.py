"""The streams that detectors are compared on: made from a seed by numpy alone, so any environment makes the same.

A run is a reference and a stream of rows with one feature that changes at row `CHANGE_ROW`, or none. Numbers are standard
normal; the category has eight values of unequal shares.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

REFERENCE_ROWS = 10_000
ROWS = 10_000
CHANGE_ROW = 2_000
SHARES = (0.30, 0.20, 0.15, 0.12, 0.10, 0.07, 0.04, 0.02)


@dataclass(frozen=True)
class Change:
    """What happens to the first feature at `CHANGE_ROW`."""

    name: str
    features: int = 10
    shift: float = 0.0
    scale: float = 1.0
    swapped: float = 0.0
    missing: float = 0.0
    is_category: bool = False

    @property
    def is_null(self) -> bool:
        """Whether nothing happens."""
        return (self.shift, self.scale, self.swapped, self.missing) == (0.0, 1.0, 0.0, 0.0)


NULLS = (
    Change("no drift, 1 feature", 1),
    Change("no drift, 10 features", 10),
    Change("no drift, 100 features", 100),
)
CHANGES = (
    Change("mean + 0.1 sd", shift=0.1),
    Change("mean + 0.25 sd", shift=0.25),
    Change("mean + 0.5 sd", shift=0.5),
    Change("mean + 1 sd", shift=1.0),
    Change("scale x 1.5", scale=1.5),
    Change("5 % category swap", swapped=0.05, is_category=True),
    Change("5 % missing", missing=0.05),
)


def make_run(change: Change, seed: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """(reference, stream), each [row, feature] of float64; a category stands as its number in the first column."""
    rng = np.random.default_rng([seed, change.features])
    reference = rng.normal(size=(REFERENCE_ROWS, change.features))
    stream = rng.normal(size=(ROWS, change.features))
    late = slice(CHANGE_ROW, None)
    if change.is_category:
        reference[:, 0] = rng.choice(len(SHARES), REFERENCE_ROWS, p=SHARES)
        stream[:, 0] = rng.choice(len(SHARES), ROWS, p=SHARES)
        # Five of a hundred rows, all of the first value, become the last.
        first = np.flatnonzero(stream[late, 0] == 0) + CHANGE_ROW
        chosen = rng.random(len(first)) < change.swapped / SHARES[0]
        stream[first[chosen], 0] = len(SHARES) - 1
    stream[late, 0] = stream[late, 0] * change.scale + change.shift
    if change.missing:
        gone = rng.random(ROWS - CHANGE_ROW) < change.missing
        stream[CHANGE_ROW:, 0][gone] = np.nan
    return reference, stream
