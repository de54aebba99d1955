"""What models are asked and how right they are: counted here and on devices, compared, told as `GET /edgeward/drift`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cloud_gateway.automation.drift import Findings, findings_of
from cloud_gateway.automation.row_details import RowDetails
from cloud_gateway.labelled import LabelledAnswers
from cloud_gateway.settings import GatewaySettings
from cloud_gateway.telemetry import Fleet, bundles_of
from cloud_gateway.windows import Windows
from runtime.engine.engine import Engine
from runtime.errors import StorageError
from runtime.serving.beside import LabelsOf
from runtime.serving.drift_document import drift_document
from runtime.serving.observers import Observer
from runtime.serving.program import recorder_of
from runtime.serving.rest_app import Document
from runtime.serving.statistics_metrics import statistics_metrics
from runtime.serving.statistics_recorder import StatisticsRecorder
from runtime.store import open_database, sqlite_url
from runtime.telemetry.exposition import Collector, Family, Kind

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Monitoring:
    """Statistics at work."""

    recorder: StatisticsRecorder | None
    """Of the requests that are answered here; None: those are not counted."""
    fleet: Fleet
    """Takes what devices counted."""
    labelled: LabelledAnswers
    """Takes labels of answers."""
    details: RowDetails
    """What is kept of rows until labels come."""
    document: Document
    findings: Findings | None
    """What drifts of what is asked here; None: that is not counted."""

    @property
    def observers(self) -> Sequence[Observer]:
        """Told of every request that is answered here."""
        return () if self.recorder is None else (self.recorder,)

    def families(self, labels_of: LabelsOf) -> Collector:
        """The collector of what drifts, and of how right models are."""

        def read() -> list[Family]:
            return [_drifting_features(self.recorder, labels_of), *self.labelled.families(labels_of)]

        statistics = statistics_metrics(self.recorder, labels_of)

        async def collect() -> Sequence[Family]:
            # A thread counts under the same lock.
            return [*await asyncio.to_thread(read), *await statistics()]

        return collect


@asynccontextmanager
async def monitoring(program: str, settings: GatewaySettings, engine: Engine, home: Path) -> AsyncIterator[Monitoring]:
    """Counts until the block ends; what devices sent before is there when it begins."""
    recorder = recorder_of(settings)
    async with _windows(home) as windows:
        fleet = Fleet(bundles_of(engine.models), windows)
        details = RowDetails(bundles_of(engine.models))
        labelled = LabelledAnswers(engine.models, dict if recorder is None else recorder.verdicts, details)

        def more() -> Mapping[str, Any]:
            return {"devices": fleet.document(), "labels": labelled.document()}

        document = drift_document(program, recorder, more)
        await asyncio.to_thread(fleet.load)
        if recorder is None:
            yield Monitoring(None, fleet, labelled, details, document, None)
            return
        recorder.start()

        def findings() -> Mapping[str, str]:
            return findings_of(recorder.verdicts(), engine.versions)

        try:
            yield Monitoring(recorder, fleet, labelled, details, document, findings)
        finally:
            await asyncio.to_thread(recorder.close)


def _drifting_features(recorder: StatisticsRecorder | None, labels_of: LabelsOf) -> Family:
    known = {} if recorder is None else recorder.verdicts()
    return Family(
        "edgeward_drifting_features",
        Kind.GAUGE,
        "Inputs and outputs of what is asked here that lie otherwise than their reference, by more than chance.",
        [
            ({"model": model, "version": str(version), **labels_of(model, str(version))}, len(found))
            for (model, version), found in known.items()
        ],
    )


@asynccontextmanager
async def _windows(home: Path) -> AsyncIterator[Windows | None]:
    """Where statistics of devices are kept; None, said, where that cannot be: they are counted all the same."""
    windows = await asyncio.to_thread(_open_windows, home)
    try:
        yield windows
    finally:
        if windows is not None:
            await asyncio.to_thread(windows.close)


def _open_windows(home: Path) -> Windows | None:
    try:
        return Windows(open_database(sqlite_url(home / "gateway" / "drift.db")))
    except StorageError as error:
        log.warning("statistics of devices are counted but not kept: %s", error)
        return None
