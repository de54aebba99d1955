"""Automation and labels put together around the models' service: what a gateway's wiring calls."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Engine

from cloud_gateway.admin.app import AdminRoute
from cloud_gateway.automation.arms import ArmAnswers
from cloud_gateway.automation.choices import Choices, no_choices
from cloud_gateway.automation.drift import DriftWatch, Findings
from cloud_gateway.automation.labels import Labels
from cloud_gateway.automation.late_labels import LateLabels
from cloud_gateway.automation.routes import AutomationRoutes, OnLabelled
from cloud_gateway.automation.row_details import RowDetails
from cloud_gateway.automation.service import AutomationService, ClassNames
from cloud_gateway.automation.settings import AutomationSettings
from cloud_gateway.automation.store import Append, AutomationStore, append_log
from cloud_gateway.release.answering import Traffic
from cloud_gateway.release.late import LateEvidence
from runtime.serving.layered import Layered
from runtime.serving.service import InferenceService

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Automated:
    """The service to serve, and the routes of the admin API."""

    service: InferenceService
    routes: Sequence[AdminRoute]


AUDITED_AS: Final = "automation."
"""How events of automation begin in the audit log."""

MOST_KNOWN: Final = 50_000
"""Labelled requests that are told again after a start."""

Audit = Callable[[Connection, str, str, Mapping[str, Any]], object]
"""Writes a line in the caller's transaction: event, model, document; `ReleaseStore.note_in` is one."""


def append_to(audit: Audit | None) -> Append:
    """Lines of automation's own table, which knows segments, and of the audit log where there is one."""

    def append(
        connection: Connection, at: float, model: str, segment: str, event: str, document: Mapping[str, Any]
    ) -> None:
        append_log(connection, at, model, segment, event, document)
        if audit is not None:
            audit(connection, f"{AUDITED_AS}{event}", model, {"segment": segment, **document})

    return append


@asynccontextmanager
async def automation(
    settings: Sequence[AutomationSettings],
    inner: InferenceService,
    database: Engine,
    class_names: ClassNames,
    traffic: Traffic | None = None,
    late: LateEvidence | None = None,
    audit: Audit | None = None,
    findings: Findings | None = None,
    on_labelled: OnLabelled | None = None,
    choices: Choices = no_choices,
    details: RowDetails | None = None,
    *,
    has_reviewers: bool = False,
) -> AsyncIterator[Automated]:
    """`inner` behind the levels of automation, or `inner` itself where no model has settings; labels are taken either way.

    `class_names`: for callers who want classes instead of scores.
    `traffic`: of releases, whose answers are kept for labels; `late` reads from here what labels say of their arms. `audit`: the
    hash-chained log in the same database, which gets every change of a level too, in the same transaction.
    `findings`: of drift in the rows that models answer here. `on_labelled` is told of the labels kept so far, then of each as it
    comes. `choices`: the classes that people choose from. `details`: of rows, kept for what labels say later. `has_reviewers`:
    those have keys of their own.
    """
    store = await asyncio.to_thread(AutomationStore, database, settings, time.time, append_to(audit), details)
    service = AutomationService(inner, store, class_names) if settings else None
    arms = None if traffic is None else ArmAnswers(store, traffic)
    drift = None if service is None or findings is None else DriftWatch(store, service, findings)
    running = [asyncio.create_task(go_on(part.run)) for part in (service, arms, drift) if part is not None]
    if on_labelled is not None:
        await asyncio.to_thread(_tell_known, store, on_labelled)
    if late is not None:
        late.sources.append(LateLabels(store))
    flushes = [part.flush for part in (service, arms) if part is not None]
    routes = AutomationRoutes(store, service, flushes, on_labelled, choices, has_reviewers=has_reviewers).routes()
    try:
        yield Automated(inner if service is None else Layered(inner, service.infer, service.ask), routes)
    finally:
        for task in running:
            task.cancel()
        for task in running:
            with suppress(asyncio.CancelledError):
                await task
        if service is not None:
            await service.close()
        if arms is not None:
            await arms.flush()


def _tell_known(store: AutomationStore, on_labelled: OnLabelled) -> None:
    """In the order in which they came, so that a test that spends its chances look by look stands where it stood."""
    for answer in Labels(store).known(MOST_KNOWN):
        on_labelled(answer)


async def go_on(run: Callable[[], Awaitable[None]]) -> None:
    """Runs a part's loop, and again where it ended in an unforeseen way: nobody else would see that it has."""
    while True:
        try:
            await run()
        except Exception as error:  # the outermost loop of each part; each begins with a pause
            log.error("a loop of automation failed in an unforeseen way and begins anew", exc_info=error)
