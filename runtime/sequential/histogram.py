"""Quantiles of positive values from a histogram of fixed logarithmic bins: O(1) memory, mergeable, the same everywhere.

For the latency test: requests of either arm count as slow when they are over stable's quantile, as far as it was known before
they were looked at. If the candidate's quantiles are no higher, its slow ones are no more, whatever the quantile was
estimated to be: so the estimate's error costs power, never validity (on sequential tests of quantiles by indicators: Howard
and Ramdas, "Sequential estimation of quantiles", Bernoulli 2022, arXiv:1906.09712).
"""

from __future__ import annotations

from collections.abc import Mapping
from math import floor, log
from typing import Any, Final, Self

import numpy as np

# 2 % wide bins from a microsecond to three hours.
LOWEST_S: Final = 1e-6
GROWTH: Final = 1.02
BINS: Final = 1170


class LogHistogram:
    """How many values fell into each bin; values outside all bins count in the nearest."""

    def __init__(self) -> None:
        self.count = 0
        self._bins = np.zeros(BINS, np.int64)

    def observe(self, value: float) -> None:
        """Takes in one value."""
        at = floor(log(max(value, LOWEST_S) / LOWEST_S) / log(GROWTH))
        self._bins[min(at, BINS - 1)] += 1
        self.count += 1

    def quantile(self, share: float) -> float:
        """The middle of the bin below whose end `share` of the values lie; NaN while there is none."""
        if self.count == 0:
            return float("nan")
        at = int(np.searchsorted(np.cumsum(self._bins), share * self.count))
        return float(LOWEST_S * GROWTH ** (min(at, BINS - 1) + 0.5))

    def to_state(self) -> dict[str, Any]:
        """The bins that are not empty, in types that JSON has."""
        (filled,) = np.nonzero(self._bins)
        return {"bins": [[int(at), int(self._bins[at])] for at in filled]}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """The one that `to_state` was asked of."""
        made = cls()
        for at, number in state["bins"]:
            made._bins[at] = number
        made.count = int(made._bins.sum())
        return made
