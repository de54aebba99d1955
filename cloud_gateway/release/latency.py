"""Quantiles of latencies in little memory: a count for every ten percent of growth, from a microsecond up."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

# A quantile is known within 5 % either way: the middle of a bucket of this width.
GROWTH: Final = 1.1
_LEAST_S: Final = 1e-6
_LOG_GROWTH: Final = math.log(GROWTH)
# Beyond 1,000 s nobody waits; what is over counts as that.
_LAST: Final = int(math.log(1e9) / _LOG_GROWTH)


class LatencyHistogram:
    """Takes seconds, tells quantiles."""

    def __init__(self) -> None:
        self.count = 0
        self._buckets: dict[int, int] = {}

    def observe(self, latency_s: float) -> None:
        """Takes one latency in."""
        at = 0 if latency_s <= _LEAST_S else min(int(math.log(latency_s / _LEAST_S) / _LOG_GROWTH), _LAST)
        self._buckets[at] = self._buckets.get(at, 0) + 1
        self.count += 1

    def quantile_s(self, share: float) -> float | None:
        """The latency that `share` of them do not exceed; None without any."""
        left = math.ceil(share * self.count)
        for at in sorted(self._buckets):
            left -= self._buckets[at]
            if left <= 0:
                return _LEAST_S * math.exp((at + 0.5) * _LOG_GROWTH)
        return None

    def describe(self) -> dict[str, float | None]:
        """For people and programs: p50 and p99 in milliseconds."""
        told = {name: self.quantile_s(share) for name, share in (("p50_ms", 0.5), ("p99_ms", 0.99))}
        return {name: None if value is None else round(value * 1e3, 4) for name, value in told.items()}

    def to_state(self) -> dict[str, int]:
        """Everything, in types that JSON has."""
        return {str(at): count for at, count in sorted(self._buckets.items())}

    @classmethod
    def from_state(cls, state: Mapping[str, int]) -> LatencyHistogram:
        """The one that `to_state` was asked of."""
        made = cls()
        made._buckets = {int(at): int(count) for at, count in state.items()}
        made.count = sum(made._buckets.values())
        return made
