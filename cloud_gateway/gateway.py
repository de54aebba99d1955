"""The gateway put together: engine, local service, keys; served until a signal, then taken down."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path

from cloud_gateway.auth import Authorizer, KeyStore, read_chosen_keys
from cloud_gateway.bundles import bundle_routes, served_bundles
from cloud_gateway.idempotency import Idempotent
from cloud_gateway.settings import GatewaySettings
from runtime import config
from runtime.engine.engine import Engine
from runtime.selection.measure import Progress
from runtime.serving.layered import Layered
from runtime.serving.local_service import LocalService
from runtime.serving.program import describe_models, load_all, make_engine, polling, uploads_of
from runtime.serving.server import Listening, serve
from runtime.serving.server import run as run_loop
from runtime.wire.values import ServedBy

NAME = "edgeward-gateway"
STATUS_PATH = "/edgeward/status"


def run(
    settings: GatewaySettings,
    on_started: Callable[[Listening, Engine], None],
    progress: Progress | None = None,
) -> None:
    """Loads the models, serves until SIGTERM or SIGINT, and takes everything down."""
    settings.require_models()
    authorizer = authorizer_of(settings, config.home())
    engine = make_engine(settings, progress)
    try:
        load_all(engine, settings)
        run_loop(serve_gateway(settings, engine, authorizer, lambda listening: on_started(listening, engine)))
    finally:
        engine.close()


async def serve_gateway(
    settings: GatewaySettings,
    engine: Engine,
    authorizer: Authorizer | None,
    on_started: Callable[[Listening], None] | None = None,
    stop: asyncio.Event | None = None,
) -> None:
    """Serves what `engine` holds until SIGTERM, SIGINT or `stop`; the engine stays the caller's to close."""
    service = LocalService(
        engine, name=NAME, version=version("edgeward"), served_by=ServedBy.CLOUD, uploads=uploads_of(settings)
    )
    once = Idempotent(service.infer, config.home() / "gateway" / "results.db")
    bundles = bundle_routes(lambda: served_bundles(engine), config.home() / "gateway" / "bundles")
    started = time.monotonic()

    async def status() -> Mapping[str, object]:
        return {
            "program": NAME,
            "version": version("edgeward"),
            "uptime_s": round(time.monotonic() - started, 1),
            "wants_key": authorizer is not None,
            "models": describe_models(engine),
        }

    try:
        async with polling(settings, engine, service):
            await serve(
                Layered(service, once.infer),
                settings,
                on_started=on_started,
                authorize=authorizer,
                documents={STATUS_PATH: status},
                extra=bundles,
                stop=stop,
            )
    finally:
        await once.close()
        service.close()


def authorizer_of(settings: GatewaySettings, home: Path) -> Authorizer | None:
    """Who is let in: with keys made or given, their holders; None where there never were any: everybody."""
    store = KeyStore.under(home)
    chosen = () if settings.api_key_file is None else read_chosen_keys(settings.api_key_file)
    return Authorizer(store, chosen) if chosen or store.exists() else None
