"""The agent put together: engine, local service, gateway, routing; served until a signal, then taken down in order."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib.metadata import version

from edge_agent.drill import Drill
from edge_agent.offline import Offline, make_syncer
from edge_agent.service import AgentService
from edge_agent.settings import AgentSettings
from edge_agent.sync.syncer import Syncer
from edge_agent.upstream import Gateway
from runtime.client.address import bearer
from runtime.engine.engine import Engine
from runtime.selection.measure import Progress
from runtime.serving.local_service import LocalService
from runtime.serving.program import describe_models, load_all, make_engine, polling, uploads_of
from runtime.serving.server import Listening, serve
from runtime.serving.server import run as run_loop

log = logging.getLogger(__name__)

NAME = "edgeward-agent"
STATUS_PATH = "/edgeward/status"


def run(
    settings: AgentSettings,
    on_started: Callable[[Listening, Engine], None],
    progress: Progress | None = None,
) -> None:
    """Loads the models, serves until SIGTERM or SIGINT, and takes everything down."""
    settings.require_an_arm()
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
    local = LocalService(engine, name=NAME, version=version("edgeward"), uploads=uploads_of(settings))
    service = AgentService(local, gateway, settings.policy, settings.default_deadline_s, drill)
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
            "gateway": None if gateway is None else await gateway.describe(),
            "requests": service.counts.describe(),
            **await offline.describe(),
        }

    watch = None if gateway is None else asyncio.create_task(gateway.watch())
    try:
        async with polling(settings, engine, local), offline.running():
            await serve(
                offline.service,
                settings,
                on_started=on_started,
                documents={STATUS_PATH: status},
                extra=offline.routes,
                stop=stop,
            )
    finally:
        if watch is not None:
            watch.cancel()
            with suppress(asyncio.CancelledError):
                await watch
        if gateway is not None:
            await gateway.close()
        local.close()


def connect(settings: AgentSettings) -> Gateway | None:
    """The gateway that the settings name; nothing is sent yet."""
    if settings.gateway is None:
        return None
    key = settings.read_api_key()
    gateway = Gateway(settings.gateway, key)
    if key is not None:
        bearer(key)  # a key that cannot stand in a header shows now, not at the first fallback
        if not gateway.address.is_local:
            log.warning(
                "the API key travels to gateway %s without encryption; use a tunnel or a trusted network",
                gateway.address,
            )
    return gateway
