"""`edgeward serve MODEL...`: models of this machine over gRPC and REST, without routing and without keys."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from runtime.cli.telemetry_options import LogFormatOption, OtlpEndpoint
from runtime.selection.settings import Objective
from runtime.serving.grpc.front import GrpcFront

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from runtime.engine.engine import Engine
    from runtime.serving.server import Listening
    from runtime.serving.settings import ModelServerSettings
    from runtime.serving.workers.supervisor import Place

app = typer.Typer()

NAME = "edgeward-serve"


@app.command(epilog="Example: edgeward serve digits model.onnx --http-port 8080")
def serve(
    models: Annotated[
        list[str] | None,
        typer.Argument(metavar="MODEL...", help="Names that ship (digits), folders, tars, or model files."),
    ] = None,
    model_repository: Annotated[
        Path | None,
        typer.Option("--model-repository", metavar="DIR", help="Folder of models; all, or those named as MODEL."),
    ] = None,
    poll_s: Annotated[
        float | None, typer.Option("--poll", metavar="SECONDS", help="Reload what changes in the model repository.")
    ] = None,
    versions: Annotated[
        str | None, typer.Option("--versions", help="latest, latest:N, all or specific:N,N (latest).")
    ] = None,
    allow_model_upload: Annotated[
        bool | None,
        typer.Option(
            "--allow-model-upload",
            metavar="",
            help="Let clients load model files of their own; anybody who connects may.",
        ),
    ] = None,
    is_without_shared_memory: Annotated[
        bool,
        typer.Option("--no-shared-memory", help="Let no client of this machine pass tensors in shared memory."),
    ] = False,
    host: Annotated[str | None, typer.Option("--host", help="Address to listen on (127.0.0.1).")] = None,
    grpc_port: Annotated[int | None, typer.Option("--grpc-port", help="Port of gRPC (8001); 0: any free one.")] = None,
    http_port: Annotated[int | None, typer.Option("--http-port", help="Port of REST (8000); 0: any free one.")] = None,
    grpc_front: Annotated[
        GrpcFront | None,
        typer.Option(
            "--grpc-front",
            metavar="NAME",
            help="What listens for gRPC: asyncio, native (extra fast), grpcio, or auto, which fits where it serves (auto).",
        ),
    ] = None,
    grpc_reflection: Annotated[
        bool | None,
        typer.Option("--grpc-reflection", metavar="", help="Tell tools such as grpcurl what the server speaks (off)."),
    ] = None,
    tls_cert: Annotated[
        Path | None,
        typer.Option("--tls-cert", metavar="FILE", help="PEM certificate: both ports then speak TLS alone."),
    ] = None,
    tls_key: Annotated[
        Path | None, typer.Option("--tls-key", metavar="FILE", help="Its PEM private key, without a passphrase.")
    ] = None,
    server_name: Annotated[
        str | None, typer.Option("--server-name", help="What ServerMetadata says, for clients that look for 'triton'.")
    ] = None,
    objective: Annotated[
        Objective | None,
        typer.Option(
            "--objective",
            metavar="NAME",
            help="What backends are chosen for: efficiency, latency, throughput or memory (the manifest's, efficiency).",
        ),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option("--threads", min=1, help="Of one call on the processor, at most (all allowed cores)."),
    ] = None,
    instances: Annotated[
        str | None,
        typer.Option("--instances", help="Batches of one model that run at the same time: N, or MODEL=N,... (1)."),
    ] = None,
    max_queued_rows: Annotated[
        int | None,
        typer.Option("--max-queued-rows", min=1, help="Rows that may wait before one model version (8192)."),
    ] = None,
    max_queued_bytes: Annotated[
        int | None,
        typer.Option("--max-queued-bytes", min=1, help="Bytes that may wait before one model version (256 MiB)."),
    ] = None,
    workers: Annotated[
        int, typer.Option("--workers", min=1, max=256, help="Processes that share the ports (1); Linux alone has more.")
    ] = 1,
    log_format: LogFormatOption = None,
    otlp_endpoint: OtlpEndpoint = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON once it listens.")] = False,
) -> None:
    """Serves each MODEL by the Open Inference Protocol v2 until Ctrl-C; any OIP client reaches it."""
    given = {**locals(), "shared_memory": False if is_without_shared_memory else None}
    from runtime.cli.flags import flags_of
    from runtime.cli.program import narrate, say_stopped, show_settings
    from runtime.config import load_settings
    from runtime.errors import WrongUseError
    from runtime.serving.log_format import logging_as
    from runtime.serving.program import load_all, make_engine
    from runtime.serving.server import run
    from runtime.serving.settings import ModelServerSettings

    beside = frozenset({"workers", "as_json", "is_without_shared_memory"})
    loaded = load_settings(ModelServerSettings, flags=flags_of(ModelServerSettings, given, beside))
    if not loaded.settings.has_models:
        raise WrongUseError("no model is given; name at least one, as in: edgeward serve digits")
    show_settings(loaded)
    if workers > 1:
        _supervise(loaded.settings, workers, as_json)
        say_stopped(NAME)
        return
    with logging_as(loaded.settings.log_format):
        engine = make_engine(loaded.settings, narrate)
        try:
            load_all(engine, loaded.settings)
            run(_serve(engine, loaded.settings, as_json))
        finally:
            engine.close()
    say_stopped(NAME)


async def _serve(engine: Engine, settings: ModelServerSettings, as_json: bool) -> None:
    from importlib.metadata import version

    from runtime.cli.program import announce
    from runtime.serving.additions import Additions
    from runtime.serving.local_service import LocalService
    from runtime.serving.metrics.labels import at_the_edge
    from runtime.serving.metrics.model_metrics import model_metrics
    from runtime.serving.observing.drift_document import DRIFT_PATH, drift_document
    from runtime.serving.program import polling, recording, uploads_of
    from runtime.serving.rest.extra_route import document_route
    from runtime.serving.server import serve as serve_until_stopped
    from runtime.telemetry.machine import Machine

    machine = Machine()
    with recording(settings) as recorder:
        service = LocalService(
            engine,
            name=settings.server_name or NAME,
            version=version("edgeward"),
            limits=settings.queue_limits,
            uploads=uploads_of(settings),
            observers=() if recorder is None else (recorder,),
        )
        try:
            async with polling(settings, engine, service):
                await serve_until_stopped(
                    service,
                    settings,
                    on_started=lambda at: announce(NAME, engine, at, as_json=as_json),
                    additions=Additions(
                        routes=[document_route(DRIFT_PATH, drift_document(NAME, recorder))],
                        collectors=(model_metrics(service, at_the_edge), machine.families),
                    ),
                )
        finally:
            machine.close()
            service.close()


def _supervise(settings: ModelServerSettings, workers: int, as_json: bool) -> None:
    from runtime.cli.program import announce_models
    from runtime.errors import WrongUseError
    from runtime.serving.workers.supervisor import Supervisor

    if settings.allow_model_upload:
        raise WrongUseError(
            "--allow-model-upload with several workers: a load would reach one of them; use --workers 1"
        )

    def started(told: tuple[Listening, list[dict[str, object]]]) -> None:
        at, models = told
        announce_models(NAME, models, at, as_json=as_json, workers=workers)

    supervisor = Supervisor(work, settings, workers, settings.drain_timeout_s)
    supervisor.run(settings.host, settings.grpc_port, settings.http_port, started)


def work(place: Place, settings: ModelServerSettings, connection: Connection) -> None:
    """One worker: serves on the ports of `place` until SIGTERM, or until whoever started it is gone."""
    from runtime.serving.program import load_all, make_engine
    from runtime.serving.server import run

    ports = {"host": place.host, "grpc_port": place.grpc_port, "http_port": place.http_port}
    settings = settings.model_copy(update=ports)
    engine = make_engine(settings)
    try:
        load_all(engine, settings)
        run(_work(engine, settings, place, connection))
    finally:
        engine.close()


async def _work(engine: Engine, settings: ModelServerSettings, place: Place, connection: Connection) -> None:
    import asyncio
    from contextlib import suppress
    from importlib.metadata import version

    from runtime.serving.additions import Additions
    from runtime.serving.local_service import LocalService
    from runtime.serving.metrics.labels import at_the_edge
    from runtime.serving.metrics.model_metrics import model_metrics
    from runtime.serving.program import describe_models, polling
    from runtime.serving.server import serve as serve_until_stopped
    from runtime.serving.workers.service import WorkerService
    from runtime.serving.workers.shared_metrics import SharedMetrics
    from runtime.serving.workers.shared_statistics import SharedStatistics

    local = LocalService(
        engine, name=settings.server_name or NAME, version=version("edgeward"), limits=settings.queue_limits
    )
    shared, metrics = SharedStatistics(place.folder, place.name), SharedMetrics(place.folder, place.name)
    additions = Additions(collectors=(model_metrics(local, at_the_edge),), with_others=metrics.with_others)
    service = WorkerService(local, shared, place.count)
    stop = asyncio.Event()
    loop, supervisor = asyncio.get_running_loop(), connection.fileno()

    def on_supervisor_gone() -> None:
        loop.remove_reader(supervisor)
        stop.set()

    loop.add_reader(supervisor, on_supervisor_gone)  # it sends nothing: all that can be read is its end
    publishing = [
        asyncio.create_task(shared.keep_publishing(lambda: local.statistics("", ""))),
        asyncio.create_task(metrics.keep_publishing(additions.families)),
    ]
    try:
        async with polling(settings, engine, local):
            await serve_until_stopped(
                service,
                settings,
                on_started=lambda at: connection.send((at, describe_models(engine))),
                additions=additions,
                stop=stop,
                workers=place.count,
            )
    finally:
        loop.remove_reader(supervisor)
        for task in publishing:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        metrics.tell(await additions.families())
        local.close()
