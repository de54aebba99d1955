"""`edgeward agent submit|jobs|cancel|sync`: what a running agent is asked to do in its own time."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

Host = Annotated[str | None, typer.Option("--host", help="Address that the agent listens on (127.0.0.1).")]
HttpPort = Annotated[int | None, typer.Option("--http-port", help="Its port of REST (8000).")]
Config = Annotated[Path | None, typer.Option("--config", metavar="FILE", help="The agent's settings as TOML.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a program.")]

# A pass fetches, calibrates and checks every wanted model.
SYNC_TIMEOUT_S = 3600.0
DEFAULT_SYNC_EVERY_S = 300.0


def submit(
    model: Annotated[str, typer.Argument(metavar="BUNDLE", help="A model that the agent answers for, by its name.")],
    input_file: Annotated[Path, typer.Argument(metavar="INPUT", help="Rows, as for `edgeward predict`.")],
    output_file: Annotated[Path, typer.Option("--output", "-o", metavar="OUTPUT", help="As for `edgeward predict`.")],
    route: Annotated[str, typer.Option("--route", help="auto, edge or cloud.")] = "auto",
    host: Host = None,
    http_port: HttpPort = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Has the agent run every row of INPUT through a model in its own time; it goes on after a restart.

    INPUT and OUTPUT must lie in the agent's `job_folders`.
    """
    body = {
        "model": model,
        "input": str(input_file.absolute()),
        "output": str(output_file.absolute()),
        "route": route,
    }
    job = _ask("POST", "/edgeward/jobs", host, http_port, config, body)
    print(json.dumps(job, indent=2) if as_json else f"job {job['id']}: {job['input']} → {job['output']}")


def jobs(host: Host = None, http_port: HttpPort = None, config: Config = None, as_json: AsJson = False) -> None:
    """Lists the agent's jobs, and how far each is."""
    told = _ask("GET", "/edgeward/jobs", host, http_port, config)["jobs"]
    if as_json:
        print(json.dumps(told, indent=2))
        return
    from rich.table import Table
    from rich.text import Text

    from runtime.cli.console import standard

    if not told:
        print("no jobs")
        return
    table = Table("job", "model", "state", "rows", "output", "submitted", "why", box=None, pad_edge=False)
    for job in told:
        total = "?" if job["rows_total"] is None else str(job["rows_total"])
        at = datetime.fromtimestamp(job["submitted"], UTC).isoformat(timespec="seconds")
        words = (job["model"], job["state"], f"{job['rows_done']}/{total}", job["output"], at, job["why"] or "")
        table.add_row(str(job["id"]), *(Text(word) for word in words))
    standard().print(table)


def cancel(
    number: Annotated[int, typer.Argument(metavar="JOB", help="Its number in `edgeward agent jobs`.")],
    host: Host = None,
    http_port: HttpPort = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Ends a job; what is done of it is kept, and the same job submitted again goes on."""
    job = _ask("DELETE", f"/edgeward/jobs/{number}", host, http_port, config)
    print(json.dumps(job, indent=2) if as_json else f"job {number} is {job['state']}")


def sync(
    is_once: Annotated[bool, typer.Option("--once", help="One pass, then end.")] = False,
    sync_from: Annotated[
        str | None, typer.Option("--from", metavar="HOST:PORT", help="HTTP address of the gateway (sync_from).")
    ] = None,
    models: Annotated[
        list[str] | None,
        typer.Option("--model", metavar="NAME", help="To keep current (sync_models); repeat for more."),
    ] = None,
    host: Host = None,
    http_port: HttpPort = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Brings the wanted models up to date with the gateway, again and again until Ctrl-C; --once: now, and ends.

    They are fetched, calibrated, checked, and switched to. A running agent does it itself, by its own settings. Where none runs,
    the next one to start serves what was fetched.
    """
    from edge_agent.settings import AgentSettings
    from runtime.config import load_settings

    flags = {"sync_from": sync_from, "sync_models": models or None}
    every_s = load_settings(AgentSettings, config, flags).settings.sync_every_s or DEFAULT_SYNC_EVERY_S
    while True:
        told = _sync_once(host, http_port, config, flags)
        print(json.dumps(told, indent=2) if as_json else "\n".join(_sync_lines(told)), flush=True)
        if is_once:
            raise typer.Exit(1 if told["last_error"] else 0)
        time.sleep(every_s)


def _sync_once(
    host: str | None, http_port: int | None, config: Path | None, flags: Mapping[str, Any]
) -> dict[str, Any]:
    from runtime.errors import ConflictError, PeerUnreachableError

    try:
        return _ask("POST", "/edgeward/sync", host, http_port, config, {}, SYNC_TIMEOUT_S)
    except PeerUnreachableError:
        pass
    try:
        return _sync_alone(config, flags)
    except ConflictError as conflict:
        try:  # an agent that has started meanwhile does it itself
            return _ask("POST", "/edgeward/sync", host, http_port, config, {}, SYNC_TIMEOUT_S)
        except PeerUnreachableError:
            raise conflict from None


def _sync_alone(config: Path | None, flags: Mapping[str, Any]) -> dict[str, Any]:
    from edge_agent.home_lock import BY_ITS_ADDRESS, require_free
    from edge_agent.offline import agent_home, make_syncer
    from edge_agent.settings import AgentSettings
    from runtime.config import load_settings

    syncer = make_syncer(load_settings(AgentSettings, config, flags).settings, None)
    require_free(agent_home(), BY_ITS_ADDRESS)
    return syncer.sync()


def _sync_lines(told: Mapping[str, Any]) -> list[str]:
    lines = [f"asked at {told['last_at']}" + (f": {told['last_error']}" if told["last_error"] else "")]
    for name, model in told["models"].items():
        version = "as installed" if model["version"] is None else f"version {model['version']}"
        trial = ", on trial" if model["is_on_trial"] else ""
        lines.append(f"{name}: {version}{trial}" + (f" ({model['note']})" if model["note"] else ""))
    return lines


def _ask(
    method: Literal["GET", "POST", "DELETE"],
    path: str,
    host: str | None,
    http_port: int | None,
    config: Path | None,
    body: Mapping[str, object] | None = None,
    timeout_s: float = 30.0,
) -> dict[str, Any]:
    from edge_agent.program import NAME
    from edge_agent.settings import AgentSettings
    from runtime.cli.program import start_or_name
    from runtime.client.document import exchange_document
    from runtime.client.failures import with_next_step
    from runtime.config import load_settings
    from runtime.errors import PeerUnreachableError
    from runtime.serving.settings import AddressSettings
    from runtime.serving.sockets import Endpoint

    flags = {"host": host, "http_port": http_port}
    settings = load_settings(AddressSettings, config, flags, known=AgentSettings).settings
    address = str(Endpoint(settings.host, settings.http_port))
    try:
        return exchange_document(address, method, path, body, timeout_s=timeout_s, tls_cert=settings.tls_cert)
    except PeerUnreachableError as error:
        raise with_next_step(error, start_or_name(NAME)) from error
