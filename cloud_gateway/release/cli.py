"""`edgeward release …`: begins releases, watches them, and steps in by hand, over a gateway's admin API."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cloud_gateway.admin.flags import AdminHost, AdminKeyFile, AdminPort, AsJson, Config

if TYPE_CHECKING:
    from cloud_gateway.admin.client import AdminClient
    from cloud_gateway.release.plan import ReleasePlan

app = typer.Typer(
    help="Moves a model's traffic from one version to the next, as far as the evidence goes.", no_args_is_help=True
)

Model = Annotated[str, typer.Argument(metavar="MODEL", help="The model that is released.")]
Reason = Annotated[str, typer.Option("--reason", help="Why, for the audit log.")]


PlanFile = Annotated[
    Path, typer.Argument(metavar="PLAN", help="The release plan, a TOML file: edgeward release plan --example.")
]

_LEAST_PLAN = (
    'A plan is TOML. The least of one: model = "digits", stable = 1, candidate = 2, each on a line of its own. Then come strategy '
    "(canary, shadow, blue_green), stages, hold_s, and guards with metric and margin: edgeward release plan --example prints "
    "one with every line explained."
)


@app.command(epilog="Example: edgeward release plan --example > plan.toml")
def plan(
    file: Annotated[
        Path | None, typer.Argument(metavar="PLAN", help="A plan to check: what it does, and what it waits for.")
    ] = None,
    example: Annotated[
        bool, typer.Option("--example", help="Print a plan to begin with, every line explained.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Prints a plan to begin with, or checks PLAN, here and without a gateway: its stages, and what the first one takes."""
    from runtime.errors import WrongUseError

    if (file is None) == (not example):
        raise WrongUseError(
            "give a plan to check or --example, one of the two: edgeward release plan --example > plan.toml"
        )
    if file is None:
        from cloud_gateway.release.example import EXAMPLE_PLAN

        print(EXAMPLE_PLAN, end="")
        return
    from cloud_gateway.release.first_stage import first_stage

    checked = _checked(_read(file), file)
    first = first_stage(checked)
    if as_json:
        told = checked.model_dump(mode="json") | {"first_stage": None if first is None else first.to_dict()}
        print(json.dumps(told, indent=2))
        return
    from cloud_gateway.release.view import show_plan
    from runtime.cli.console import standard

    standard().print(show_plan(checked, first))


