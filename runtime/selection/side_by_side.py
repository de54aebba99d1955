"""Candidates that take turns, compared pass by pass: what a moment of the machine does to all of them cancels out. Pure.

A machine that others use has moments: the same call takes twice as long while a neighbour has a core, for tenths of a second or
for seconds. The median of turns from two kinds of moment is one or the other by chance. Of 30 turns of one thread and of two
(keyword spotting in int8, ratio 1.07, 2 shared cores, load 6, November 2026) two medians named the slower one in 26 % of
windows, the median of the ratios in 6 %; of fp32 and int8 of ResNet-8 in 3 % and none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from statistics import median

from runtime.selection.latency import summarise

Turns = Mapping[int, float]
"""The median milliseconds of a turn, by the pass that it was of."""


@dataclass(frozen=True, slots=True)
class Lag:
    """How much longer one takes than another, as a share of the other's time: the median of the passes that both took part in."""

    share: float
    error: float
    """The standard error of `share`; 0.0 with fewer than four passes."""
    passes: int


def lag_of(one: Turns, other: Turns) -> Lag | None:
    """That of `one` behind `other`, negative where it is ahead; None where they share no pass."""
    shared = [[ms / other[at]] for at, ms in one.items() if at in other]
    if not shared:
        return None
    seen = summarise(shared)
    return Lag(seen.median_ms - 1, seen.error * seen.median_ms, len(shared))


def levelled_ms(turns: Mapping[str, Turns]) -> dict[str, float]:
    """Of each what a call takes at the median moment of the passes that all took part in; {} where there is no such pass.

    Of two they are as far apart as the median of their ratios says.
    """
    if not turns:
        return {}
    shared = sorted(set.intersection(*(set(of) for of in turns.values())))
    if not shared:
        return {}
    moments = {at: prod(of[at] for of in turns.values()) ** (1 / len(turns)) for at in shared}
    usual_ms = median(moments.values())
    return {key: usual_ms * median(of[at] / moments[at] for at in shared) for key, of in turns.items()}
