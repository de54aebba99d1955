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
from runtime.serving.metrics.labels import LabelsOf, at_the_edge
from runtime.serving.metrics.statistics_metrics import SeenBy, drifting_features, statistics_metrics
from runtime.serving.observing.drift_document import drift_document
from runtime.serving.observing.observers import Observer
from runtime.serving.observing.recorder import StatisticsRecorder
from runtime.serving.program import recorder_of
from runtime.serving.rest.extra_route import Document
from runtime.store import open_database, sqlite_url
from runtime.telemetry.exposition import Collector, Family

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
    findings: Findings
    """What drifts of what is asked here and on devices."""

    @property
    def observers(self) -> Sequence[Observer]:
        """Told of every request that is answered here."""
        return () if self.recorder is None else (self.recorder,)

    def families(self, labels_of: LabelsOf) -> Collector:
        """The collector of what drifts here and on devices, how right models are, what they are asked, and what devices sent."""

        def read() -> list[Family]:
            labelled = self.labelled.families(labels_of)
            return [drifting_features(self._seen(labels_of)), *labelled, *self.fleet.families()]

        statistics = statistics_metrics(self.recorder, labels_of)

        async def collect() -> Sequence[Family]:
            # A thread counts under the same lock.
            return [*await asyncio.to_thread(read), *await statistics()]

        return collect

    def _seen(self, labels_of: LabelsOf) -> list[SeenBy]:
        here = {} if self.recorder is None else self.recorder.verdicts()
        return [SeenBy("gateway", labels_of, here), SeenBy("devices", at_the_edge, self.fleet.verdicts())]


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

        def findings() -> Mapping[str, str]:
            here = {} if recorder is None else recorder.verdicts()
            return findings_of(here, engine.versions, fleet.verdicts())

        if recorder is None:
            yield Monitoring(None, fleet, labelled, details, document, findings)
            return
        recorder.start()
        try:
            yield Monitoring(recorder, fleet, labelled, details, document, findings)
        finally:
            await asyncio.to_thread(recorder.close)


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
