"""The agent put together: engine, local service, gateway, routing; served until a signal, then taken down in order."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib.metadata import version
from typing import Final

from edge_agent.bare_key import say_if_bare
from edge_agent.breaker import BreakerState
from edge_agent.cascade import Cascade
from edge_agent.cascades import Cascades
from edge_agent.decision_log import DecisionLog
from edge_agent.drill import Drill
from edge_agent.memory import MemoryGauge, available_bytes
from edge_agent.metrics import agent_metrics
from edge_agent.network_time import TimedUpstream
from edge_agent.offline import Offline, agent_home, make_syncer
from edge_agent.page import agent_page, page_routes
from edge_agent.renamed import RenamedUpstream
from edge_agent.request_options import is_private
from edge_agent.service import AgentService
from edge_agent.settings import AgentSettings
from edge_agent.sync.syncer import Syncer
from edge_agent.telemetry import Telemetry, poster
from edge_agent.telemetry_metrics import telemetry_metrics
from edge_agent.upstream import Gateway
from edge_agent.upstreams import Gateways
from runtime.client.address import Protocol, bearer, parse_address
from runtime.client.trust import tls_context
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

log = logging.getLogger(__name__)

NAME = "edgeward-agent"
STATUS_PATH = "/edgeward/status"
# The first answers come first: charts that begin a second later lose nothing that anybody looks for.
CHARTS_AFTER_S: Final = 1.0


def run(
    settings: AgentSettings,
    on_started: Callable[[Listening, Engine], None],
    progress: Progress | None = None,
) -> None:
    """Loads the models, serves until SIGTERM or SIGINT, and takes everything down."""
    settings.require_an_arm()
    key = settings.read_api_key()
    with logging_as(settings.log_format, [] if key is None else [key]):
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
    gateway = connect(settings)
    drill = None if settings.drill_file is None else Drill(settings.drill_file)
    if drill is not None:
        log.warning(
            "failure drill: while %s exists, every local run fails; run without drill_file to end this", drill.file
        )
    decision_log = None if settings.decision_log is None else DecisionLog(settings.decision_log)
    recorder = recorder_of(settings)
    telemetry = None if recorder is None else telemetry_of(settings)
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
    upstream = None if gateway is None else TimedUpstream(gateway)
    cascades = Cascades(engine, settings.cascade_risks())
    cascades.fit_now()
    floor_bytes = settings.min_available_memory_mb << 20
    service = AgentService(
        local,
        None if upstream is None else RenamedUpstream(upstream, settings.cloud_names()),
        settings.policy,
        settings.default_deadline_s,
        drill,
        default_rule=settings.rule_of(""),
        rules={name: settings.rule_of(name) for name in settings.routes},
        hedge_share=settings.hedge_share,
        cascades=cascades.of,
        memory=MemoryGauge(floor_bytes, available_bytes) if floor_bytes and gateway is not None else None,
        decision_log=decision_log,
    )
    if recorder is not None:
        recorder.is_private = lambda request: is_private(request, service.rule_of(request.model))
    offline = Offline(settings, service, engine, syncer or make_syncer(settings, engine))
    started = time.monotonic()

    async def status() -> Mapping[str, object]:
        gateways = [] if gateway is None else await gateway.describe()
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
            "gateways": gateways,
            "requests": service.counts.describe(),
            "effort": service.counts.describe_effort()
            | ({} if gateway is None else {"retries": gateway.retries, "retries_held_back": gateway.retries_held_back}),
            "lateness": service.describe_paces(),
            "telemetry": None if telemetry is None else telemetry.describe(),
            **await offline.describe(),
        }

    def breakers() -> Mapping[str, BreakerState]:
        return {} if gateway is None else {str(one.address): one.breaker_state for one in gateway.members}

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
            *([] if upstream is None else [upstream.families]),
            *([] if telemetry is None else [telemetry_metrics(telemetry)]),
        ),
        on_stop=on_stop,
    )
    watch = None if gateway is None else asyncio.create_task(gateway.watch())
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
        if gateway is not None:
            await gateway.close()
        for part in (recorder, telemetry):
            if part is not None:
                await asyncio.to_thread(part.close)
        if decision_log is not None:
            decision_log.close()
        machine.close()
        await asyncio.to_thread(cascades.close)
        local.close()


def telemetry_of(settings: AgentSettings) -> Telemetry | None:
    """What sends statistics to the gateway, not started yet; None where they stay here."""
    if settings.gateway_http is None:
        return None
    key = settings.read_api_key()
    say_if_bare(key, parse_address(settings.gateway_http, Protocol.HTTP), "gateway_http as https://HOST:PORT")
    post = poster(settings.gateway_http, key, settings.gateway_ca)
    return Telemetry(settings.device_name, post, settings.telemetry_bytes_per_hour)


def connect(settings: AgentSettings) -> Gateways | None:
    """The gateways that the settings name; nothing is sent yet."""
    if settings.gateway is None:
        return None
    key = settings.read_api_key()
    gateways = [Gateway(address, key, ca_file=settings.gateway_ca) for address in settings.gateway]
    if settings.gateway_ca is not None:
        tls_context(settings.gateway_ca)  # a file that will not do shows now, not at the first fallback
    if key is not None:
        bearer(key)  # a key that cannot stand in a header shows now, not at the first fallback
    for gateway in gateways:
        say_if_bare(key, gateway.address, "its address as grpcs://HOST:PORT")
    return Gateways(gateways, settings.retry_share)


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
