"""The gateway put together: engine, local service, keys; served until a signal, then taken down."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from cloud_gateway.admin.app import AdminRequest, AdminRoute
from cloud_gateway.admin.key import AdminKey, admin_key_file, make_admin_key
from cloud_gateway.admin.server import admin_server
from cloud_gateway.auth import Authorizer, KeyStore, read_chosen_keys
from cloud_gateway.automation.assembly import automation
from cloud_gateway.bundles import bundle_routes, served_bundles
from cloud_gateway.idempotency import Idempotent
from cloud_gateway.page import gateway_page, page_routes
from cloud_gateway.page_sections import roles_of, section_documents
from cloud_gateway.registry import Registry
from cloud_gateway.release.assembly import registry_of, releases
from cloud_gateway.settings import GatewaySettings
from cloud_gateway.telemetry import Fleet, bundles_of, telemetry_route
from cloud_gateway.windows import Windows
from runtime import config
from runtime.bundle.locate import shipped_bundles
from runtime.engine.engine import Engine
from runtime.errors import StorageError
from runtime.pages.drift_section import drift_section
from runtime.pages.program import history_of, running_page
from runtime.selection.measure import Progress
from runtime.serving.beside import Beside
from runtime.serving.drift_document import DRIFT_PATH, drift_document
from runtime.serving.layered import Layered
from runtime.serving.local_service import LocalService
from runtime.serving.log_format import logging_as
from runtime.serving.model_metrics import model_metrics
from runtime.serving.program import describe_models, load_all, make_engine, polling, recorder_of, uploads_of
from runtime.serving.server import Listening, serve
from runtime.serving.server import run as run_loop
from runtime.serving.sockets import Endpoint
from runtime.store import open_database, sqlite_url
from runtime.telemetry.machine import Machine
from runtime.wire.values import ServedBy

log = logging.getLogger(__name__)

NAME = "edgeward-gateway"
STATUS_PATH = "/edgeward/status"
ADMIN_STATUS_PATH = "/admin/status"


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
    authorizer = authorizer_of(settings, config.home())
    admin_key = AdminKey(make_admin_key(admin_key_file(config.home())))
    with logging_as(settings.log_format):
        engine = make_engine(settings, progress)
        try:
            load_all(engine, with_registered_models(settings, registry_of(settings, config.home())))
            run_loop(serve_gateway(settings, engine, authorizer, admin_key, lambda at: on_started(at, engine)))
        finally:
            engine.close()


async def serve_gateway(
    settings: GatewaySettings,
    engine: Engine,
    authorizer: Authorizer | None,
    admin_key: AdminKey,
    on_started: Callable[[GatewayListening], None] | None = None,
    stop: asyncio.Event | None = None,
) -> None:
    """Serves what `engine` holds until SIGTERM, SIGINT or `stop`; the engine stays the caller's to close."""
    name = settings.server_name or NAME
    home = config.home()
    recorder = recorder_of(settings)
    fleet = Fleet(bundles_of(engine.models), windows_of(home))
    local = LocalService(
        engine,
        name=name,
        version=version("edgeward"),
        served_by=ServedBy.CLOUD,
        uploads=uploads_of(settings),
        observers=() if recorder is None else (recorder,),
    )
    started = time.monotonic()

    async def status() -> Mapping[str, object]:
        return {
            "program": NAME,
            "version": version("edgeward"),
            "uptime_s": round(time.monotonic() - started, 1),
            "wants_key": authorizer is not None,
            "models": describe_models(engine),
        }

    async def status_for_admin(_: AdminRequest) -> Mapping[str, object]:
        return await status()

    drift = drift_document(NAME, recorder, lambda: {"devices": fleet.document()})
    await asyncio.to_thread(fleet.load)
    if recorder is not None:
        recorder.start()
    history, machine = history_of(NAME), Machine()
    try:
        async with AsyncExitStack() as parts:
            released = await parts.enter_async_context(releases(settings, local, registry_of(settings, home), home))
            automated = await parts.enter_async_context(
                automation(
                    settings.automation,
                    released.service,
                    settings.database_url(home),
                    released.traffic,
                    released.controller.observe,
                    released.store.note_in,
                )
            )
            once = Idempotent(automated.service.infer, home / "gateway" / "results.db")
            parts.push_async_callback(once.close)
            pins = released.traffic.pins
            bundles = bundle_routes(lambda: served_bundles(engine, pins), home / "gateway" / "bundles")
            # Each part that can be administered hands in its routes here.
            parts_routes = [*released.routes, *automated.routes]
            page = gateway_page(
                NAME,
                history,
                {"status": status, "drift": drift_section(drift), **section_documents(parts_routes)},
                release_path="/admin/releases/{model}/{action}",
                review_path="/admin/reviews/{id}/answer",
            )
            routes = [AdminRoute("GET", ADMIN_STATUS_PATH, status_for_admin), *parts_routes, *page_routes(page)]
            labels_of = roles_of(released.traffic.active)
            beside = Beside(
                collectors=(model_metrics(local, labels_of), machine.families, history.families),
                labels_of=labels_of,
                on_stop=page.close,
            )
            admin = await parts.enter_async_context(
                admin_server(settings.admin_host, settings.chosen_admin_port, routes, admin_key)
            )
            await parts.enter_async_context(polling(settings, engine, automated.service))
            await parts.enter_async_context(running_page(page, automated.service, beside))
            if not admin.is_loopback:
                log.warning("the admin API listens on %s without encryption; use a tunnel or a trusted network", admin)
            await serve(
                Layered(automated.service, once.infer),
                settings,
                on_started=None if on_started is None else lambda at: on_started(GatewayListening(at, admin)),
                authorize=authorizer,
                documents={STATUS_PATH: status, DRIFT_PATH: drift},
                extra=[*bundles, telemetry_route(fleet)],
                beside=beside,
                stop=stop,
            )
    finally:
        if recorder is not None:
            await asyncio.to_thread(recorder.close)
        machine.close()
        local.close()


def windows_of(home: Path) -> Windows | None:
    """Where statistics of devices are kept; None, said, where that cannot be: they are counted all the same."""
    try:
        return Windows(open_database(sqlite_url(home / "gateway" / "drift.db")))
    except StorageError as error:
        log.warning("statistics of devices are counted but not kept: %s", error)
        return None


def with_registered_models(settings: GatewaySettings, registry: Registry) -> GatewaySettings:
    """The settings with models that are in the registry, and nowhere else, replaced by the folder of their newest version."""

    def source(name: str) -> str:
        if Path(name).exists() or name in shipped_bundles() or "/" in name or os.sep in name:
            return name
        if settings.model_repository is not None and (settings.model_repository / name).exists():
            return name
        known = registry.versions(name)
        return name if not known else str(registry.bundle(name, known[-1].version).root)

    return settings.model_copy(update={"models": tuple(source(name) for name in settings.models)})


def authorizer_of(settings: GatewaySettings, home: Path) -> Authorizer | None:
    """Who is let in: with keys made or given, their holders; None where there never were any: everybody."""
    store = KeyStore.under(home)
    chosen = () if settings.api_key_file is None else read_chosen_keys(settings.api_key_file)
    return Authorizer(store, chosen) if chosen or store.exists() else None
