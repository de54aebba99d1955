"""Candidates that take turns, compared pass by pass: what a moment of the machine does to all of them cancels out. Pure.

A machine that others use has moments: the same call takes twice as long while a neighbour has a core, for tenths of a second or
for seconds. The median of turns from two kinds of moment is one or the other by chance. Of 30 turns of one thread and of two
(keyword spotting in int8, ratio 1.07, 2 shared cores, load 6, November 2026) two medians named the slower one in 26 % of
windows, the median of the ratios in 6 %; of fp32 and int8 of ResNet-8 in 3 % and none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from statistics import median

from runtime.selection.latency import Latency, quantile, summarise

Turns = Mapping[int, float]
"""The median milliseconds of a turn, by the pass that it was of."""
Calls = Mapping[int, Sequence[float]]
"""All calls of a turn in milliseconds, by the pass that it was of."""


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


def told_beside(key: str, leader: str, calls: Mapping[str, Calls]) -> tuple[Latency, float] | None:
    """What `key` would have shown in all of the leader's passes, and the standard error of its lag; None where they share no pass.

    Who was dropped early saw other moments than who stayed: its median is the leader's, and its lag among all that took part in the
    passes the two shared, since a good turn of one and a bad one of the other are two of three ratios. So is its p95, by those of
    the turns; spread, turns and calls are its own, as is the p95 of who took part in every pass.
    """
    medians = {k: {at: median(turn) for at, turn in of.items()} for k, of in calls.items()}
    lag = lag_of(medians[key], medians[leader])
    if lag is None:
        return None
    own, first = (summarise(list(calls[k].values())) for k in (key, leader))
    median_ms = first.median_ms * _ratio_among(key, leader, medians)
    p95_ms = own.p95_ms
    if not calls[leader].keys() <= calls[key].keys():
        tails = {k: {at: quantile(sorted(turn), 0.95) for at, turn in of.items()} for k, of in calls.items()}
        p95_ms = first.p95_ms * _ratio_among(key, leader, tails)
    return replace(own, median_ms=median_ms, p95_ms=max(median_ms, p95_ms)), lag.error


def told_later(
    own: Sequence[Sequence[float]], beside: Sequence[Sequence[float]], usual_ms: float
) -> tuple[Latency, float]:
    """What turns would have shown earlier, when what took turns `beside` them took `usual_ms`, and the standard error of their lag.

    As many turns of both, one after the other; p95 is of its own calls, as much faster or slower as the median.
    """
    lag = lag_of(*({at: median(turn) for at, turn in enumerate(turns)} for turns in (own, beside)))
    assert lag is not None  # they share every pass
    seen = summarise(own)
    median_ms = usual_ms * (1 + lag.share)
    p95_ms = seen.p95_ms * median_ms / seen.median_ms
    return replace(seen, median_ms=median_ms, p95_ms=max(median_ms, p95_ms)), lag.error


def _ratio_among(key: str, leader: str, turns: Mapping[str, Turns]) -> float:
    """How many times the leader's time `key` takes, at the moments that all who took part in their common passes had."""
    shared = turns[key].keys() & turns[leader].keys()
    ms = levelled_ms({k: of for k, of in turns.items() if shared <= of.keys()})
    return ms[key] / ms[leader]


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
