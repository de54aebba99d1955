"""How large an error rate may be that showed so many errors: the exact binomial upper bound (Clopper and Pearson, 1934)."""

from __future__ import annotations

import math
from typing import Final

# Bisection of [0, 1]: 60 halvings are below a double's precision.
_HALVINGS: Final = 60


def upper_bound(errors: int, rows: int, delta: float) -> float:
    """The largest error rate under which `errors` or fewer of `rows` have a chance of at least `delta`; 1 without rows."""
    if rows == 0 or errors >= rows:
        return 1.0
    low, high = errors / rows, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if at_most(errors, rows, middle) >= delta:
            low = middle
        else:
            high = middle
    return high


def rows_needed(risk: float, delta: float) -> int:
    """How many rows without any error it takes to say that the error rate is at most `risk`."""
    return math.ceil(math.log(delta) / math.log1p(-risk))


def at_most(errors: int, rows: int, rate: float) -> float:
    """The chance of `errors` or fewer among `rows`, each wrong with `rate` (0..1, both excluded)."""
    if rate >= 1.0:
        return 0.0
    if rate <= 0.0:
        return 1.0
    log_rate, log_right = math.log(rate), math.log1p(-rate)
    terms = [
        math.lgamma(rows + 1) - math.lgamma(k + 1) - math.lgamma(rows - k + 1) + k * log_rate + (rows - k) * log_right
        for k in range(errors + 1)
    ]
    highest = max(terms)
    return min(math.exp(highest) * math.fsum(math.exp(term - highest) for term in terms), 1.0)
