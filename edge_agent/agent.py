"""The agent put together: engine, local service, gateway, routing; served until a signal, then taken down in order."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib.metadata import version
from typing import TYPE_CHECKING, Final

from edge_agent.breaker import BreakerState
from edge_agent.cascade import Cascade
from edge_agent.cascades import Cascades
from edge_agent.drill import Drill
from edge_agent.home_lock import hold
from edge_agent.memory import MemoryGauge, available_bytes
from edge_agent.metrics import agent_metrics
from edge_agent.offline import Offline, agent_home, make_syncer
from edge_agent.page import agent_page, page_routes
from edge_agent.program import NAME, STATUS_PATH
from edge_agent.request_options import is_private
from edge_agent.service import AgentService
from edge_agent.settings import AgentSettings
from edge_agent.sync.syncer import Syncer
from edge_agent.telemetry_metrics import telemetry_metrics
from runtime.engine.engine import Engine
from runtime.pages.drift_section import drift_section
from runtime.pages.program import history_of, running_page
from runtime.selection.trying import Progress
from runtime.serving.beside import Beside, at_the_edge
from runtime.serving.drift_document import DRIFT_PATH, drift_document
from runtime.serving.figures_document import with_figures
from runtime.serving.local_service import LocalService
from runtime.serving.log_format import logging_as
from runtime.serving.model_metrics import model_metrics
from runtime.serving.program import describe_models, load_all, make_engine, polling, recorder_of, uploads_of
from runtime.serving.server import Listening, serve
from runtime.serving.server import run as run_loop
from runtime.serving.statistics_metrics import device_metrics
from runtime.telemetry.machine import Machine

if TYPE_CHECKING:
    from edge_agent.cloud import Cloud
    from edge_agent.decision_log import DecisionLog
    from edge_agent.telemetry import Telemetry

log = logging.getLogger(__name__)

# The first answers come first: charts that begin a second later lose nothing that anybody looks for.
CHARTS_AFTER_S: Final = 1.0


def run(
    settings: AgentSettings,
    on_started: Callable[[Listening, Engine], None],
    progress: Progress | None = None,
) -> None:
    """Loads the models, serves until SIGTERM or SIGINT, and takes all down; `ConflictError` where another agent has the home."""
    settings.require_an_arm()
    key = settings.read_api_key()
    with logging_as(settings.log_format, [] if key is None else [key]), hold(agent_home()):
        engine = make_engine(settings, progress)
        try:
            load_all(engine, settings, may_lack=settings.gateway is not None)
            syncer = make_syncer(settings, engine)
            syncer.start()
            run_loop(serve_agent(settings, engine, lambda listening: on_started(listening, engine), syncer=syncer))
        finally:
            engine.close()


async def serve_agent(
    settings: AgentSettings,
    engine: Engine,
    on_started: Callable[[Listening], None] | None = None,
    stop: asyncio.Event | None = None,
    syncer: Syncer | None = None,
) -> None:
    """Serves what `engine` holds until SIGTERM, SIGINT or `stop`; the engine stays the caller's to close."""
    drill = drill_of(settings)
    decision_log = decision_log_of(settings)
    recorder = recorder_of(settings)
    cloud: Cloud | None = None
    telemetry: Telemetry | None = None
    if settings.gateway is not None or settings.gateway_http is not None:
        from edge_agent.cloud import connect, telemetry_of  # what an agent that answers alone need not load

        cloud = connect(settings)
        telemetry = None if recorder is None else telemetry_of(settings)
    gateways = None if cloud is None else cloud.gateways
    if recorder is not None:
        recorder.on_window = None if telemetry is None else telemetry.offer
    local = LocalService(
        engine,
        name=settings.server_name or NAME,
        version=version("edgeward"),
        limits=settings.queue_limits,
        uploads=uploads_of(settings),
        observers=() if recorder is None else (recorder,),
    )
    cascades = Cascades(engine, settings.cascade_risks())
    cascades.fit_now()
    floor_bytes = settings.min_available_memory_mb << 20
    service = AgentService(
        local,
        None if cloud is None else cloud.upstream,
        settings.policy,
        settings.default_deadline_s,
        drill,
        default_rule=settings.rule_of(""),
        rules={name: settings.rule_of(name) for name in settings.routes},
        hedge_share=settings.hedge_share,
        cascades=cascades.of,
        memory=MemoryGauge(floor_bytes, available_bytes) if floor_bytes and cloud is not None else None,
        decision_log=decision_log,
    )
    if recorder is not None:
        recorder.is_private = lambda request: is_private(request, service.rule_of(request.model))
    offline = Offline(settings, service, engine, syncer or make_syncer(settings, engine))
    started = time.monotonic()

    async def status() -> Mapping[str, object]:
        return {
            "program": NAME,
            "version": version("edgeward"),
            "uptime_s": round(time.monotonic() - started, 1),
            "policy": settings.policy,
            "drill_file": None if drill is None else str(drill.file),
            "models": describe_models(engine),
            "routes": {
                name: describe_rule(service, name) for name in sorted({*routed_models(engine), *settings.routes})
            },
            "gateways": [] if gateways is None else await gateways.describe(),
            "requests": service.counts.describe(),
            "effort": service.counts.describe_effort()
            | (
                {}
                if gateways is None
                else {"retries": gateways.retries, "retries_held_back": gateways.retries_held_back}
            ),
            "lateness": service.describe_paces(),
            "telemetry": None if telemetry is None else telemetry.describe(),
            **await offline.describe(),
        }

    def breakers() -> Mapping[str, BreakerState]:
        return {} if gateways is None else {str(one.address): one.breaker_state for one in gateways.members}

    history, machine = history_of(NAME, agent_home()), Machine()
    drift = with_figures(drift_document(NAME, recorder), local)
    page = agent_page(NAME, history, {"status": status, "drift": drift_section(drift)})

    listening = asyncio.Event()

    def on_listening(at: Listening) -> None:
        listening.set()
        if on_started is not None:
            on_started(at)

    async def settled() -> None:
        await listening.wait()
        await asyncio.sleep(CHARTS_AFTER_S)

    def on_stop() -> None:
        page.close()
        offline.interrupt()

    beside = Beside(
        routes=page_routes(page),
        collectors=(
            model_metrics(local, at_the_edge),
            agent_metrics(service.counts, breakers, offline.spool_depth),
            machine.families,
            history.families,
            device_metrics(recorder, at_the_edge),
            *([] if cloud is None else [cloud.timed.families]),
            *([] if telemetry is None else [telemetry_metrics(telemetry)]),
        ),
        on_stop=on_stop,
    )
    watch = None if gateways is None else asyncio.create_task(gateways.watch())
    for part in (recorder, telemetry):
        if part is not None:
            part.start()
    try:
        async with (
            polling(settings, engine, local),
            offline.running(),
            running_page(page, service, beside, settled),
        ):
            await serve(
                offline.service,
                settings,
                on_started=on_listening,
                documents={STATUS_PATH: status, DRIFT_PATH: drift},
                extra=offline.routes,
                beside=beside,
                stop=stop,
            )
    finally:
        if watch is not None:
            watch.cancel()
            with suppress(asyncio.CancelledError):
                await watch
        if gateways is not None:
            await gateways.close()
        for part in (recorder, telemetry):
            if part is not None:
                await asyncio.to_thread(part.close)
        if decision_log is not None:
            decision_log.close()
        machine.close()
        await asyncio.to_thread(cascades.close)
        local.close()


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


def routed_models(engine: Engine) -> list[str]:
    """The names of the models in service here."""
    return [model.name for model in engine.models()]


def describe_rule(service: AgentService, model: str) -> dict[str, object]:
    """A model's rule for `agent status`."""
    rule = service.rule_of(model)
    cascade = service.cascade_of(model)
    return {
        "policy": rule.policy,
        "privacy": rule.privacy,
        "hedge": rule.hedge,
        "cascade": cascade.why if isinstance(cascade, Cascade) else cascade,
    }
