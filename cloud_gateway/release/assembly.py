"""The parts of releases put together for one gateway: opened before it serves, run while it does, closed after."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine

from cloud_gateway.admin.app import AdminRoute
from cloud_gateway.registry import Registry, open_registry
from cloud_gateway.release.answering import Traffic
from cloud_gateway.release.controller import ReleaseController
from cloud_gateway.release.events import Webhook
from cloud_gateway.release.placement import Placement
from cloud_gateway.release.reported import ReportedMetrics
from cloud_gateway.release.request_log import RequestLog
from cloud_gateway.release.routes import ReleaseRoutes
from cloud_gateway.release.service import ReleaseService
from cloud_gateway.release.store import ReleaseStore
from cloud_gateway.release.trials import Trials
from cloud_gateway.release.versions import Versions
from cloud_gateway.settings import GatewaySettings
from runtime.serving.local_service import LocalService


@dataclass(frozen=True, slots=True)
class Releases:
    """Releases at work, for the gateway's wiring."""

    service: ReleaseService
    """What transports are given."""
    controller: ReleaseController
    """`late` reads labels, once it has a source of them."""
    traffic: Traffic
    """`on_answer` is told of every answer within a release."""
    store: ReleaseStore
    routes: list[AdminRoute]


@asynccontextmanager
async def releases(
    settings: GatewaySettings, local: LocalService, registry: Registry, home: Path, database: Engine
) -> AsyncIterator[Releases]:
    """Goes on where `database` says, and decides until the block ends; before `local` is closed."""
    store = await asyncio.to_thread(as_a_gateway, database)
    requests = None if settings.request_log is None else RequestLog(settings.request_log, settings.request_log_bytes)
    traffic, versions = Traffic(log=requests), Versions(local, registry)
    placement = Placement(versions, traffic, Trials(home / "gateway" / "trials.json"))
    controller = ReleaseController(store, versions, placement, traffic, Webhook())
    reported = await asyncio.to_thread(ReportedMetrics, database)
    controller.late.sources.append(reported)
    incoming = home / "gateway" / "incoming"
    routes = ReleaseRoutes(controller, store, reported, registry, incoming, settings.max_push_bytes)
    running: asyncio.Task[None] | None = None
    try:
        await controller.open()
        running = asyncio.create_task(controller.run())
        yield Releases(ReleaseService(local, traffic), controller, traffic, store, routes.routes())
    finally:
        if running is not None:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running
        await controller.close()
        if requests is not None:
            await asyncio.to_thread(requests.close)


def as_a_gateway(database: Engine) -> ReleaseStore:
    """Releases in the database, under a name of this process's own."""
    return ReleaseStore(database, f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}")


def registry_of(settings: GatewaySettings, home: Path) -> Registry:
    """The registry that the settings name; archives are fetched and unpacked below `home`."""
    return open_registry(settings.registry or str(home / "gateway" / "registry"), home / "bundles")
