"""The gateway put together: engine, local service, keys; served until a signal, then taken down.

A request goes: the server and its keys, one execution a key (`idempotency`), automation and releases (`deciding`), the models.
Beside that way stand `monitoring`, and `administration` on a port of its own.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

from cloud_gateway.administration import administration
from cloud_gateway.auth import Authorizer, KeyStore, read_chosen_keys
from cloud_gateway.bundles import bundle_routes
from cloud_gateway.deciding import deciding
from cloud_gateway.idempotency import Idempotent
from cloud_gateway.monitoring import monitoring
from cloud_gateway.program import NAME, STATUS_PATH
from cloud_gateway.release.assembly import registry_of
from cloud_gateway.release.request_log import RequestLog
from cloud_gateway.rollout.offers import DeviceOffers
from cloud_gateway.rollout.routes import outcome_route
from cloud_gateway.settings import GatewaySettings
from cloud_gateway.starting import versions_to_serve, with_registered_models
from cloud_gateway.telemetry import telemetry_route
from cloud_gateway.unkept import Footing, footing
from runtime import config
from runtime.engine.engine import Engine
from runtime.selection.trying import Progress
from runtime.serving.asking import ask_of
from runtime.serving.layered import Layered
from runtime.serving.local_service import LocalService
from runtime.serving.log_format import logging_as
from runtime.serving.observing.drift_document import DRIFT_PATH
from runtime.serving.observing.figures_document import with_figures
from runtime.serving.program import describe_models, load_all, make_engine, polling, uploads_of
from runtime.serving.rest.extra_route import Document, document_route
from runtime.serving.server import Listening, serve
from runtime.serving.server import run as run_loop
from runtime.serving.sockets import Endpoint
from runtime.wire.values import ServedBy


@dataclass(frozen=True, slots=True)
class GatewayListening:
    """Where a gateway that has started can be reached."""

    models: Listening
    admin: Endpoint


def run(
    settings: GatewaySettings,
    on_started: Callable[[GatewayListening, Engine], None],
    progress: Progress | None = None,
) -> None:
    """Loads the models, serves until SIGTERM or SIGINT, and takes everything down."""
    settings.require_models()
    home = config.home()
    authorizer = authorizer_of(settings, home)
    with logging_as(settings.log_format), footing(settings, home) as stood_on:
        settings = stood_on.settings
        engine = make_engine(settings, progress)
        try:
            to_serve = versions_to_serve(settings, home)
            load_all(engine, with_registered_models(settings, registry_of(settings, home), to_serve))
            run_loop(serve_gateway(stood_on, engine, authorizer, lambda at: on_started(at, engine)))
        finally:
            engine.close()


async def serve_gateway(
    stood_on: Footing,
    engine: Engine,
    authorizer: Authorizer | None,
    on_started: Callable[[GatewayListening], None] | None = None,
    stop: asyncio.Event | None = None,
) -> None:
    """Serves what `engine` holds until SIGTERM, SIGINT or `stop`; the engine stays the caller's to close."""
    home, settings = config.home(), stood_on.settings
    async with AsyncExitStack() as parts:
        first = {(model.name, model.version): model.bundle for model in engine.models() if model.bundle.manifest}
        monitored = await parts.enter_async_context(monitoring(NAME, settings, engine, home))
        local = LocalService(
            engine,
            name=settings.server_name or NAME,
            version=version("edgeward"),
            served_by=ServedBy.CLOUD,
            limits=settings.queue_limits,
            uploads=uploads_of(settings),
            observers=monitored.observers,
        )
        parts.callback(local.close)
        decided = await parts.enter_async_context(
            deciding(settings, local, home, monitored.findings, monitored.labelled.take, monitored.details)
        )
        status = _status_of(engine, decided.traffic.log, wants_key=authorizer is not None)
        once = Idempotent(decided.service.infer, settings.results_url(home), ask=ask_of(decided.service))
        parts.push_async_callback(once.close)
        drift = with_figures(monitored.document, local)
        documents = {"status": status, "drift": drift}
        admin = await parts.enter_async_context(
            administration(NAME, stood_on, local, decided, documents, monitored.families)
        )
        await parts.enter_async_context(polling(settings, engine, decided.service))
        offers = DeviceOffers(engine, decided.traffic.settled, decided.rollouts, registry_of(settings, home), first)
        routes = [
            document_route(STATUS_PATH, status),
            document_route(DRIFT_PATH, drift),
            *bundle_routes(offers, home / "gateway" / "bundles"),
            stood_on.changing(outcome_route(decided.rollouts)),
            telemetry_route(monitored.fleet),
        ]
        await serve(
            Layered(decided.service, once.infer, once.ask),
            settings,
            on_started=None if on_started is None else lambda at: on_started(GatewayListening(at, admin.at)),
            authorize=authorizer,
            additions=replace(admin.additions, routes=routes),
            stop=stop,
        )


def _status_of(engine: Engine, requests: RequestLog | None, *, wants_key: bool) -> Document:
    started = time.monotonic()

    async def status() -> Mapping[str, object]:
        return {
            "program": NAME,
            "version": version("edgeward"),
            "uptime_s": round(time.monotonic() - started, 1),
            "wants_key": wants_key,
            "models": describe_models(engine),
            **({} if requests is None else {"request_log": requests.describe()}),
        }

    return status


def authorizer_of(settings: GatewaySettings, home: Path) -> Authorizer | None:
    """Who is let in: with keys made or given, their holders; None where there never were any: everybody."""
    store = KeyStore.under(home)
    chosen = () if settings.api_key_file is None else read_chosen_keys(settings.api_key_file)
    return Authorizer(store, chosen) if chosen or store.exists() else None
