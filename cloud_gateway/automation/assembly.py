"""Automation put together around the models' service: what a gateway's wiring calls."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from cloud_gateway.admin import AdminRoute
from cloud_gateway.automation.routes import AutomationRoutes
from cloud_gateway.automation.service import AutomationService
from cloud_gateway.automation.settings import AutomationSettings
from cloud_gateway.automation.store import AutomationStore
from runtime.serving.service import InferenceService
from runtime.store import open_database


@dataclass(frozen=True, slots=True)
class Automated:
    """The service to serve, and the routes of the admin API."""

    service: InferenceService
    routes: Sequence[AdminRoute]


@asynccontextmanager
async def automation(
    settings: Sequence[AutomationSettings], inner: InferenceService, database_url: str
) -> AsyncIterator[Automated]:
    """`inner` behind the levels of automation; `inner` itself, and no database, where no model has settings."""
    if not settings:
        yield Automated(inner, ())
        return
    engine = await asyncio.to_thread(open_database, database_url)
    try:
        store = await asyncio.to_thread(AutomationStore, engine, settings, time.time)
        service = AutomationService(inner, store)
        running = asyncio.create_task(service.run())
        try:
            yield Automated(service, AutomationRoutes(store, service).routes())
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running
            await service.close()
    finally:
        await asyncio.to_thread(engine.dispose)
