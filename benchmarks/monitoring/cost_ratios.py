"""From turns of servers to what one arm costs beside another, with an interval. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from benchmarks.significance import RESAMPLES, Interval, expanded_tail
from benchmarks.statistics import order_index

Rounds = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Sample:
    """One turn of one arm."""

    round: int
    arm: str
    requests: int
    wall_s: float
    p50_ms: float
    cpu_s: float
    """Of the server; of a turn that is on, with what the recorder's thread used in its round."""


@dataclass(frozen=True, slots=True)
class Turns:
    """Of one arm, [round]."""

    requests: Numbers
    wall_s: Numbers
    p50_ms: Numbers
    cpu_s: Numbers

    @classmethod
    def of(cls, samples: Sequence[Sample], arm: str) -> Turns:
        """Its turns, by round."""
        chosen = sorted((s for s in samples if s.arm == arm), key=lambda s: s.round)
        return cls(*(np.array([getattr(s, name) for s in chosen], np.float64) for name in cls.__slots__))


FIGURES: Final[Mapping[str, Callable[[Turns, Rounds], Numbers]]] = {
    # Sums, not medians: windows are closed in a few turns alone, and those are to be paid as well.
    "cpu_ms_per_1000": lambda turns, at: turns.cpu_s[at].sum(-1) / turns.requests[at].sum(-1) * 1e6,
    "per_s": lambda turns, at: turns.requests[at].sum(-1) / turns.wall_s[at].sum(-1),
    # Geometric means, so that their ratio is that of the pairs of each round: a machine that changes its speed between rounds moves
    # medians over rounds from one speed to the other, and pairs not at all.
    "p50_ms": lambda turns, at: np.exp(np.log(turns.p50_ms[at]).mean(-1)),
}
"""Each of chosen rounds [..., round]."""


def totals(samples: Sequence[Sample], arms: Sequence[str]) -> dict[str, dict[str, float]]:
    """By arm and figure."""
    turns = {arm: Turns.of(samples, arm) for arm in arms}
    return {
        arm: {name: float(read(its, np.arange(len(its.requests)))) for name, read in FIGURES.items()}
        for arm, its in turns.items()
    }


def ratio(samples: Sequence[Sample], arm: str, to: str, seed: int = 1) -> dict[str, Interval]:
    """By figure that of `arm` over that of `to`, with a 95 % interval: whole rounds are drawn with replacement.

    As in `significance.bootstrap`, its ends move out as far as Student's t would with so few rounds.
    """
    mine, theirs = Turns.of(samples, arm), Turns.of(samples, to)
    rounds = len(mine.requests)
    draws = np.random.default_rng(seed).integers(0, rounds, (RESAMPLES, rounds))
    tail = expanded_tail(rounds)
    found = {}
    for name, read in FIGURES.items():
        every = np.arange(rounds)
        seen = np.sort(read(mine, draws) / read(theirs, draws))
        ends = (float(seen[order_index(RESAMPLES, end)]) for end in (tail, 1 - tail))
        found[name] = Interval(float(read(mine, every) / read(theirs, every)), *ends)
    return found


def verdict(figure: str, found: Interval, bar: float) -> str:
    """Held or missed where the whole interval of the share that is lost says so; otherwise not shown."""
    least, most = (1 - found.high, 1 - found.low) if figure == "per_s" else (found.low - 1, found.high - 1)
    return "held" if most <= bar else "MISSED" if least > bar else "not shown"


def to_dict(found: Mapping[str, Interval]) -> dict[str, Any]:
    """As JSON."""
    return {name: {"ratio": one.value, "low": one.low, "high": one.high} for name, one in found.items()}
