"""The gateway's admin port: routes of its parts, its page, and the metrics that both ports tell."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass

from cloud_gateway.admin.app import AdminRequest, AdminRoute
from cloud_gateway.admin.reviewers import ReviewerKeys
from cloud_gateway.admin.server import admin_server
from cloud_gateway.deciding import Deciding
from cloud_gateway.page import REVIEW_PATH, gateway_page, page_routes, review_page_routes
from cloud_gateway.page_sections import roles_of, section_documents
from cloud_gateway.unkept import Footing
from runtime.pages.drift_section import drift_section
from runtime.pages.program import history_of, running_page
from runtime.serving.additions import Additions
from runtime.serving.local_service import LocalService
from runtime.serving.metrics.labels import LabelsOf
from runtime.serving.metrics.model_metrics import model_metrics
from runtime.serving.rest.extra_route import Document
from runtime.serving.sockets import Endpoint
from runtime.telemetry.exposition import Collector
from runtime.telemetry.machine import Machine

log = logging.getLogger(__name__)

ADMIN_STATUS_PATH = "/admin/status"


@dataclass(frozen=True, slots=True)
class Administration:
    """The admin port, open."""

    at: Endpoint
    additions: Additions
    """For the server of the models' port, which adds routes of its own."""


@asynccontextmanager
async def administration(
    program: str,
    stood_on: Footing,
    local: LocalService,
    decided: Deciding,
    documents: Mapping[str, Document],
    monitored: Callable[[LabelsOf], Collector],
) -> AsyncIterator[Administration]:
    """Open until the block ends. `documents`: `status` and `drift`, as the models' port tells them too.

    `monitored`: metrics of drift.
    """
    history = history_of(program)
    sections = {**documents, "drift": drift_section(documents["drift"]), **section_documents(decided.routes)}
    page = gateway_page(
        program,
        history,
        sections,
        release_path="/admin/releases/{model}/{action}",
        review_path=REVIEW_PATH,
    )
    labels_of = roles_of(decided.traffic.active)
    requests = decided.traffic.log
    logged = () if requests is None else (requests.families,)
    with closing(Machine()) as machine:
        additions = Additions(
            collectors=(
                model_metrics(local, labels_of),
                machine.families,
                history.families,
                monitored(labels_of),
                *logged,
            ),
            labels_of=labels_of,
            on_stop=page.close,
        )
        routes = [_status_route(documents["status"]), *decided.routes, *page_routes(page), *review_page_routes()]
        routes = [stood_on.changing(route) if route.changes else route for route in routes]
        settings, reviewers = stood_on.settings, ReviewerKeys(stood_on.settings.reviewers)
        async with (
            admin_server(settings.admin_host, settings.chosen_admin_port, routes, stood_on.admin_key, reviewers) as at,
            running_page(page, decided.service, additions),
        ):
            if not at.is_loopback:
                log.warning("the admin API listens on %s without encryption; use a tunnel or a trusted network", at)
            yield Administration(at, additions)


def _status_route(status: Document) -> AdminRoute:
    async def answer(_: AdminRequest) -> Mapping[str, object]:
        return await status()

    return AdminRoute("GET", ADMIN_STATUS_PATH, answer)
