"""S6 for many runs at once: the guard on a tail of latencies, with arms that get a request in turn; as `Comparison` does it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from benchmarks.releases.latencies import CASES, S6_REQUESTS, SLOW, STABLE, Latencies, floor_of
from benchmarks.releases.outcomes import NEVER, Floats, Ints, Row, row
from benchmarks.releases.rules import WINDOW, WindowRule, peeking_z
from cloud_gateway.guards import GuardSettings, Metric
from runtime.sequential import BettingMixtures
from runtime.sequential.histogram import BINS, GROWTH, LOWEST_S

ALPHA: Final = 0.05
GUARD: Final = GuardSettings(metric=Metric.LATENCY, margin=0.1)
OURS: Final = "Edgeward"
# Together: their histograms stay in the processor's cache.
RUNS_AT_ONCE: Final = 500


def slower_candidate(runs: int, seed: int) -> Iterator[Row]:
    """p99 is 20 % higher; requests of the candidate until rollback."""
    for number, (case, latencies) in enumerate(CASES):
        told = []
        for begun in range(0, runs, RUNS_AT_ONCE):
            rng = np.random.default_rng([seed, 66, number, begun])
            told.append(rolled_back(latencies, min(runs - begun, RUNS_AT_ONCE), S6_REQUESTS, rng))
        yield row("S6", OURS, case, np.concatenate(told), floor_of(latencies))
        yield from others(case, latencies, runs, seed)


def rolled_back(latencies: Latencies, runs: int, pairs: int, rng: np.random.Generator) -> Ints:
    """Pairs until each run rolled back, or NEVER. Draws a value of stable and one of the candidate for each run at a time."""
    seen, mixture = Histograms(runs), BettingMixtures(0.0, -1.0, runs)
    hits = np.full(runs, NEVER)
    for pair in range(pairs):
        stable, candidate = drawn(STABLE, runs, rng), drawn(latencies, runs, rng)
        if pair * (1.0 - GUARD.quantile) >= 1.0:
            slow = seen.quantiles(GUARD.quantile)
            harm = (candidate > slow * (1.0 + GUARD.tolerated)).astype(np.float64) - (stable > slow)
            mixture.observe(harm)
            hits[(hits == NEVER) & (mixture.e_values >= 1.0 / ALPHA)] = pair + 1
            if (hits != NEVER).all():
                break
        seen.observe(stable)
    return hits


def drawn(latencies: Latencies, runs: int, rng: np.random.Generator) -> Floats:
    """One for each run, in seconds."""
    told: Floats = latencies.median_s * np.exp(latencies.sigma * rng.standard_normal(runs))
    return told


def others(case: str, latencies: Latencies, runs: int, seed: int) -> Iterator[Row]:
    """Flagger's `request-duration` and Argo's likewise: p99 of a window at most 10 % over stable's; a z-test of slow requests."""
    rng = np.random.default_rng([seed, 6])
    windows = S6_REQUESTS // WINDOW
    over = np.zeros((runs, windows), np.int64)
    counts = np.zeros((2, runs, windows), np.int64)
    for window in range(windows):
        candidate = np.exp(rng.standard_normal((runs, WINDOW)) * latencies.sigma) * latencies.median_s
        stable = np.exp(rng.standard_normal((runs, WINDOW)) * STABLE.sigma) * STABLE.median_s
        over[:, window] = np.quantile(candidate, 0.99, axis=1) > SLOW * 1.1
        counts[0, :, window], counts[1, :, window] = (candidate > SLOW).sum(1), (stable > SLOW).sum(1)
    at = WINDOW * np.arange(1, windows + 1)
    yield row("S6", "z-test at every look", case, peeking_z(counts[0].cumsum(1), counts[1].cumsum(1), at))
    for rule in (
        WindowRule("Flagger, p99 at most 10 % over", 0.0, 5, 5),
        WindowRule("Argo, p99 at most 10 % over", 0.0, 4, 7),
    ):
        back, promoted = rule.apply(over)
        yield row("S6", rule.name, case, back, None, {"promoted": float((promoted != NEVER).mean())})


class Histograms:
    """`LogHistogram`, one for each run, asked for one quantile only."""

    def __init__(self, runs: int) -> None:
        self._bins = np.zeros((runs, BINS), np.int16)
        self._rows = np.arange(runs)
        self._at = np.zeros(runs, np.int64)
        self._below = np.zeros(runs, np.int64)
        self._count = 0

    def observe(self, values: Floats) -> None:
        """One for each run."""
        at = (np.log(np.maximum(values, LOWEST_S) / LOWEST_S) / np.log(GROWTH)).astype(np.int64)
        at = np.minimum(at, BINS - 1)
        self._bins[self._rows, at] += 1
        self._below += at < self._at
        self._count += 1

    def quantiles(self, share: float) -> Floats:
        """Of each run; always of the same share."""
        wanted = share * self._count
        while (down := np.flatnonzero((self._at > 0) & (self._below >= wanted))).size:
            self._at[down] -= 1
            self._below[down] -= self._bins[down, self._at[down]]
        while True:
            more = self._below + self._bins[self._rows, self._at]
            up = np.flatnonzero((self._at < BINS - 1) & (more < wanted))
            if not up.size:
                break
            self._below[up] = more[up]
            self._at[up] += 1
        told: Floats = LOWEST_S * np.power(GROWTH, self._at.astype(np.float64) + 0.5)
        return told
