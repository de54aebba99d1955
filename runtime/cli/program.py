"""What the commands of serving programs print: their settings and where each came from, and that they listen."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from runtime.cli.console import debugging, people, standard
from runtime.config import DEFAULT, Loaded, S
from runtime.errors import PeerUnreachableError, WrongUseError
from runtime.selection.latency import show_ms
from runtime.serving.sockets import Endpoint

if TYPE_CHECKING:
    from rich.table import Table

    from runtime.engine.engine import Engine
    from runtime.serving.server import Listening


def show_settings(loaded: Loaded[S]) -> None:
    """The settings that somebody chose, with their origin, for people; with `--debug` those at their defaults too."""
    described = loaded.describe()
    chosen = [row for row in described if row[2] != DEFAULT]
    shown = described if debugging() else chosen
    if shown:
        # Plain: what draws tables takes as long to load as a small model to open.
        rows = [("setting", "value", "from"), *shown]
        name_width, value_width = (max(len(row[column]) for row in rows) for column in (0, 1))
        for name, value, origin in rows:
            print(f"{name:<{name_width}}  {value:<{value_width}}  {origin}", file=sys.stderr)
    if left := len(described) - len(shown):
        print(f"{left} settings at their defaults; edgeward --debug COMMAND... lists them", file=sys.stderr)


def status_of(
    program: str, host: str, http_port: int, path: str, *, api_key: str | None = None, tls_cert: Path | None = None
) -> dict[str, Any]:
    """What `program` says of itself at `path`; `WrongUseError` where another program of ours listens there,
    `PeerUnreachableError` where none does.
    """
    from runtime.client.document import fetch_document
    from runtime.client.failures import with_next_step

    at = str(Endpoint(host, http_port))
    try:
        told = fetch_document(at, path, api_key=api_key, tls_cert=tls_cert)
    except PeerUnreachableError as error:
        raise with_next_step(error, start_or_name(program)) from error
    if told.get("program") != program:
        other = told.get("program", "another program")
        raise WrongUseError(
            f"{at} is {other}, not {program}; ask it with its own command, or give --http-port of {program}"
        )
    return told


def start_or_name(program: str) -> str:
    """What to do where `program` does not answer."""
    return f"start it with `{program.replace('-', ' ')} run MODEL`, or give the --http-port of the one that runs"


def show_models(models: Sequence[Mapping[str, Any]]) -> Table:
    """What `describe_models` says, for people."""
    from rich.table import Table
    from rich.text import Text

    table = Table("model", "version", "runs on", "a row", "why", box=None, pad_edge=False)
    for model in models:
        row = show_ms(model["row_ms"]) if model["row_ms"] else "not measured"
        # Without what stands in the columns before it.
        chosen = model["why"].removeprefix(f"{model['backend']}: ").removeprefix(f"{row}, ")
        why = "; ".join([chosen, *model["fallbacks"], *model["warnings"]])
        table.add_row(*(Text(word) for word in (model["name"], str(model["version"]), model["backend"], row, why)))
    return table


def say_stopped(program: str) -> None:
    """The last line of `program`, which was told to end and did; below the ^C that a terminal shows.

    Where it can be written: on a full or read-only disk a program has ended well without it.
    """
    with suppress(OSError):
        print(f"{chr(10) if sys.stderr.isatty() else ''}{program}: stopped", file=sys.stderr)


def narrate(what: str, share: float) -> None:
    """A step of choosing a backend, for people who watch; nobody else wants hundreds of lines."""
    if sys.stderr.isatty():
        from rich.text import Text

        people().print(Text(f"{share:4.0%} {what}"), style="dim", end="\r", overflow="crop", no_wrap=True)


def announce(
    program: str, engine: Engine, at: Listening, *, as_json: bool, also: Mapping[str, str] = MappingProxyType({})
) -> None:
    """That `program` listens, and on what each model runs; one line for a program that started it.

    `also`: name → URL of what else listens.
    """
    from runtime.serving.program import describe_models

    announce_models(program, describe_models(engine), at, as_json=as_json, also=also)


def announce_models(
    program: str,
    models: Sequence[Mapping[str, Any]],
    at: Listening,
    *,
    as_json: bool,
    workers: int = 1,
    also: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """The same of models as `describe_models` says them; `workers`: how many processes share the ports."""
    if as_json:
        told = {
            "grpc": at.grpc_address,
            "http": at.http_address,
            **also,
            "grpc_front": at.grpc_front,
            "workers": workers,
        }
        print(json.dumps({**told, "models": models}), flush=True)
        return
    from rich.text import Text

    console = standard()
    for model in models:
        console.print(Text.assemble((str(model["name"]), "bold"), f" version {model['version']}: {model['why']}"))
    console.print(f"gRPC front: {at.grpc_front}", markup=False)
    if workers > 1:
        console.print(
            f"{workers} workers share the ports; statistics, totals and histograms in /metrics are their sums. What waits now, the "
            "machine, and drift are not told: they need one worker",
            markup=False,
        )
    others = "".join(f"   {name} {url}" for name, url in also.items())
    console.print(
        f"{program}: gRPC {at.grpc_address}   REST {at.http_address}{others}   (Ctrl-C ends it)", markup=False
    )
    console.file.flush()
