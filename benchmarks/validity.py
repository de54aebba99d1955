"""Whether a measurement can be believed: reasons that make it INVALID, and doubts that are said aloud. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.failures import MOST_FAILED
from benchmarks.samples import Samples
from benchmarks.scenarios import Scenario
from benchmarks.statistics import needed_samples

# How much of a latency may be the generator's own doing before the figure is about the generator.
TOLERATED_SHARE = 0.1
# Less than this is the operating system waking a thread, whatever the latency; beyond the median a time slice taken by another
# process, which is as long for the tenth request as for the hundredth: that too many wait for one, the median says.
TOLERATED_MS = {0.5: 1.0, 0.9: 10.0, 0.95: 10.0, 0.99: 10.0}
# Beyond this a reader is told, although the figures stand: the lag is part of the latency and only makes it look worse.
DOUBTFUL_MS = 2.0
# Python threads share one core's worth of interpreter; from here on the generator has no time left to be punctual.
SATURATED_CORES = 0.9
# An idle process wakes within 0.1 ms; later than this in the median, it got too little of the processor.
LATE_HEARTBEAT_MS = 1.0
BUSY_MACHINE = 0.95
_ELSE = "end what else runs here, or put the generator on another machine"
ADVICE = f"lower the rate, {_ELSE}"
ADVICE_OF_CLOSED = f"send more rows a request (--rows), {_ELSE}"
# Which sends one row a request, and refuses another number.
ADVICE_OF_SINGLE = f"measure several rows a request (--scenario multi), {_ELSE}"


@dataclass(frozen=True, slots=True)
class Effort:
    """What the machine and the generator did during the measurement."""

    generator_cores: float
    """CPU seconds of the generator by second; in process the engine's are in it."""
    heartbeat_ms: float
    """How late the generator's process wakes from sleep, in the median."""
    machine_share: float
    """Share of all cores' time in use, 0 to 1."""
    is_inproc: bool

    @classmethod
    def of(cls, spent: Mapping[str, Any], *, is_inproc: bool) -> Effort:
        """From what `generator.drive` says was spent."""
        cores = spent["cpu_s"] / max(spent["wall_s"], 1e-9)
        return cls(cores, spent["heartbeat_ms"], spent["machine_share"], is_inproc)


def invalid_reason(samples: Samples, is_ok: npt.NDArray[np.bool_], scenario: Scenario, effort: Effort) -> str | None:
    """Why the figures are not what they say they are, with what to try; None when they are."""
    if not len(samples):
        return "no request was sent; raise the duration"
    if not is_ok.any():
        return "no request was answered; see the errors"
    judge = _late_reason if scenario.is_open_loop else _busy_reason
    return judge(samples, scenario, effort)


def _busy_reason(samples: Samples, scenario: Scenario, effort: Effort) -> str | None:
    """Of a closed loop, where nothing is due: with no time left it measures itself, and its rate is its own highest."""
    if effort.is_inproc:
        return None
    tolerated = _tolerated_ms(samples, 0.5)
    if effort.generator_cores >= SATURATED_CORES:
        seen = f"it used {effort.generator_cores:.2f} cores (tolerated: less than {SATURATED_CORES:g})"
    elif effort.heartbeat_ms > tolerated:
        seen = f"it woke {effort.heartbeat_ms:.1f} ms late (tolerated: {tolerated:.1f} ms)"
    else:
        return None
    advice = ADVICE_OF_SINGLE if scenario.kind.shape.rows is None else ADVICE_OF_CLOSED
    return f"the generator is saturated: {seen}, so the target may be faster than this; {advice}"


def _late_reason(samples: Samples, scenario: Scenario, effort: Effort) -> str | None:
    """Of an open loop, where a request sent late is the generator's doing, unless all connections were in use."""
    lag = samples.lag_ms(scenario.in_flight)
    late = (samples.sent_ns - samples.planned_ns) / 1e6
    has_no_time = effort.generator_cores >= SATURATED_CORES or effort.heartbeat_ms >= LATE_HEARTBEAT_MS
    for share in _judged(samples):
        tolerated = _tolerated_ms(samples, share)
        if (seen := _quantile(lag, share)) > tolerated:
            return (
                f"the generator is saturated: its own lag is {seen:.1f} ms at {_name(share)} "
                f"(tolerated: {tolerated:.1f} ms); {ADVICE}"
            )
        # With every connection in use a slow target and a slow generator look alike, but for the generator's own pulse.
        if has_no_time and not effort.is_inproc and (seen := _quantile(late, share)) > tolerated:
            return (
                f"the generator is saturated: it sent {seen:.1f} ms late at {_name(share)} (tolerated: {tolerated:.1f} ms), used "
                f"{effort.generator_cores:.2f} cores and woke {effort.heartbeat_ms:.1f} ms late; {ADVICE}"
            )
    return None


def doubts(samples: Samples, is_ok: npt.NDArray[np.bool_], scenario: Scenario, effort: Effort) -> list[str]:
    """What a reader should know before believing the figures."""
    found = []
    failed = float((~is_ok).mean()) if len(samples) else 0.0
    if MOST_FAILED < failed < 1:  # all of them is no doubt, it is INVALID
        found.append(
            f"{failed:.0%} of the requests failed, and times and rates are of the others; see the errors before measuring longer"
        )
    if scenario.is_open_loop and len(samples):
        waited = float((samples.queued_ms(scenario.in_flight) > 0).mean())
        if waited > 0.01:
            found.append(
                f"{waited:.0%} of the requests waited because all {scenario.in_flight} connections were in use: the target is "
                "slower than the load, and its latency grows with the duration"
            )
        share = _judged(samples)[-1]
        lag_ms = _quantile(samples.lag_ms(scenario.in_flight), share)
        doubtful_ms = max(DOUBTFUL_MS, TOLERATED_SHARE * _quantile(samples.latency_ms, share))
        if doubtful_ms < lag_ms <= _tolerated_ms(samples, share):  # beyond that it is no doubt, it is INVALID
            found.append(f"the generator's own lag was {lag_ms:.1f} ms at {_name(share)}, and is part of the latency")
    if effort.machine_share > BUSY_MACHINE and not effort.is_inproc:
        found.append(
            f"the machine was {effort.machine_share:.0%} busy: generator and server may have taken cores from each other; "
            "use another machine for the load"
        )
    return found


def _judged(samples: Samples) -> list[float]:
    """The median, and the furthest percentile that so many requests tell: what lies beyond is decided by one late wake."""
    told = [share for share in TOLERATED_MS if len(samples) >= needed_samples(share)]
    return sorted({0.5, *told[-1:]})


def _tolerated_ms(samples: Samples, share: float) -> float:
    return max(TOLERATED_MS[share], TOLERATED_SHARE * _quantile(samples.latency_ms, share))


def _quantile(values: npt.NDArray[np.float64], share: float) -> float:
    return float(np.quantile(values, share))


def _name(share: float) -> str:
    return f"p{share * 100:g}"
