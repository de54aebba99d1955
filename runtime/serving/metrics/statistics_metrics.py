"""Metrics of what models are asked and say: what drifts, the newest window's numbers, which the page charts, and how many rows
those are of.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runtime.serving.metrics.labels import LabelsOf
from runtime.serving.observing.recorder import StatisticsRecorder
from runtime.telemetry.exposition import Collector, Family, Kind, Sample

if TYPE_CHECKING:
    from runtime.monitoring.verdict import Verdict

DRIFTING = "edgeward_drifting_features"
VALUE = "edgeward_feature_value"
MISSING = "edgeward_feature_missing_ratio"
SHARE = "edgeward_feature_category_ratio"
ROWS = "edgeward_statistics_rows_total"
FAILURES = "edgeward_statistics_failures_total"


@dataclass(frozen=True, slots=True)
class SeenBy:
    """Whoever saw rows, and what drifts of them."""

    name: str
    """gateway, devices (of all of them together), or device (this one)."""
    labels_of: LabelsOf
    verdicts: Mapping[tuple[str, int], Sequence[Verdict]]


def drifting_features(several: Sequence[SeenBy]) -> Family:
    """How many features drift, by who saw the rows; a version that nobody could look at yet is not in it."""
    return Family(
        DRIFTING,
        Kind.GAUGE,
        "Inputs and outputs that lie otherwise than their reference, by more than chance.",
        [
            (
                {
                    "model": model,
                    "version": str(version),
                    **seen.labels_of(model, str(version)),
                    "seen_by": seen.name,
                },
                len(found),
            )
            for seen in several
            for (model, version), found in seen.verdicts.items()
        ],
    )


def device_metrics(recorder: StatisticsRecorder | None, labels_of: LabelsOf) -> Collector:
    """The collector of a device: what drifts here, and the numbers."""

    async def collect() -> Sequence[Family]:
        known = {} if recorder is None else await asyncio.to_thread(recorder.verdicts)
        statistics = await statistics_metrics(recorder, labels_of)()
        return [drifting_features([SeenBy("device", labels_of, known)]), *statistics]

    return collect


def statistics_metrics(recorder: StatisticsRecorder | None, labels_of: LabelsOf) -> Collector:
    """The collector of a program's recorder; None: nothing is counted, and the families are empty."""

    async def collect() -> Sequence[Family]:
        # A thread counts under the same lock.
        return await asyncio.to_thread(_families, recorder, labels_of)

    return collect


def _families(recorder: StatisticsRecorder | None, labels_of: LabelsOf) -> list[Family]:
    values: list[Sample] = []
    missing: list[Sample] = []
    shares: list[Sample] = []
    for (model, version), numbers in ({} if recorder is None else recorder.newest_numbers()).items():
        labels = {"model": model, "version": str(version), **labels_of(model, str(version))}
        values += [({**labels, "feature": name, "stat": stat}, value) for name, stat, value in numbers.values]
        missing += [({**labels, "feature": name}, share) for name, share in numbers.missing]
        shares += [({**labels, "feature": name, "value": word}, share) for name, word, share in numbers.shares]
    return [
        Family(VALUE, Kind.GAUGE, "Mean and quantiles of inputs and outputs, of the newest window of rows.", values),
        Family(MISSING, Kind.GAUGE, "Share of the newest window's rows without a finite value.", missing),
        Family(SHARE, Kind.GAUGE, "Share of the newest window's rows with a value of a category.", shares),
        *([] if recorder is None else _of_recorder(recorder.counts)),
    ]


def _of_recorder(counts: Mapping[str, int]) -> list[Family]:
    taken, dropped = counts["sampled_rows"], counts["dropped_rows"]
    rows: list[Sample] = [
        ({"result": "counted"}, taken),
        ({"result": "passed_by"}, counts["passed_rows"]),
        ({"result": "dropped"}, dropped),
    ]
    return [
        Family(
            ROWS,
            Kind.COUNTER,
            "Answered rows: counted, passed by as not in the sample, or dropped as counting lagged behind.",
            rows,
        ),
        Family(FAILURES, Kind.COUNTER, "Times that counting failed; answers went on.", [({}, counts["failures"])]),
    ]
