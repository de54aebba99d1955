"""How many more values a test is likely to need: an estimate for people who wait, not a promise."""

from __future__ import annotations

from math import ceil, log
from typing import Final

# What a mixture pays for not knowing the best bet, in nats: ln(8) at most, about half where neighbours win as well.
MIXTURE_COST: Final = 1.0


def observations_needed(e_value: float, alpha: float, gap: float, variance: float) -> int:
    """Values until an e-process that is at `e_value` reaches 1 / alpha, if their mean is `gap` beyond the null.

    The best bet on values of variance v grows by about gap^2 / (2 (v + gap^2)) each (Kelly 1956; Waudby-Smith and Ramdas
    2023): exact for small gaps.
    """
    if gap <= 0 or variance < 0:
        raise ValueError(f"gap is {gap} and variance {variance}; expected a gap over 0 and a variance from 0 on")
    missing = log(1.0 / alpha) - log(max(e_value, 1e-12))
    if missing <= 0:
        return 0
    paid = MIXTURE_COST if e_value <= 1.0 else 0.0
    growth = gap**2 / (2.0 * (variance + gap**2))
    return ceil((missing + paid) / growth)
