"""`edgeward serve MODEL...`: models of this machine over gRPC and REST, without routing and without keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from runtime.selection.settings import Objective

if TYPE_CHECKING:
    from runtime.engine.engine import Engine
    from runtime.serving.server import ServerSettings

app = typer.Typer()

NAME = "edgeward-serve"


@app.command(epilog="Example: edgeward serve digits model.onnx --http-port 8080")
def serve(
    sources: Annotated[
        list[str], typer.Argument(metavar="MODEL...", help="Names that ship (digits), folders, tars, or model files.")
    ],
    host: Annotated[str | None, typer.Option("--host", help="Address to listen on (127.0.0.1).")] = None,
    grpc_port: Annotated[int | None, typer.Option("--grpc-port", help="Port of gRPC (8001); 0: any free one.")] = None,
    http_port: Annotated[int | None, typer.Option("--http-port", help="Port of REST (8000); 0: any free one.")] = None,
    objective: Annotated[
        Objective, typer.Option("--objective", help="What backends are chosen for.")
    ] = Objective.LATENCY,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON once it listens.")] = False,
) -> None:
    """Serves each MODEL by the Open Inference Protocol v2 until Ctrl-C; any OIP client reaches it."""
    from runtime.cli.program import narrate, show_settings
    from runtime.config import load_settings
    from runtime.engine.engine import Engine, EngineSettings
    from runtime.selection.settings import SelectionSettings
    from runtime.serving.server import ServerSettings, run

    flags = {"host": host, "grpc_port": grpc_port, "http_port": http_port}
    loaded = load_settings(ServerSettings, flags=flags)
    show_settings(loaded)
    engine = Engine(EngineSettings(selection=SelectionSettings(objective=objective)), progress=narrate)
    try:
        for source in sources:
            engine.load(source)
        run(_serve(engine, loaded.settings, as_json))
    finally:
        engine.close()


async def _serve(engine: Engine, settings: ServerSettings, as_json: bool) -> None:
    from importlib.metadata import version

    from runtime.cli.program import announce
    from runtime.serving.local_service import LocalService
    from runtime.serving.server import serve as serve_until_stopped

    service = LocalService(engine, name=NAME, version=version("edgeward"))
    try:
        await serve_until_stopped(service, settings, on_started=lambda at: announce(NAME, engine, at, as_json=as_json))
    finally:
        service.close()
