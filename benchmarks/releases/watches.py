"""Checks of S1, S2, S5 and S6 through `GuardWatch` itself: random split, every guard's own code, judged every 50 requests."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from math import exp

import numpy as np

from benchmarks.releases.latencies import CASES, S6_REQUESTS, STABLE, Latencies, floor_of
from benchmarks.releases.outcomes import NEVER, Ints, Row, row
from benchmarks.releases.rules import WINDOW
from cloud_gateway.guards import Action, Arm, GuardSettings, GuardWatch, LabelledObservation, Metric, Observation

ALPHA = 0.05
OURS = "Edgeward, GuardWatch"
LABELLED_REQUESTS = 30_000
TIMES_FOR_A_RATE = 3
"""A small rate beside its bar takes more runs to be known than a median does."""


def hits_of_watch(
    guards: list[GuardSettings],
    runs: int,
    requests: int,
    share: float,
    stable: tuple[float, Latencies],
    candidate: tuple[float, Latencies],
    seed: int,
) -> Ints:
    """Requests of the candidate until each run rolled back. Arms: error rate and latencies."""
    hits = np.full(runs, NEVER)
    for run in range(runs):
        rng = np.random.default_rng([seed, run])
        watch = GuardWatch(guards, ALPHA, share)
        is_candidate = rng.random(requests) < share
        drawn, normal = rng.random(requests), rng.standard_normal(requests)
        for at in range(requests):
            errors, latencies = candidate if is_candidate[at] else stable
            arm = Arm.CANDIDATE if is_candidate[at] else Arm.STABLE
            latency_s = latencies.median_s * exp(latencies.sigma * normal[at])
            watch.observe(Observation(arm, bool(drawn[at] < errors), latency_s, f"{run}-{at}"))
            if at % WINDOW == WINDOW - 1 and watch.judge().action is Action.ROLLBACK:
                hits[run] = int(is_candidate[: at + 1].sum())
                break
    return hits


def whole_watch(runs: int, seed: int) -> Iterator[Row]:
    """S1 and S2 once more, with a plan of three guards at a share of 50 % and of 20 %."""
    guards = [
        GuardSettings(metric=Metric.ERROR_RATE, margin=0.01),
        GuardSettings(metric=Metric.LATENCY, margin=0.1),
        GuardSettings(metric=Metric.LATENCY, margin=0.1, quantile=0.5),
    ]
    for share in (0.5, 0.2):
        requests = round(2000 / share)
        for base, harm in ((0.05, 0.05), (0.05, 0.08)):
            times = TIMES_FOR_A_RATE if base == harm else 1
            hits = hits_of_watch(guards, times * runs, requests, share, (base, STABLE), (harm, STABLE), seed)
            case = f"three guards, {share:.0%} of the traffic, {base:.0%} → {harm:.0%}"
            yield row("S1" if base == harm else "S2", OURS, case, hits, None if base == harm else 802.0)


def one_guard(runs: int, seed: int) -> Iterator[Row]:
    """S2 with one guard: what the random split costs against pairs that always fit."""
    guards = [GuardSettings(metric=Metric.ERROR_RATE, margin=0.01)]
    for base, harm, floor in ((0.05, 0.08, 802.0), (0.01, 0.03, 562.0)):
        hits = hits_of_watch(guards, runs, 8000, 0.5, (base, STABLE), (harm, STABLE), seed)
        yield row("S2", OURS, f"{base:.0%} → {harm:.0%}", hits, floor)


def slower_candidate(runs: int, seed: int) -> Iterator[Row]:
    """S6: p99 is 20 % higher; requests of the candidate until rollback."""
    for case, latencies in CASES:
        guards = [GuardSettings(metric=Metric.LATENCY, margin=0.1)]
        hits = hits_of_watch(guards, runs, 2 * S6_REQUESTS, 0.5, (0.0, STABLE), (0.0, latencies), seed)
        yield row("S6", OURS, case, hits, floor_of(latencies))


def late_labels_of_watch(runs: int, seed: int) -> Iterator[Row]:
    """S5 through the guard on losses: labels of 5 % of the requests, each up to 1,000 requests late and out of order."""
    for kind, better, worse, floor in (
        ("1 % / 4 %", 0.01, 0.04, 311 / 0.05 + 500),
        ("2.5 % / 2.5 %", 0.025, 0.025, None),
    ):
        hits = np.array([_late_labels(np.random.default_rng([seed, 55, run]), better, worse) for run in range(runs)])
        yield row("S5", OURS, f"{kind}, 5% labelled, 0 to 1000 late", hits, floor)


def _late_labels(rng: np.random.Generator, better: float, worse: float) -> int:
    """The request at which one run rolled back, or NEVER."""
    watch = GuardWatch([GuardSettings(metric=Metric.LOSS, margin=0.02)], ALPHA, 0.0)
    on_their_way: list[tuple[int, float, float]] = []
    for at in range(LABELLED_REQUESTS):
        if rng.random() < 0.05:
            kind = rng.random()
            losses = (0.0, 1.0) if kind < worse else (1.0, 0.0) if kind < worse + better else (0.0, 0.0)
            heapq.heappush(on_their_way, (at + int(rng.integers(1001)), *losses))
        has_come = False
        while on_their_way and on_their_way[0][0] <= at:
            _, stable, candidate = heapq.heappop(on_their_way)
            watch.observe(LabelledObservation(stable, candidate))
            has_come = True
        if has_come and watch.judge().action is Action.ROLLBACK:
            return at + 1
    return NEVER
