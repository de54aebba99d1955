"""What `edgeward agent run` can be told on the command line, once: `agent install` takes the same, and hands it to the service."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Final

import typer

from edge_agent.rules import Policy
from runtime.cli.telemetry_options import LogFormatOption, OtlpEndpoint

CONFIG: Final = "config"

# By the name of the setting, so that none can be declared and forgotten on the way; "config" is the file of all of them.
RUN_OPTIONS: Final[Mapping[str, Any]] = MappingProxyType(
    {
        "models": Annotated[
            list[str] | None,
            typer.Argument(metavar="MODEL...", help="Names that ship (digits), folders, tars, or model files."),
        ],
        "gateway": Annotated[
            list[str] | None,
            typer.Option(
                "--gateway",
                metavar="ADDRESS",
                help="Its gRPC address: HOST:PORT, or grpcs://HOST:PORT with TLS; more with commas, or again; none: no cloud.",
            ),
        ],
        "gateway_ca": Annotated[
            Path | None,
            typer.Option(
                "--gateway-ca", metavar="FILE", help="PEM of who signs the gateway's certificate (the system's)."
            ),
        ],
        "gateway_api_key_file": Annotated[
            Path | None,
            typer.Option("--gateway-api-key-file", metavar="FILE", help="File with the API key for the gateway."),
        ],
        "gateway_http": Annotated[
            str | None,
            typer.Option(
                "--gateway-http",
                metavar="ADDRESS",
                help="HTTP of the gateway, for statistics: HOST:PORT, or https://HOST:PORT with TLS; none: kept here.",
            ),
        ],
        "policy": Annotated[
            Policy | None,
            typer.Option("--policy", help="Who answers first (edge_first); by model in --config, table routes.MODEL."),
        ],
        "default_deadline_s": Annotated[
            float | None,
            typer.Option(
                "--default-deadline", metavar="SECONDS", help="For requests that come without a deadline (10)."
            ),
        ],
        "drill_file": Annotated[
            Path | None,
            typer.Option(
                "--drill-file", metavar="FILE", help="While FILE exists every local run fails: practise the fallback."
            ),
        ],
        "decision_log": Annotated[
            Path | None,
            typer.Option(
                "--decision-log", metavar="FILE", help="Write every request's decisions down, for agent replay."
            ),
        ],
        "uds": Annotated[
            Path | None,
            typer.Option("--uds", metavar="PATH", help="Unix socket for gRPC, beside the port; only you may use it."),
        ],
        "http_uds": Annotated[
            Path | None,
            typer.Option(
                "--http-uds", metavar="PATH", help="Unix socket for REST, beside the port; only you may use it."
            ),
        ],
        "host": Annotated[str | None, typer.Option("--host", help="Address to listen on (127.0.0.1).")],
        "grpc_port": Annotated[int | None, typer.Option("--grpc-port", help="Port of gRPC (8001); 0: any free one.")],
        "http_port": Annotated[int | None, typer.Option("--http-port", help="Port of REST (8000); 0: any free one.")],
        "tls_cert": Annotated[
            Path | None,
            typer.Option("--tls-cert", metavar="FILE", help="PEM certificate: both ports then speak TLS alone."),
        ],
        "tls_key": Annotated[
            Path | None, typer.Option("--tls-key", metavar="FILE", help="Its PEM private key, without a passphrase.")
        ],
        CONFIG: Annotated[
            Path | None, typer.Option("--config", metavar="FILE", help="Settings as TOML; flags outrank it.")
        ],
        "log_format": LogFormatOption,
        "otlp_endpoint": OtlpEndpoint,
    }
)


def with_run_options(command: Callable[..., None]) -> Callable[..., None]:
    """`command(given, ...)` with every option of RUN_OPTIONS before its own: `given` maps those that somebody gave to their values.

    The signature is made for typer, which reads a command's options there.
    """
    own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]
    taken = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind)
        for name, kind in RUN_OPTIONS.items()
    ]
    parameters = [*taken, *(one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in own)]

    def called(**values: Any) -> None:
        given = {name: value for name in RUN_OPTIONS if (value := values.pop(name)) not in (None, [])}
        command(given, **values)

    called.__name__, called.__doc__ = command.__name__, command.__doc__
    called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    called.__annotations__ = {one.name: one.annotation for one in parameters}
    return called


def as_words(given: Mapping[str, Any]) -> tuple[str, ...]:
    """`given` as arguments of `agent run` that mean the same in any folder: paths absolute, those of models too."""
    from runtime.config import flag_of  # no command's help needs settings

    words = [str(Path(model).absolute()) if Path(model).exists() else model for model in given.get("models", ())]
    for name, value in given.items():
        for one in () if name == "models" else value if isinstance(value, list) else [value]:
            words += [flag_of(name), str(one.absolute() if isinstance(one, Path) else one)]
    return tuple(words)
