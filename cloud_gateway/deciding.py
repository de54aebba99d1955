"""Who answers a request: automation before releases before the models, all on the gateway's one database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine

from cloud_gateway.admin.app import AdminRoute
from cloud_gateway.automation.assembly import automation
from cloud_gateway.automation.choices import choices_in
from cloud_gateway.automation.drift import Findings
from cloud_gateway.automation.routes import OnLabelled
from cloud_gateway.automation.row_details import RowDetails
from cloud_gateway.release.answering import Traffic
from cloud_gateway.release.assembly import registry_of, releases
from cloud_gateway.rollout.store import RolloutStore
from cloud_gateway.settings import GatewaySettings
from runtime.serving.local_service import LocalService
from runtime.serving.service import InferenceService
from runtime.store import open_database


@dataclass(frozen=True, slots=True)
class Deciding:
    """Releases and automation at work."""

    service: InferenceService
    """Models behind releases behind automation."""
    traffic: Traffic
    """Which versions answer now."""
    rollouts: RolloutStore
    """Which devices may have what was promoted."""
    routes: Sequence[AdminRoute]
    """Where both are administered."""


@asynccontextmanager
async def deciding(
    settings: GatewaySettings,
    local: LocalService,
    home: Path,
    findings: Findings | None,
    on_labelled: OnLabelled | None = None,
    details: RowDetails | None = None,
) -> AsyncIterator[Deciding]:
    """Goes on where the database says. `findings`: of drift in what models are asked here; None: nobody looks.

    `on_labelled` hears labels; `details` are kept of rows until they come.
    """
    async with (
        _database(settings.database_url(home)) as database,
        releases(settings, local, registry_of(settings, home), home, database) as released,
        automation(
            settings.automation,
            released.service,
            database,
            local.class_names,
            released.traffic,
            released.controller.late,
            released.store.note_in,
            findings,
            on_labelled,
            choices_in(local.engine, local.class_names),
            details,
            has_reviewers=bool(settings.reviewers),
        ) as automated,
    ):
        rollouts = released.store.rollouts
        yield Deciding(automated.service, released.traffic, rollouts, [*released.routes, *automated.routes])


@asynccontextmanager
async def _database(url: str) -> AsyncIterator[Engine]:
    """One set of connections for all that lies in it."""
    database = await asyncio.to_thread(open_database, url)
    try:
        yield database
    finally:
        await asyncio.to_thread(database.dispose)
