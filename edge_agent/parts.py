"""What an agent is made of, each part told of those that it needs; `agent.py` has the order in which they work and end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from importlib.metadata import version
from typing import TYPE_CHECKING

from edge_agent.breaker import BreakerState
from edge_agent.cascades import Cascades
from edge_agent.drill import Drill
from edge_agent.memory import MemoryGauge, available_bytes
from edge_agent.metrics import agent_metrics
from edge_agent.offline import Offline, agent_home, make_syncer
from edge_agent.page import agent_page, page_routes
from edge_agent.program import NAME, STATUS_PATH
from edge_agent.request_options import is_private
from edge_agent.service import AgentService
from edge_agent.status import AgentStatus
from edge_agent.telemetry_metrics import telemetry_metrics
from runtime.pages.drift_section import drift_section
from runtime.pages.program import history_of
from runtime.serving.additions import Additions
from runtime.serving.local_service import LocalService
from runtime.serving.metrics.labels import at_the_edge
from runtime.serving.metrics.model_metrics import model_metrics
from runtime.serving.metrics.statistics_metrics import device_metrics
from runtime.serving.observing.drift_document import DRIFT_PATH, drift_document
from runtime.serving.observing.figures_document import with_figures
from runtime.serving.program import recorder_of, uploads_of
from runtime.serving.rest.extra_route import document_route
from runtime.telemetry.machine import Machine

if TYPE_CHECKING:
    from edge_agent.cloud import Cloud
    from edge_agent.decision_log import DecisionLog
    from edge_agent.settings import AgentSettings
    from edge_agent.sync.syncer import Syncer
    from edge_agent.telemetry import Telemetry
    from runtime.engine.engine import Engine
    from runtime.telemetry.exposition import Collector

log = logging.getLogger(__name__)


class Parts:
    """The parts of one agent over `engine`, which stays the caller's to close; used as `async with parts.running():`."""

    def __init__(self, settings: AgentSettings, engine: Engine, syncer: Syncer | None = None) -> None:
        self._settings = settings
        self._drill = drill_of(settings)
        self._decision_log = decision_log_of(settings)
        self._recorder = recorder_of(settings)
        self._cloud, self._telemetry = self._ways_to_the_cloud()
        self._gateways = None if self._cloud is None else self._cloud.gateways
        self.local = LocalService(
            engine,
            name=settings.server_name or NAME,
            version=version("edgeward"),
            limits=settings.queue_limits,
            uploads=uploads_of(settings),
            observers=() if self._recorder is None else (self._recorder,),
        )
        self._cascades = Cascades(engine, settings.cascade_risks())
        self._cascades.fit_now()
        self.service = self._make_service()
        self._tell_recorder()
        self.offline = Offline(settings, self.service, engine, syncer or make_syncer(settings, engine))
        status = AgentStatus(settings, engine, self.service, self.offline, self._gateways, self._telemetry)
        drift = with_figures(drift_document(NAME, self._recorder), self.local)
        self._history, self._machine = history_of(NAME, agent_home()), Machine()
        self.page = agent_page(NAME, self._history, {"status": status.describe, "drift": drift_section(drift)})
        routes = [
            document_route(STATUS_PATH, status.describe),
            document_route(DRIFT_PATH, drift),
            *self.offline.routes,
            *page_routes(self.page),
        ]
        self.additions = Additions(routes=routes, collectors=self._collectors(), on_stop=self._on_stop)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Watches gateways and counts statistics until the end, and then closes everything: what others still use comes last."""
        watch = None if self._gateways is None else asyncio.create_task(self._gateways.watch())
        counting = [part for part in (self._recorder, self._telemetry) if part is not None]
        for part in counting:
            part.start()
        try:
            yield
        finally:
            if watch is not None:
                watch.cancel()
                with suppress(asyncio.CancelledError):
                    await watch
            if self._gateways is not None:
                await self._gateways.close()
            for part in counting:
                await asyncio.to_thread(part.close)
            if self._decision_log is not None:
                self._decision_log.close()
            self._machine.close()
            await asyncio.to_thread(self._cascades.close)
            self.local.close()

    def _ways_to_the_cloud(self) -> tuple[Cloud | None, Telemetry | None]:
        settings = self._settings
        if settings.gateway is None and settings.gateway_http is None:
            return None, None
        from edge_agent.cloud import connect, telemetry_of  # what an agent that answers alone need not load

        return connect(settings), None if self._recorder is None else telemetry_of(settings)

    def _make_service(self) -> AgentService:
        settings, cloud = self._settings, self._cloud
        floor_bytes = settings.min_available_memory_mb << 20
        return AgentService(
            self.local,
            None if cloud is None else cloud.upstream,
            settings.policy,
            settings.default_deadline_s,
            self._drill,
            default_rule=settings.rule_of(""),
            rules={name: settings.rule_of(name) for name in settings.routes},
            hedge_share=settings.hedge_share,
            cascades=self._cascades.of,
            memory=MemoryGauge(floor_bytes, available_bytes) if floor_bytes and cloud is not None else None,
            decision_log=self._decision_log,
        )

    def _tell_recorder(self) -> None:
        """Which rows may be told of, and to whom."""
        if self._recorder is not None:
            service = self.service
            self._recorder.on_window = None if self._telemetry is None else self._telemetry.offer
            self._recorder.is_private = lambda request: is_private(request, service.rule_of(request.model))

    def _collectors(self) -> tuple[Collector, ...]:
        return (
            model_metrics(self.local, at_the_edge),
            agent_metrics(self.service.counts, self._breakers, self.offline.spool_depth),
            self._machine.families,
            self._history.families,
            device_metrics(self._recorder, at_the_edge),
            *([] if self._cloud is None else [self._cloud.timed.families]),
            *([] if self._telemetry is None else [telemetry_metrics(self._telemetry)]),
        )

    def _breakers(self) -> Mapping[str, BreakerState]:
        members = [] if self._gateways is None else self._gateways.members
        return {str(one.address): one.breaker_state for one in members}

    def _on_stop(self) -> None:
        self.page.close()
        self.offline.interrupt()


def drill_of(settings: AgentSettings) -> Drill | None:
    """What makes local runs fail while its file exists, and says so; None where no drill is asked for."""
    if settings.drill_file is None:
        return None
    log.warning(
        "failure drill: while %s exists, every local run fails; run without drill_file to end this", settings.drill_file
    )
    return Drill(settings.drill_file)


def decision_log_of(settings: AgentSettings) -> DecisionLog | None:
    """Where decisions are written down; None where they are not."""
    if settings.decision_log is None:
        return None
    from edge_agent.decision_log import DecisionLog

    return DecisionLog(settings.decision_log)
