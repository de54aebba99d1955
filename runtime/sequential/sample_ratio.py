"""Whether traffic is split as planned: an e-process against the planned shares.

Lindon and Malek, "Anytime-valid inference for multinomial count data", NeurIPS 2022 (arXiv:2011.03567): the
likelihood under a Dirichlet mixture around the plan, against the plan.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import exp, lgamma, log
from typing import Any, Final, Self

# How close to the plan the mixture lies: tightest for splits that are some points off, such as 50 planned and 45 seen.
CONCENTRATION: Final = 100.0


class SampleRatio:
    """Counts by arm; evidence that they do not follow the planned shares, which add up to 1."""

    def __init__(self, shares: Sequence[float]) -> None:
        if len(shares) < 2 or min(shares) <= 0 or abs(sum(shares) - 1) > 1e-9:
            raise ValueError(f"planned shares are {list(shares)}; expected two or more over 0 that add up to 1")
        self.shares = tuple(shares)
        self.counts = [0] * len(shares)

    def observe(self, arm: int) -> None:
        """Takes in one assignment, by the arm's place in `shares`."""
        self.counts[arm] += 1

    @property
    def e_value(self) -> float:
        """The evidence that the split is another one."""
        total = lgamma(CONCENTRATION) - lgamma(CONCENTRATION + sum(self.counts))
        for share, count in zip(self.shares, self.counts, strict=True):
            prior = CONCENTRATION * share
            total += lgamma(prior + count) - lgamma(prior) - count * log(share)
        return exp(min(total, 700.0))

    def to_state(self) -> dict[str, Any]:
        """Everything, in types that JSON has."""
        return {"shares": list(self.shares), "counts": list(self.counts)}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """The one that `to_state` was asked of."""
        made = cls(state["shares"])
        made.counts = list(state["counts"])
        return made
