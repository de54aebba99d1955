"""What models are asked, here and on devices: counted, compared with what they know, told as `GET /edgeward/drift`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from cloud_gateway.automation.drift import Findings, findings_of
from cloud_gateway.settings import GatewaySettings
from cloud_gateway.telemetry import Fleet, bundles_of
from cloud_gateway.windows import Windows
from runtime.engine.engine import Engine
from runtime.errors import StorageError
from runtime.serving.drift_document import drift_document
from runtime.serving.observers import Observer
from runtime.serving.program import recorder_of
from runtime.serving.rest_app import Document
from runtime.store import open_database, sqlite_url

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Monitoring:
    """Statistics at work."""

    observers: Sequence[Observer]
    """Of the requests that are answered here."""
    fleet: Fleet
    """Takes what devices counted."""
    document: Document
    findings: Findings | None
    """What drifts of what is asked here; None: that is not counted."""


@asynccontextmanager
async def monitoring(program: str, settings: GatewaySettings, engine: Engine, home: Path) -> AsyncIterator[Monitoring]:
    """Counts until the block ends; what devices sent before is there when it begins."""
    recorder = recorder_of(settings)
    async with _windows(home) as windows:
        fleet = Fleet(bundles_of(engine.models), windows)
        document = drift_document(program, recorder, lambda: {"devices": fleet.document()})
        await asyncio.to_thread(fleet.load)
        if recorder is None:
            yield Monitoring((), fleet, document, None)
            return
        recorder.start()
        try:
            yield Monitoring((recorder,), fleet, document, lambda: findings_of(recorder.verdicts(), engine.versions))
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
