"""What LoadGen computes: when its server scenario sends, and what its early stopping says of latencies. Pure functions.

Source: mlcommons/inference, loadgen/loadgen.cc (GenerateQueries, ScheduleDistribution) and results.cc (EarlyStopping).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from benchmarks.arrivals import Times
from benchmarks.statistics import Values, needed_samples

# mlperf.conf, `*.*.schedule_rng_seed`; std::mt19937 takes its lower 32 bits.
SCHEDULE_SEED = 16159082839903944936
SINGLE_STREAM_SHARE = 0.9
TAIL_SHARE = 0.99
"""Of multi-stream and server."""


def schedule(qps: float, duration_s: float, least: int, seed: int = SCHEDULE_SEED) -> Times:
    """When each query of the server scenario is due: nanoseconds after the start, the first at 0.

    Exponential gaps from std::mt19937, each cut to whole nanoseconds, until a query is due at or after `duration_s` and there
    are `least` queries. The same times to the nanosecond as LoadGen's where it is built with libstdc++ (Linux).
    """
    generator = np.random.RandomState(seed % 2**32)  # the Mersenne Twister, seeded as C++ seeds it
    due: list[int] = []
    now_ns = previous_ns = 0
    while previous_ns < duration_s * 1e9 or len(due) < least:
        # libstdc++ makes a double of two draws, the lower half first.
        low, high = (int(draw) for draw in generator.randint(0, 2**32, 2, dtype=np.uint32))
        due.append(now_ns)
        previous_ns = now_ns
        now_ns += int(-math.log(1.0 - (low + high * 2.0**32) / 2.0**64) / qps * 1e9)
    return np.array(due, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Estimate:
    """The percentile of a stream scenario that early stopping lets stand; `ms` is None with fewer than `needed` queries."""

    ms: float | None
    discarded: int
    """How many of the slowest are allowed above it."""
    needed: int


def early_stopping_estimate(latency_ms: Values, share: float) -> Estimate:
    """An upper bound of the percentile at 99 % confidence: the sample above which as few lie as n allows."""
    n = len(latency_ms)
    needed = needed_samples(share, 1)
    if n < needed:
        return Estimate(None, 0, needed)
    low, high = 1, n
    while high - low > 1:  # the most samples above the bound with which n is still enough
        middle = (low + high) // 2
        low, high = (middle, high) if needed_samples(share, middle) <= n else (low, middle)
    return Estimate(float(np.sort(latency_ms)[n - low]), low - 1, needed)


def is_server_run_kept(latency_ms: Values, bound_ms: float, share: float = TAIL_SHARE) -> bool:
    """Whether so many queries were fast enough that the percentile is within the bound at 99 % confidence."""
    over = int(np.count_nonzero(latency_ms > bound_ms))
    return over / max(len(latency_ms), 1) <= 1 - share and len(latency_ms) >= needed_samples(share, over)
