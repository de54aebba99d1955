"""The highest rate of arrivals at which a target keeps its promise: which rate to try next, and when to stop. Pure functions.

Bracketing (double until it breaks, halve until it holds), bisection between the two, then confirmation: the answer is only
believed after it held again, for longer and with other arrivals. A rate that fails its confirmation counts as broken. Where the
first rate breaks, one request at a time is tried before lower ones: where half of those take longer than the bound, no rate is low
enough. What else breaks the promise there says nothing of lower rates, since the next request goes as soon as the last is answered.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.promise import Slo
from benchmarks.statistics import needed_samples

DEFAULT_START_QPS = 50.0
# Below one request in ten seconds a target is broken rather than slow; p99 takes 1,324 of them, which are 3.7 hours. A target that
# is too slow one at a time is never asked so slowly, and a rate that breaks the promise ends as soon as that is certain.
LOWEST_QPS = 0.1
# One request after the other, each when the one before is answered: nobody waits for company, but the rate is whatever comes of it.
ONE_AT_A_TIME = 0.0
# A Python generator sends a few thousand requests a second; what lies far beyond is never reached.
HIGHEST_QPS = 100_000.0
# Held and broken rates this close are one answer: two runs on one machine differ by as much.
RESOLUTION = 0.05
# A search on a quiet machine takes about a dozen; one that takes so many is chasing noise.
MAX_PROBES = 40
# How much longer a confirmation lasts than a probe.
CONFIRM_FACTOR = 2.0
# So that a probe with a few samples too slow can still hold at 99 % confidence: the minimum allows for one.
SPARE_SAMPLES = 2.0


@dataclass(frozen=True, slots=True)
class Probe:
    """A rate that was tried."""

    qps: float
    """Or `ONE_AT_A_TIME`."""
    is_held: bool
    reason: str
    is_confirmation: bool = False
    is_generator_limit: bool = False
    """The generator was saturated: nothing is known of the server, and no higher rate can be tried from here."""
    is_too_slow: bool = False
    """One at a time half of the requests took longer than the bound: no rate is low enough."""

    def to_dict(self) -> dict[str, Any]:
        """The fields in types that `json` writes."""
        return {
            "qps": self.qps,
            "is_held": self.is_held,
            "reason": self.reason,
            "is_confirmation": self.is_confirmation,
            "is_generator_limit": self.is_generator_limit,
            "is_too_slow": self.is_too_slow,
        }


@dataclass(frozen=True, slots=True)
class Try:
    """Decision: try this rate next."""

    qps: float
    """Or `ONE_AT_A_TIME`."""
    is_confirmation: bool
    reason: str

    def __str__(self) -> str:
        if self.qps == ONE_AT_A_TIME:
            return "trying one at a time"
        return f"{'confirming' if self.is_confirmation else 'trying'} {self.qps:g}/s"


@dataclass(frozen=True, slots=True)
class Found:
    """Decision: the search is over. `qps` is None when no rate held."""

    qps: float | None
    is_lower_bound: bool
    """The target may do better: the generator or the limit of the search ended it."""
    reason: str

    def __str__(self) -> str:
        if self.qps is None:
            return f"none found: {self.reason}"
        return f"{'at least ' if self.is_lower_bound else ''}{self.qps:g}/s: {self.reason}"


def next_step(probes: Sequence[Probe], start_qps: float = DEFAULT_START_QPS) -> Try | Found:
    """What to do after `probes`, in the order in which they were made."""
    if not probes:
        return Try(start_qps, False, "where to start")
    broken = _broken(probes)
    ceiling = _lowest(broken)
    floor = highest_held(probes)
    if len(probes) >= MAX_PROBES:
        return Found(
            None, False, f"no rate held again within {MAX_PROBES} probes: the machine is too noisy; measure longer"
        )
    if floor == 0.0:
        if ceiling == ONE_AT_A_TIME:
            return Found(None, False, f"one at a time, {broken[-1].reason}")
        if ceiling <= LOWEST_QPS:
            return Found(None, False, broken[-1].reason)
        if not any(probe.qps == ONE_AT_A_TIME for probe in probes):
            return Try(ONE_AT_A_TIME, False, f"{ceiling:g}/s did not hold")
        return Try(_neat(max(ceiling / 2, LOWEST_QPS)), False, f"{ceiling:g}/s did not hold")
    if ceiling == math.inf and floor < HIGHEST_QPS:
        return Try(_neat(min(floor * 2, HIGHEST_QPS)), False, f"{floor:g}/s held")
    between = _neat(math.sqrt(floor * ceiling)) if ceiling < math.inf else floor
    if ceiling / floor > 1 + RESOLUTION and floor < between < ceiling < math.inf:
        return Try(between, False, f"{floor:g}/s held, {ceiling:g}/s did not")
    if not any(probe.is_held and probe.is_confirmation and probe.qps == floor for probe in probes):
        return Try(floor, True, f"whether {floor:g}/s holds again, for longer")
    if ceiling == math.inf:
        return Found(floor, True, f"no higher rate was tried than {HIGHEST_QPS:g}/s")
    stopper = min((probe for probe in broken if probe.qps == ceiling), key=lambda probe: not probe.is_generator_limit)
    return Found(floor, stopper.is_generator_limit, f"at {ceiling:g}/s: {stopper.reason}")


def highest_held(probes: Sequence[Probe]) -> float:
    """The highest rate that held and lies below all that broke; 0 where none does."""
    # A rate that broke makes nothing of a higher one that held: that was luck, or the machine was quieter.
    ceiling = _lowest(_broken(probes))
    return max((probe.qps for probe in probes if probe.is_held and probe.qps < ceiling), default=0.0)


def _broken(probes: Sequence[Probe]) -> list[Probe]:
    # One at a time may be faster than the first rate: who is throttled, or refuses what is beyond a limit, may keep lower ones.
    return [probe for probe in probes if not probe.is_held and (probe.qps != ONE_AT_A_TIME or probe.is_too_slow)]


def _lowest(probes: Sequence[Probe]) -> float:
    return min((probe.qps for probe in probes), default=math.inf)


def duration_s(qps: float, slo: Slo, least_s: float, *, is_confirmation: bool) -> float:
    """How long to try a rate: at least `least_s`, until there are samples enough, and until an overload would show.

    A target that is too slow by the share r is r * t seconds behind after t seconds, which breaks the promise when the
    requests of the first `share` of the time are not enough to keep it: t = bound / (r * share).
    """
    enough_s = requests_to_judge(slo) / qps
    overload_s = slo.bound_ms / 1000 / (RESOLUTION * slo.share)
    return max(least_s, enough_s, overload_s) * (CONFIRM_FACTOR if is_confirmation else 1.0)


def requests_to_judge(slo: Slo) -> int:
    """So many say whether a promise holds: 1,324 for p99."""
    return math.ceil(SPARE_SAMPLES * needed_samples(slo.share))


def _neat(qps: float) -> float:
    """Rounded to three digits: a rate that people can repeat."""
    return float(f"{qps:.3g}")
