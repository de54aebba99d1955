"""S8: a version for 500 devices in waves of 1, 5, 25 and 100 %; it fails on some of them."""

from __future__ import annotations

from collections.abc import Iterator
from math import sqrt

import numpy as np

from benchmarks.releases.outcomes import NEVER, Row, row
from benchmarks.releases.rules import Z_95
from cloud_gateway.guards.verdict import Action
from cloud_gateway.guards.waves import WavePlan, WaveWatch

DEVICES = 500
TOGETHER = 5
"""Devices that update at the same time, so that a stop comes too late for them."""
RULES = ("Edgeward", "Flagger or Argo, over 5 % of a wave failed", "z-test at every report")


def waves(runs: int, seed: int) -> Iterator[Row]:
    """Every rule on the same devices. Healthy: 1 % and 0.5 % fail for reasons of their own."""
    for share in (0.005, 0.01, 0.03, 0.05, 0.2):
        rng = np.random.default_rng([seed, 8, int(share * 1e4)])
        stops = {rule: np.full(runs, NEVER) for rule in RULES}
        harmed = {rule: np.zeros(runs) for rule in RULES}
        for run in range(runs):
            failing = rng.random(DEVICES) < share
            for rule in RULES:
                stops[rule][run], harmed[rule][run] = roll_out(rule, failing)
        for rule in RULES:
            extra = {
                "harmed": float(harmed[rule].mean()),
                "harmed_error": float(harmed[rule].std() / sqrt(runs)),
                "harmed_p95": float(np.quantile(harmed[rule], 0.95)),
                "harmed_all": share * DEVICES,
            }
            yield row("S8", rule, f"{share:.1%} failing", stops[rule], None, extra)


def roll_out(rule: str, failing: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> tuple[int, int]:
    """Devices that had the version when it was stopped (or `NEVER`), and how many of them failed."""
    watch = WaveWatch(WavePlan(), len(failing))
    at = failed = 0
    while at < len(failing):
        group = failing[at : min(at + TOGETHER, watch.allowed if rule == RULES[0] else len(failing))]
        at += len(group)
        failed += int(group.sum())
        if rule == RULES[0]:
            for is_failure in group:
                watch.observe(bool(is_failure))
            if watch.decide().action is Action.ROLLBACK:
                return at, failed
        elif rule == RULES[1]:
            # Both know shares of failures and a threshold, here with a check once a wave has ended and at its group's end in the
            # last one: that of the devices of this wave alone, as their windows are.
            wave_began = max((end for end in (0, 5, 25, 125) if end < at), default=0)
            is_check = at in (5, 25, 125) or (at > 125 and at - wave_began >= 50)
            if is_check and failing[wave_began:at].sum() > 0.05 * (at - wave_began):
                return at, failed
        elif (failed / at - 0.01) / sqrt(0.01 * 0.99 / at) > Z_95:
            return at, failed
    return NEVER, failed
