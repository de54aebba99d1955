"""S8: a version for 500 devices in waves of 1, 5, 25 and 100 %; it fails on some of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import exp, log, sqrt
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.releases.outcomes import NEVER, Ints, Row, first_hits, row
from benchmarks.releases.rules import Z_95
from cloud_gateway.guards.verdict import Action
from cloud_gateway.guards.waves import WavePlan, WaveWatch
from runtime.sequential import failure_limits

DEVICES: Final = 500
TOGETHER: Final = 5
"""Devices that update at the same time, so that a stop comes too late for them."""
PLAN: Final = WavePlan()
SHARES: Final = (0.005, 0.01, 0.03, 0.05, 0.2)
OURS: Final = "Edgeward"
_WAVE_ENDS: Final = (0, 5, 25, 125)

Failing = NDArray[np.bool_]
Rule = Callable[[Failing], Ints]


def waves(runs: int, seed: int) -> Iterator[Row]:
    """Every rule on the same devices. Healthy: 1 % and 0.5 % fail for reasons of their own."""
    for share in SHARES:
        failing = np.random.default_rng([seed, 8, int(share * 1e4)]).random((runs, DEVICES)) < share
        for name, rule in (*RULES.items(), *_oracle(share)):
            stops = rule(failing)
            harmed = harmed_by(failing, stops)
            extra = {
                "harmed": float(harmed.mean()),
                "harmed_error": float(harmed.std() / sqrt(runs)),
                "harmed_p95": float(np.quantile(harmed, 0.95)),
                "harmed_all": share * DEVICES,
            }
            yield row("S8", name, f"{share:.1%} failing", stops, None, extra)


def harmed_by(failing: Failing, stops: Ints) -> Ints:
    """[run]: devices that failed among those that had the version; `stops`: how many had it, or NEVER."""
    had: Ints = np.where(stops == NEVER, failing.shape[1], stops)
    told: Ints = failing.cumsum(1)[np.arange(len(failing)), had - 1]
    return told


def by_limits(failing: Failing) -> Ints:
    """Edgeward's rule, `WaveWatch`, as `roll_out` has it: failures against the limits of the devices before them."""
    limits = failure_limits(PLAN.tolerated, PLAN.alpha)
    at = np.arange(1, failing.shape[1] + 1)
    return _at_groups_end(failing & (failing.cumsum(1) >= np.array([limits.at(int(count)) for count in at])))


def by_waves(failing: Failing) -> Ints:
    """Flagger and Argo know shares of failures and a threshold, here with a check once a wave has ended, and group by group in the
    last one: of the devices of this wave alone, as their windows are.
    """
    counts = failing.cumsum(1)
    ends = [end for end in range(TOGETHER, DEVICES + 1, TOGETHER) if end in _WAVE_ENDS or end >= _WAVE_ENDS[-1] + 50]
    began = [max(begin for begin in _WAVE_ENDS if begin < end) for end in ends]
    before = [np.zeros(len(failing), np.int64) if begin == 0 else counts[:, begin - 1] for begin in began]
    failed = np.stack([counts[:, end - 1] - less for end, less in zip(ends, before, strict=True)], 1)
    sizes = np.array(ends) - np.array(began)
    return first_hits(failed > 0.05 * sizes, np.array(ends))


def by_z(failing: Failing) -> Ints:
    """A z-test against what is tolerated, at the end of every group."""
    at = np.arange(TOGETHER, failing.shape[1] + 1, TOGETHER)
    share = failing.cumsum(1)[:, at - 1] / at
    tolerated = PLAN.tolerated
    return first_hits((share - tolerated) / np.sqrt(tolerated * (1 - tolerated) / at) > Z_95, at)


RULES: Final[dict[str, Rule]] = {
    OURS: by_limits,
    "Flagger or Argo, over 5 % of a wave failed": by_waves,
    "z-test at every report": by_z,
}


def _oracle(share: float) -> Iterator[tuple[str, Rule]]:
    """What one could do who is told the share beforehand: the likelihood ratio, with a limit that spends alpha by the end."""
    if share > PLAN.tolerated:
        yield "oracle that knows the share", lambda failing: _at_groups_end(failing & _is_likelier(failing, share))


def _is_likelier(failing: Failing, share: float) -> Failing:
    odds, even = log(share / PLAN.tolerated), log((1 - share) / (1 - PLAN.tolerated))
    at = np.arange(1, failing.shape[1] + 1)

    def limits(threshold: float) -> NDArray[np.float64]:
        told: NDArray[np.float64] = np.ceil((threshold - at * even) / (odds - even))
        return told

    low, high = 0.0, log(1 / PLAN.alpha)  # at the upper end Ville's inequality holds it to alpha
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if reach(limits(middle), PLAN.tolerated) > PLAN.alpha else (low, middle)
    assert exp(high) > 1.0, "a likelihood ratio under one is no evidence"
    told: Failing = failing.cumsum(1) >= limits(high)
    return told


def reach(limits: NDArray[np.float64], share: float) -> float:
    """Probability that the failures among the first n devices, `share` of which fail, reach `limits[n - 1]` for any n. Exact."""
    walk, reached = np.ones(1), 0.0
    for limit in limits.astype(int):
        walk = np.convolve(walk, (1 - share, share))
        reached += float(walk[limit:].sum())
        walk = walk[:limit]
    return reached


def _at_groups_end(is_too_many: Failing) -> Ints:
    """Whoever updates together with the device that stops it has the version already."""
    at = np.arange(1, is_too_many.shape[1] + 1)
    return first_hits(is_too_many, np.minimum(-(-at // TOGETHER) * TOGETHER, is_too_many.shape[1]))


def roll_out(failing: NDArray[np.bool_]) -> tuple[int, int]:
    """One fleet through `WaveWatch` itself: devices that had the version when it was stopped (or `NEVER`), and how many failed."""
    watch = WaveWatch(PLAN, len(failing))
    at = failed = 0
    while at < len(failing):
        group = failing[at : min(at + TOGETHER, watch.allowed)]
        for place, is_failure in enumerate(group, at + 1):
            if is_failure:
                watch.observe_failure(place)
            else:
                watch.observe_kept()
        at += len(group)
        failed += int(group.sum())
        if watch.decide().action is Action.ROLLBACK:
            return at, failed
    return NEVER, failed
