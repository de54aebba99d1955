"""One server's p50 against another's, from rounds in which both had a turn. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Final

import numpy as np

from benchmarks.significance import Interval, bootstrap

BAR: Final = 0.05
"""What an active release may add to stable's p50."""


def against(mine: Sequence[Sequence[float]], base: Sequence[Sequence[float]]) -> Interval:
    """How many times as long: the median over rounds of the ratio of both p50s in a round, and its 95 % interval.

    `mine[round]` and `base[round]` are latencies in one unit. A machine that changes its speed between rounds changes both.
    """
    ratios = [np.array([median(one) / median(other)]) for one, other in zip(mine, base, strict=True)]
    return bootstrap(ratios, ratios, 0.5, lambda of_ratios, _: of_ratios, is_paired=True, seed=1)


def verdict(found: Interval, errors: int = 0) -> str:
    """Held or missed where the whole interval says so, and nothing failed; otherwise not shown."""
    if errors or found.low > 1 + BAR:
        return "missed"
    return "held" if found.high <= 1 + BAR else "not shown"
