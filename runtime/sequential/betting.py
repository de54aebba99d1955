"""The test that guards rest on: bets against "the mean of bounded values is at most so much", many sizes of bet at once.

Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting", JRSS B 2023 (arXiv:2010.09686): for values
of at least `low` whose mean, given the past, is at most `null`, 1 + bet * (value - null) / (null - low) with a bet in [0, 1)
has a mean of at most 1, whatever the distribution and however it changes. Products are an e-process, and so is a mixture of
them. The mixture is over a few fixed bets with some capital held as cash, and a little flows back between them (Herbster and
Warmuth, "Tracking the best expert", 1998), so that harm which begins late is noticed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

# The best bet is about gap / variance: 0.25 for an error rate of 5 against 8 %, 0.5 for 1 against 3 %, 0.6 for 1/4 % discordant
# pairs, 0.2 for non-inferiority at 2 % with 10 % discordant; below 0.05 tests take tens of thousands of values. Between two of
# them the better one loses 14 % of the growth at most (quadratic approximation). Medians to a decision are 1.14 to 1.25 times the
# information floor (10,000 simulated runs, benchmarks/results/releases-*.md); twelve bets took 1.1 to 1.3 times (1,000 runs).
BETS: Final = (0.02, 0.05, 0.1, 0.2, 0.35, 0.55, 0.85)
CASH: Final = 0.1
"""Share of the capital that is not bet: evidence against harm never costs more than the rest."""
FLOW: Final = 5e-5
"""Share of the capital dealt out anew with each value: costs a factor of exp(-0.05) over a thousand values."""
# Enough for any alpha; a number that cannot overflow when it is multiplied by what one value may win.
MOST_WEALTH: Final = 1e100

_BETS: Final = (0.0, *BETS)
_A, _B, _C, _D, _E, _F, _G = BETS
_KEPT: Final = 1.0 - FLOW
_SHARES: Final = (CASH, *([(1.0 - CASH) / len(BETS)] * len(BETS)))

Floats = NDArray[np.float64]
_COLUMN_OF_BETS: Final[Floats] = np.array(_BETS)[:, None]
_COLUMN_OF_SHARES: Final[Floats] = np.array(_SHARES)[:, None]


class BettingMixture:
    """E-process against "the mean is at most `null`" for values from `low` up. For "at least", give it all with the other sign."""

    def __init__(self, null: float, low: float) -> None:
        _check(null, low)
        self.null = null
        self.low = low
        self._span = null - low
        self._wealth = list(_SHARES)

    def observe(self, value: float) -> None:
        """Takes in one value; below `low` it is clipped."""
        won = max((value - self.null) / self._span, -1.0)
        cash, a, b, c, d, e, f, g = self._wealth
        # Written out for each bet: a request of a canary costs several of these, and loops take twice as long.
        a *= 1.0 + won * _A
        b *= 1.0 + won * _B
        c *= 1.0 + won * _C
        d *= 1.0 + won * _D
        e *= 1.0 + won * _E
        f *= 1.0 + won * _F
        g *= 1.0 + won * _G
        total = cash + a + b + c + d + e + f + g
        if total > MOST_WEALTH:
            cash, a, b, c, d, e, f, g = (min(one, MOST_WEALTH) for one in (cash, a, b, c, d, e, f, g))
            total = cash + a + b + c + d + e + f + g
        dealt = FLOW * total * _SHARES[1]
        self._wealth = [
            cash * _KEPT + FLOW * total * CASH,
            a * _KEPT + dealt,
            b * _KEPT + dealt,
            c * _KEPT + dealt,
            d * _KEPT + dealt,
            e * _KEPT + dealt,
            f * _KEPT + dealt,
            g * _KEPT + dealt,
        ]

    def restart(self) -> None:
        """Deals the capital out anew, as when circumstances change: the evidence stays, the opinion which bet is best does not."""
        total = self.e_value
        self._wealth = [total * share for share in _SHARES]

    @property
    def e_value(self) -> float:
        """The evidence."""
        return sum(self._wealth)

    def to_state(self) -> dict[str, Any]:
        """Everything, in types that JSON has."""
        return {"null": self.null, "low": self.low, "wealth": list(self._wealth)}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """The one that `to_state` was asked of."""
        made = cls(state["null"], state["low"])
        made._wealth = list(state["wealth"])
        return made


class BettingMixtures:
    """Many of them side by side, for simulations: the same numbers, one for each of `count` runs."""

    def __init__(self, null: float, low: float, count: int) -> None:
        _check(null, low)
        self.null = null
        self.low = low
        # [bet, run]: numpy's loops run over the last axis, and eight bets make short ones.
        self._wealth: Floats = np.repeat(_COLUMN_OF_SHARES, count, axis=1)

    def observe(self, values: ArrayLike) -> None:
        """Takes in one value for each run; NaN: none for that run."""
        won = np.maximum((np.asarray(values, np.float64) - self.null) / (self.null - self.low), -1.0)
        has_one = ~np.isnan(won)
        before = None if has_one.all() else self._wealth[:, ~has_one]
        self._wealth *= 1.0 + won * _COLUMN_OF_BETS
        np.minimum(self._wealth, MOST_WEALTH, out=self._wealth)
        dealt = FLOW * self._wealth.sum(0)
        self._wealth *= 1.0 - FLOW
        self._wealth += dealt * _COLUMN_OF_SHARES
        if before is not None:
            self._wealth[:, ~has_one] = before

    @property
    def e_values(self) -> Floats:
        """The evidence of each run."""
        total: Floats = self._wealth.sum(0)
        return total


def _check(null: float, low: float) -> None:
    if not low < null:
        raise ValueError(f"the null is {null}, the lowest value {low}; expected a null above it")
