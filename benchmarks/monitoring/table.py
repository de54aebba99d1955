"""False alarms and delays of our drift test on `streams`: 10,000 rows a run, looks every 100."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from benchmarks.monitoring.streams import CHANGE_ROW, Change, make_run
from runtime.monitoring.decision import Block, DriftTest
from runtime.monitoring.layout import Feature, Kind, Role
from runtime.monitoring.reference import Baseline, make_baseline

BLOCK_ROWS = 100


@dataclass(frozen=True)
class Outcome:
    """Of all runs of a change."""

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


def measure(change: Change, runs: int, seed: int = 0) -> Outcome:
    """All runs of a change."""
    started = time.perf_counter()
    false_alarms, delays = 0, list[int | None]()
    for run in range(runs):
        is_false, delay = _run(change, seed + run)
        false_alarms += is_false
        delays.append(delay)
    found = sum(delay is not None for delay in delays)
    return Outcome(change.name, change.features, runs, false_alarms, found, delays, time.perf_counter() - started)


def _run(change: Change, seed: int) -> tuple[bool, int | None]:
    reference, stream = make_run(change, seed)
    features = features_of(change)
    baseline = make_baseline("bench", 1, features, columns_of(reference, features))
    test, is_false, delay = DriftTest(baseline), False, None
    for block in counted(baseline, columns_of(stream, features), BLOCK_ROWS):
        for finding in test.look_at(block, BLOCK_ROWS):
            if change.is_null or finding.feature != "x0" or block.ended <= CHANGE_ROW:
                is_false = True
            elif delay is None:
                delay = int(block.ended) - CHANGE_ROW
        if delay is not None or (change.is_null and is_false):
            break
    return is_false, delay


def counted(baseline: Baseline, values: Mapping[str, Any], block_rows: int) -> Iterator[Block]:
    """The blocks that summaries of so many rows each would hand to the test, counted for the whole stream at once.

    A summary for every block would take two thirds of the time of a run, for moments and sketches that the test never asks for.
    """
    rows = len(next(iter(values.values())))
    blocks = -(-rows // block_rows)
    block = np.arange(rows) // block_rows
    width = max(len(reference.counts) for reference in baseline.references)
    bins = np.zeros((blocks, len(baseline.features), width))
    shares = np.zeros((blocks, len(baseline.features), 3))
    for at, (feature, reference) in enumerate(zip(baseline.features, baseline.references, strict=True)):
        column = values[feature.name]
        if feature.kind is Kind.CATEGORY:
            known = {name: place for place, name in enumerate(reference.categories)}
            places, is_there = np.array([known[name] for name in column]), np.ones(rows, bool)
        else:
            is_there = np.isfinite(column)
            places = np.searchsorted(np.asarray(reference.edges), column[is_there], side="right")
            shares[:, at, 0] = np.bincount(block, np.isnan(column), blocks)
        flat = np.bincount(block[is_there] * width + places, minlength=blocks * width)
        bins[:, at] = flat.reshape(blocks, width)
    each = np.bincount(block, minlength=blocks).astype(np.float64)
    for at in range(blocks):
        begins = float(at * block_rows)
        yield Block(bins[at], shares[at], np.full(len(baseline.features), each[at]), begins, begins + each[at])


def features_of(change: Change) -> list[Feature]:
    """x0, x1, ...; the first may be a category."""
    kinds = [Kind.CATEGORY if change.is_category and at == 0 else Kind.NUMBER for at in range(change.features)]
    return [Feature(f"x{at}", "x", Role.INPUT, kind, f"column:{at}") for at, kind in enumerate(kinds)]


def columns_of(rows: Any, features: list[Feature]) -> dict[str, Any]:
    """The values of each feature, as the test's baseline and summaries take them."""
    return {
        f.name: [f"v{int(v)}" for v in rows[:, at]] if f.kind is Kind.CATEGORY else np.ascontiguousarray(rows[:, at])
        for at, f in enumerate(features)
    }
