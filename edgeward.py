"""The front door: `import edgeward` for programs, `edgeward` on the command line.

    import edgeward

    with edgeward.load("digits") as model:
        probabilities = model.predict(images)["probabilities"]

Importing it costs next to nothing: names are fetched when they are first used, engines when a model is loaded, and a command
imports what it needs and no more.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterable, Sequence
from importlib import import_module
from itertools import takewhile
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import typer

    from runtime import errors
    from runtime.client import connect
    from runtime.client.aio import AsyncClient
    from runtime.client.rest import RestClient
    from runtime.client.sync import Client
    from runtime.engine.engine import Engine
    from runtime.engine.load import load
    from runtime.engine.model import Model
    from runtime.engine.settings import EngineSettings
    from runtime.errors import EdgewardError
    from runtime.hardware import Hardware, probe

    __version__: str

__all__ = [
    "AsyncClient",
    "Client",
    "EdgewardError",
    "Engine",
    "EngineSettings",
    "Hardware",
    "Model",
    "RestClient",
    "__version__",
    "connect",
    "errors",
    "load",
    "main",
    "probe",
]

_HOMES = {
    "AsyncClient": "runtime.client.aio",
    "Client": "runtime.client.sync",
    "RestClient": "runtime.client.rest",
    "connect": "runtime.client",
    "EdgewardError": "runtime.errors",
    "Engine": "runtime.engine.engine",
    "EngineSettings": "runtime.engine.settings",
    "load": "runtime.engine.load",
    "Model": "runtime.engine.model",
    "Hardware": "runtime.hardware",
    "probe": "runtime.hardware",
}

# Command → the module whose `app` has it, in the order of `edgeward --help`.
_COMMANDS = {
    "probe": "runtime.cli.probe",
    "calibrate": "runtime.cli.calibrate",
    "predict": "runtime.cli.predict",
    "serve": "runtime.cli.serve",
    "bundle": "runtime.cli.bundle",
    "agent": "edge_agent.cli",
    "gateway": "cloud_gateway.cli",
    "drift": "runtime.cli.drift",
    "release": "cloud_gateway.release.cli",
    "review": "cloud_gateway.automation.cli",
    "bench": "benchmarks.cli",
}
# Every program's settings: what may stand in the environment that they share.
_SETTINGS = {
    "runtime.serving.settings": "ModelServerSettings",
    "edge_agent.settings": "AgentSettings",
    "cloud_gateway.settings": "GatewaySettings",
}
# Those with subcommands of their own; the others are one command, called what it is called here.
_GROUPS = frozenset({"bundle", "agent", "gateway", "drift", "release", "review", "bench"})
_SERVERS = frozenset({"serve", "agent", "gateway"})

# Objects made, less those freed, before the youngest are looked through for garbage (700 in Python 3.11).
COLLECT_AFTER = 20_000

EXIT_FAILED = 1
EXIT_WRONG_USE = 2
# 128 + SIGINT, as shells count.
EXIT_INTERRUPTED = 130


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        value: Any = version("edgeward")
    elif name == "errors":
        value = import_module("runtime.errors")
    elif name in _HOMES:
        value = getattr(import_module(_HOMES[name]), name)
    else:
        raise AttributeError(f"module 'edgeward' has no attribute {name!r}; it has {', '.join(__all__)}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line; ends the process with 0 (done), 1 (failed), 2 (wrong use) or 130 (Ctrl-C)."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    options = list(takewhile(lambda word: word.startswith("-"), words))
    command = words[len(options)] if len(options) < len(words) else ""
    # What a command imports stays: looking through it again and again for garbage is a twelfth of a start.
    gc.set_threshold(COLLECT_AFTER)
    from runtime import config
    from runtime.errors import BundleNotFoundError, EdgewardError, WrongUseError

    if command in _SERVERS:
        # numpy's BLAS starts a thread a core, which spins for work that no server has; engines bring pools of their own.
        config.set_unless_set("OPENBLAS_NUM_THREADS", "1")
    _say_unknown_variables()
    try:
        _app(_needed(command, options))(words, prog_name="edgeward")
    except EdgewardError as error:
        if "--debug" in options:
            raise
        print(f"edgeward: {error}", file=sys.stderr)
        sys.exit(EXIT_WRONG_USE if isinstance(error, (WrongUseError, BundleNotFoundError)) else EXIT_FAILED)
    except (SystemExit, KeyboardInterrupt) as ended:
        if isinstance(ended, KeyboardInterrupt) or _was_interrupted(ended):
            print("\nedgeward: interrupted", file=sys.stderr)
            sys.exit(EXIT_INTERRUPTED)
        raise


def _was_interrupted(ended: SystemExit) -> bool:
    """Whether Ctrl-C ended it while no command caught that, which would have said so itself: typer makes an exit of it."""
    return ended.__context__ is not None and isinstance(ended.__context__.__cause__, KeyboardInterrupt)


def _say_unknown_variables() -> None:
    """A misspelt `EDGEWARD_*` variable is said on standard error; without any but the home, nothing is imported for it."""
    from runtime import config

    if not config.unknown_variables(()):
        return
    kinds = (getattr(import_module(module), name) for module, name in _SETTINGS.items())
    for sentence in config.unknown_variables({field for kind in kinds for field in kind.model_fields}):
        print(f"edgeward: {sentence}", file=sys.stderr)


def _needed(command: str, options: Sequence[str]) -> Iterable[str]:
    """What has to be loaded: one command of ours, none for the version, all of them for `--help` and a typing slip."""
    if command in _COMMANDS:
        return [command]
    return [] if "--version" in options and "--help" not in options else _COMMANDS


def _app(commands: Iterable[str]) -> typer.Typer:
    """The application with `commands`."""
    import typer

    app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
    for name in commands:
        app.add_typer(import_module(_COMMANDS[name]).app, name=name if name in _GROUPS else None)

    def show_version(is_asked: bool) -> None:
        if is_asked:
            typer.echo(f"edgeward {__getattr__('__version__')}")
            raise typer.Exit

    # Defaults, not `Annotated`: annotations are read by name from this module, where typer is not.
    version_option = typer.Option(
        False, "--version", callback=show_version, is_eager=True, help="Print the version and end."
    )
    debug_option = typer.Option(False, "--debug", help="Show the whole traceback of an error, and every setting.")

    @app.callback(epilog="Example: edgeward calibrate digits")
    def root(is_version: bool = version_option, is_debug: bool = debug_option) -> None:
        """Runs a model where it measures fastest and is still right: here when it can, in the cloud when it must."""
        from runtime.cli.console import set_debugging

        set_debugging(is_debug)

    return app


if __name__ == "__main__":
    main()
