"""The latencies of S6: stable's, and candidates whose p99 is 20 % higher."""

from __future__ import annotations

from dataclasses import dataclass
from math import erfc, exp, log, sqrt
from typing import Final

import numpy as np

from benchmarks.releases.outcomes import information_floor

S6_REQUESTS: Final = 5000
"""Of each arm."""
Z_99: Final = 2.3263478740408408


@dataclass(frozen=True, slots=True)
class Latencies:
    """Log-normal: a median and the spread of its logarithm."""

    median_s: float = 0.02
    sigma: float = 0.5

    def at(self, z: float) -> float:
        """The quantile at `z` standard deviations."""
        return self.median_s * exp(self.sigma * z)

    def share_over(self, limit: float) -> float:
        """Of the requests."""
        return 0.5 * erfc(log(limit / self.median_s) / self.sigma / sqrt(2))


STABLE: Final = Latencies()
SLOW: Final = STABLE.at(Z_99)
# p99 is 20 % higher in both: everything slower, or the tail alone.
SLOWER: Final = Latencies(0.024, 0.5)
HEAVIER: Final = Latencies(0.02, 0.5 + log(1.2) / Z_99)
CASES: Final = (("no difference", STABLE), ("everything 20 % slower", SLOWER), ("p99 alone", HEAVIER))


def floor_of(latencies: Latencies) -> float | None:
    """The information floor of the share of requests over stable's p99; None: there is nothing to find."""
    if latencies is STABLE:
        return None
    share = latencies.share_over(SLOW)
    return information_floor(np.array([0.01, 0.99]), np.array([share, 1 - share]))
