"""Metrics of what models are asked and say: the newest window's numbers, which the page charts and anybody may pin."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from runtime.serving.beside import LabelsOf
from runtime.serving.statistics_recorder import StatisticsRecorder
from runtime.telemetry.exposition import Collector, Family, Kind, Sample

VALUE = "edgeward_feature_value"
MISSING = "edgeward_feature_missing_ratio"
SHARE = "edgeward_feature_category_ratio"


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
    ]
