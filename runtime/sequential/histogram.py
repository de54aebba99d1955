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

# 2 % wide bins from a microsecond to three hours.
LOWEST_S: Final = 1e-6
GROWTH: Final = 1.02
BINS: Final = 1170
_LOG_GROWTH: Final = log(GROWTH)


class LogHistogram:
    """How many values fell into each bin; values outside all bins count in the nearest."""

    def __init__(self) -> None:
        self.count = 0
        self._bins = [0] * BINS
        self._share, self._at, self._below = 0.0, 0, 0
        """The share that was asked for last, its bin, and how many values lie below that: whoever asks mostly asks for one."""

    def observe(self, value: float) -> None:
        """Takes in one value."""
        at = min(floor(log(max(value, LOWEST_S) / LOWEST_S) / _LOG_GROWTH), BINS - 1)
        self._bins[at] += 1
        self.count += 1
        if at < self._at:
            self._below += 1

    def quantile(self, share: float) -> float:
        """The middle of the bin below whose end `share` of the values lie; NaN while there is none."""
        if self.count == 0:
            return float("nan")
        if share != self._share:
            self._share, self._at, self._below = share, 0, 0
        at, below, wanted = self._at, self._below, share * self.count
        while at > 0 and below >= wanted:
            at -= 1
            below -= self._bins[at]
        while at < BINS - 1 and below + self._bins[at] < wanted:
            below += self._bins[at]
            at += 1
        self._at, self._below = at, below
        return float(LOWEST_S * GROWTH ** (at + 0.5))

    def to_state(self) -> dict[str, Any]:
        """The bins that are not empty, in types that JSON has."""
        return {"bins": [[at, number] for at, number in enumerate(self._bins) if number]}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """The one that `to_state` was asked of."""
        made = cls()
        for at, number in state["bins"]:
            made._bins[at] = number
        made.count = sum(made._bins)
        return made