@app.command(epilog=f"{_LEAST_PLAN}\n\nExample: edgeward release start plan.toml")
def start(
    plan: PlanFile,
    admin_host: AdminHost = None,
    admin_port: AdminPort = None,
    key_file: AdminKeyFile = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Begins the release that PLAN asks for, once both versions are loaded, warm and alike."""
    from cloud_gateway.release.first_stage import first_stage

    text = _read(plan)
    checked = _checked(text, plan)
    with _admin(admin_host, admin_port, key_file, config) as client:
        told = client.post("/admin/releases", {"plan": text})
    first = first_stage(checked)
    if as_json:
        print(json.dumps(told | {"first_stage": None if first is None else first.to_dict()}, indent=2))
        return
    _show(told, as_json=False)
    if first is not None:
        print(f"{first}\nwatch it with: edgeward release status {checked.model}")


@app.command(epilog="Example: edgeward release status digits")
def status(
    model: Annotated[
        str | None, typer.Argument(metavar="MODEL", help="One model's newest release; without it, all.")
    ] = None,
    watch: Annotated[
        bool | None, typer.Option("--watch/--once", help="Keep watching until it ends (in a terminal the default).")
    ] = None,
    admin_host: AdminHost = None,
    admin_port: AdminPort = None,
    key_file: AdminKeyFile = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Shows where a release stands, what was seen, and what it waits for; live in a terminal."""
    with _admin(admin_host, admin_port, key_file, config, changes=False) as client:
        if model is None:
            told = client.get("/admin/releases")
            if as_json:
                print(json.dumps(told, indent=2))
                return
            from cloud_gateway.release.view import show_releases
            from runtime.cli.console import standard

            listed, unreadable = told["releases"], told.get("unreadable", [])
            standard().print(show_releases(listed, unreadable) if listed or unreadable else "no releases")
            return
        told = client.get(f"/admin/releases/{model}")
        is_watched = sys.stdout.isatty() if watch is None else watch
        if as_json or not is_watched or not told["is_alive"]:
            _show(told, as_json=as_json)
            return
        _watch(client, model, told)


@app.command(epilog="Example: edgeward release promote digits --to 50")
def promote(
    model: Model,
    to_percent: Annotated[
        float | None,
        typer.Option("--to", metavar="PERCENT", help="The candidate's share from now on, up or down (100)."),
    ] = None,
    reason: Reason = "",
    admin_host: AdminHost = None,
    admin_port: AdminPort = None,
    key_file: AdminKeyFile = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Gives the candidate all of the traffic, or `--to PERCENT` of it, in one step; stable stays warm.

    Once more, when stable need not stay warm any longer: ends the release without waiting for the guards' proof.
    """
    body = {} if to_percent is None else {"to_percent": to_percent}
    with _admin(admin_host, admin_port, key_file, config) as client:
        _show(client.post(f"/admin/releases/{model}/promote", {"reason": reason, **body}), as_json=as_json)


def _command(name: str, help_: str) -> None:
    """Adds a command that takes nothing but a model and a reason."""

    def run(
        model: Model,
        reason: Reason = "",
        admin_host: AdminHost = None,
        admin_port: AdminPort = None,
        key_file: AdminKeyFile = None,
        config: Config = None,
        as_json: AsJson = False,
    ) -> None:
        with _admin(admin_host, admin_port, key_file, config) as client:
            _show(client.post(f"/admin/releases/{model}/{name}", {"reason": reason}), as_json=as_json)

    app.command(name, help=help_, epilog=f"Example: edgeward release {name} digits --reason 'seen enough'")(run)


_command("pause", "Keeps the split as it is; only harm still moves it, backwards.")
_command("resume", "Lets a paused release go on.")
_command("abort", "Ends a release; all traffic goes to stable.")
_command(
    "rollback", "Ends a release as failed; all traffic goes to stable at once, and the log says what harm was done."
)


@app.command(epilog="Example: edgeward release waves digits halt --reason 'two calls from the field'")
def waves(
    model: Model,
    action: Annotated[
        str, typer.Argument(metavar="halt|finish", help="Back to what devices had before, or all devices at once.")
    ],
    reason: Reason = "",
    admin_host: AdminHost = None,
    admin_port: AdminPort = None,
    key_file: AdminKeyFile = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Steps in while a promoted version goes to the devices in waves (the plan's `waves`)."""
    with _admin(admin_host, admin_port, key_file, config) as client:
        client.post(f"/admin/releases/{model}/waves", {"action": action, "reason": reason})
        _show(client.get(f"/admin/releases/{model}"), as_json=as_json)


@app.command(epilog="Example: edgeward release simulate plan.toml requests.jsonl")
def simulate(
    plan: PlanFile,
    log: Annotated[
        list[Path],
        typer.Argument(metavar="LOG", help="Logs of requests, JSON lines, the earliest first; see the help below."),
    ],
    as_json: AsJson = False,
) -> None:
    """Replays LOG through PLAN, here and without a gateway: which steps it would have taken, when and why.

    A line may say: at_s, model, key, segment, stable and candidate (each error, latency_ms, loss; null: nobody knows), agrees,
    distance, metrics. `edgeward gateway run --request-log FILE` writes one, and begins it anew at each start and when it is full;
    FILE.1 is what it wrote before.
    """
    from cloud_gateway.release.simulation import one_before, read_logs
    from cloud_gateway.release.simulation import simulate as run_through

    checked = _checked(_read(plan), plan)
    told = run_through(checked, read_logs(log)).to_dict()
    if before := one_before(log):
        # Not of itself: the gateway may have served other versions then, and no line says which.
        print(f"warning: what was logged before is left out; to replay it too, name {before} first", file=sys.stderr)
    if told["doubt"]:
        print(f"warning: {told['doubt']}", file=sys.stderr)
    if as_json:
        print(json.dumps(told, indent=2))
        return
    from cloud_gateway.release.view import show_simulation
    from runtime.cli.console import standard

    standard().print(show_simulation(told))


@app.command(epilog="Example: edgeward release audit --check")
def audit(
    model: Annotated[str | None, typer.Option("--model", help="Only this model's lines.")] = None,
    after: Annotated[int, typer.Option("--after", help="Only lines behind this number.")] = 0,
    limit: Annotated[int, typer.Option("--limit", help="At most so many lines.")] = 100,
    check: Annotated[
        bool, typer.Option("--check", help="Verify the chain of hashes over the whole log; 1 if it is broken.")
    ] = False,
    admin_host: AdminHost = None,
    admin_port: AdminPort = None,
    key_file: AdminKeyFile = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Shows the audit log of releases, or checks that no line of it was changed or left out."""
    with _admin(admin_host, admin_port, key_file, config, changes=False) as client:
        if check:
            _check(client.get("/admin/audit/check"), as_json=as_json)
            return
        query = {"after": str(after), "limit": str(limit)} | ({} if model is None else {"model": model})
        told = client.get("/admin/audit", query)
    if as_json:
        print(json.dumps(told, indent=2))
        return
    from cloud_gateway.release.view import show_audit
    from runtime.cli.console import standard

    standard().print(show_audit(told["lines"]) if told["lines"] else "the log is empty")


def _check(told: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(told, indent=2))
    elif told["is_whole"]:
        print(f"{told['lines']} lines, none changed or missing; the last one's hash: {told['hash']}")
    else:
        print(f"the audit log is broken: {told['problem']}")
    if not told["is_whole"]:
        raise typer.Exit(1)


def _watch(client: AdminClient, model: str, told: dict[str, Any]) -> None:
    from rich.live import Live

    from cloud_gateway.release.view import show_release
    from cloud_gateway.release.watching import watched
    from runtime.cli.console import standard

    with Live(show_release(told), console=standard(), auto_refresh=False) as live:
        for latest in watched(told, lambda: client.get(f"/admin/releases/{model}"), time.sleep):
            live.update(show_release(latest), refresh=True)


def _show(told: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(told, indent=2))
        return
    from cloud_gateway.release.view import show_release
    from runtime.cli.console import standard

    standard().print(show_release(told))


def _read(file: Path) -> str:
    from runtime.errors import WrongUseError

    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise WrongUseError(f"{file} cannot be read: {error.strerror}; check the path") from error
    except UnicodeDecodeError as error:
        raise WrongUseError(f"{file} cannot be read: {error}; expected TOML in UTF-8") from error


def _checked(text: str, file: Path) -> ReleasePlan:
    """The plan in `text`: what is wrong with it shows here, with its place, gateway or not."""
    from cloud_gateway.release.plan import parse_plan
    from runtime.errors import InvalidInputError, WrongUseError

    try:
        return parse_plan(text, str(file))
    except InvalidInputError as error:
        raise WrongUseError(str(error)) from error


@contextmanager
def _admin(
    host: str | None, port: int | None, key_file: Path | None, config: Path | None, *, changes: bool = True
) -> Iterator[AdminClient]:
    from cloud_gateway.admin.flags import connect_admin

    with connect_admin(host, port, key_file, config, changes=changes) as client:
        yield client
