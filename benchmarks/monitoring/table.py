"""False alarms and delays of our drift test on `streams`: 10,000 rows a run, looks every 100."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from benchmarks.monitoring.streams import CHANGE_ROW, ROWS, Scenario, make_run
from runtime.monitoring.decision import DriftTest
from runtime.monitoring.layout import Feature, Kind, Role
from runtime.monitoring.reference import make_baseline
from runtime.monitoring.summary import Summary

BLOCK_ROWS = 100


@dataclass(frozen=True)
class Outcome:
    """Of all runs of a scenario."""

    scenario: str
    features: int
    runs: int
    false_alarms: int
    """Runs in which any feature was named that had not changed, or one before it changed."""
    found: int
    """Runs in which the changed feature was named."""
    delays: list[int | None]
    """Rows from the change to the end of the block whose look named it, by run."""
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def measure(scenario: Scenario, runs: int, seed: int = 0) -> Outcome:
    """All runs of a scenario."""
    started = time.perf_counter()
    false_alarms, delays = 0, list[int | None]()
    for run in range(runs):
        is_false, delay = _run(scenario, seed + run)
        false_alarms += is_false
        delays.append(delay)
    found = sum(delay is not None for delay in delays)
    return Outcome(scenario.name, scenario.features, runs, false_alarms, found, delays, time.perf_counter() - started)


def _run(scenario: Scenario, seed: int) -> tuple[bool, int | None]:
    reference, stream = make_run(scenario, seed)
    kinds = [Kind.CATEGORY if scenario.is_category and at == 0 else Kind.NUMBER for at in range(scenario.features)]
    features = [Feature(f"x{at}", "x", Role.INPUT, kind, f"column:{at}") for at, kind in enumerate(kinds)]
    baseline = make_baseline("bench", 1, features, _columns(reference, features))
    test, is_false, delay = DriftTest(baseline), False, None
    for first in range(0, ROWS, BLOCK_ROWS):
        summary = Summary(baseline)
        summary.update_columns(_columns(stream[first : first + BLOCK_ROWS], features))
        last = first + BLOCK_ROWS
        for finding in test.look(summary, float(first), float(last)):
            if scenario.is_null or finding.feature != "x0" or last <= CHANGE_ROW:
                is_false = True
            elif delay is None:
                delay = last - CHANGE_ROW
        if delay is not None or (scenario.is_null and is_false):
            break
    return is_false, delay


def _columns(rows: Any, features: list[Feature]) -> dict[str, Any]:
    return {
        f.name: [f"v{int(v)}" for v in rows[:, at]] if f.kind is Kind.CATEGORY else np.ascontiguousarray(rows[:, at])
        for at, f in enumerate(features)
    }
