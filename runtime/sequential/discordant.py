"""Pairs of which one side is right and the other wrong: McNemar's test, at any time, in closed form.

Of discordant pairs, the first side is the wrong one with probability 1/2 at most if it is no worse. The e-process is the
likelihood of the pairs under a Beta(1, 1) mixture of probabilities over 1/2, against 1/2: Robbins, "Statistical methods
related to the law of the iterated logarithm", 1970; Ville's beta-binomial martingale as in Howard, Ramdas, McAuliffe and
Sekhon, Annals of Statistics 2021 (arXiv:1810.08240), cut to one side.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import exp, lgamma, log
from typing import Any, Self


@dataclass(slots=True)
class DiscordantPairs:
    """E-process against "the first side is no worse than the second"."""

    worse: int = 0
    """Pairs where the first side alone was wrong."""
    better: int = 0
    """Pairs where the second alone was."""
    _above_half: float = 0.5
    """Probability that a Beta(1 + worse, 1 + better) is over 1/2; kept by its recurrence, DLMF 8.17.20-21."""

    def observe(self, is_worse: bool) -> None:
        """Takes in one discordant pair; concordant ones say nothing."""
        a, b = self.worse + 1, self.better + 1
        step = exp(lgamma(a + b) - lgamma(a) - lgamma(b) - (a + b) * log(2.0))
        if is_worse:
            self._above_half += step / a
            self.worse += 1
        else:
            self._above_half -= step / b
            self.better += 1
        self._above_half = min(max(self._above_half, 0.0), 1.0)

    @property
    def e_value(self) -> float:
        """The evidence that the first side is worse."""
        n = self.worse + self.better
        log_mixture = lgamma(self.worse + 1) + lgamma(self.better + 1) - lgamma(n + 2) + n * log(2.0)
        return exp(min(log_mixture, 700.0)) * self._above_half / 0.5

    def to_state(self) -> dict[str, Any]:
        """Everything, in types that JSON has."""
        return asdict(self)

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """The one that `to_state` was asked of."""
        return cls(**state)
