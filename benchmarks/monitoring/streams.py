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
class Scenario:
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
    Scenario("no drift, 1 feature", 1),
    Scenario("no drift, 10 features", 10),
    Scenario("no drift, 100 features", 100),
)
CHANGES = (
    Scenario("mean + 0.1 sd", shift=0.1),
    Scenario("mean + 0.25 sd", shift=0.25),
    Scenario("mean + 0.5 sd", shift=0.5),
    Scenario("mean + 1 sd", shift=1.0),
    Scenario("scale x 1.5", scale=1.5),
    Scenario("5 % category swap", swapped=0.05, is_category=True),
    Scenario("5 % missing", missing=0.05),
)


def make_run(scenario: Scenario, seed: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """(reference, stream), each [row, feature] of float64; a category stands as its number in the first column."""
    rng = np.random.default_rng([seed, scenario.features])
    reference = rng.normal(size=(REFERENCE_ROWS, scenario.features))
    stream = rng.normal(size=(ROWS, scenario.features))
    late = slice(CHANGE_ROW, None)
    if scenario.is_category:
        reference[:, 0] = rng.choice(len(SHARES), REFERENCE_ROWS, p=SHARES)
        stream[:, 0] = rng.choice(len(SHARES), ROWS, p=SHARES)
        # Five of a hundred rows, all of the first value, become the last.
        first = np.flatnonzero(stream[late, 0] == 0) + CHANGE_ROW
        chosen = rng.random(len(first)) < scenario.swapped / SHARES[0]
        stream[first[chosen], 0] = len(SHARES) - 1
    stream[late, 0] = stream[late, 0] * scenario.scale + scenario.shift
    if scenario.missing:
        gone = rng.random(ROWS - CHANGE_ROW) < scenario.missing
        stream[CHANGE_ROW:, 0][gone] = np.nan
    return reference, stream
