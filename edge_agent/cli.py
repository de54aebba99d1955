"""`edgeward agent run|status`: starts an edge agent, and asks one how it is; other commands: `cli_jobs`, `cli_service`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edge_agent import cli_jobs, cli_service
from edge_agent.run_options import CONFIG, with_run_options

if TYPE_CHECKING:
    from edge_agent.settings import AgentSettings

app = typer.Typer(help="Predicts on this device, and lets the cloud answer when it must.", no_args_is_help=True)


@with_run_options
def run(
    given: Mapping[str, Any],
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON once it listens.")] = False,
) -> None:
    """Serves each MODEL by the Open Inference Protocol v2 until Ctrl-C; the gateway answers where this device cannot."""
    from edge_agent.agent import run as run_agent
    from edge_agent.program import NAME
    from edge_agent.settings import AgentSettings
    from runtime.cli.program import announce, narrate, say_stopped, show_settings
    from runtime.config import load_settings

    flags = {name: value for name, value in given.items() if name != CONFIG}
    loaded = load_settings(AgentSettings, given.get(CONFIG), flags)
    loaded.settings.require_an_arm()
    show_settings(loaded)
    _show_routes(loaded.settings)
    run_agent(
        loaded.settings,
        on_started=lambda at, engine: announce(NAME, engine, at, as_json=as_json),
        progress=narrate,
    )
    say_stopped(NAME)


def status(
    host: cli_jobs.Host = None,
    http_port: cli_jobs.HttpPort = None,
    tls_cert: Annotated[
        Path | None, typer.Option("--tls-cert", metavar="FILE", help="The certificate it shows, where it speaks TLS.")
    ] = None,
    config: cli_jobs.Config = None,
    as_json: cli_jobs.AsJson = False,
) -> None:
    """Asks the agent of this machine which models run on what and why, how its gateway is, and who answered."""
    from edge_agent.program import NAME, STATUS_PATH
    from edge_agent.settings import AgentSettings
    from runtime.cli.console import facts, standard
    from runtime.cli.program import show_models, status_of
    from runtime.config import load_settings
    from runtime.serving.settings import AddressSettings

    flags = {"host": host, "http_port": http_port}
    settings = load_settings(AddressSettings, config, flags, known=AgentSettings).settings
    shown = tls_cert or settings.tls_cert
    told = status_of(NAME, settings.host, settings.http_port, STATUS_PATH, tls_cert=shown)
    if as_json:
        print(json.dumps(told, indent=2))
        return
    console = standard()
    console.print(show_models(told["models"]))
    console.print(facts(_facts(told)))


def replay(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Written by agent run --decision-log FILE.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for a program.")] = False,
) -> None:
    """Decides every logged request again, and exits with 1 when a decision comes out otherwise than it was written down."""
    from edge_agent.decision_log import replay as replay_log

    count, differences = replay_log(file)
    if as_json:
        told = [{"line": one.line, "recorded": one.recorded, "replayed": one.replayed} for one in differences]
        print(json.dumps({"requests": count, "differences": told}, indent=2))
    else:
        for one in differences:
            print(f"line {one.line}: recorded {one.recorded}, replayed {one.replayed}")
        print(f"{count} requests decided again, {len(differences)} of them otherwise")
    if differences:
        raise typer.Exit(1)


# In the order that `agent --help` tells them: what a newcomer needs comes first.
for command, example in (
    (run, "agent run digits ./model.onnx --gateway 127.0.0.1:9001"),
    (status, "agent status --http-port 8000 --json"),
    (cli_service.install, "agent install digits --gateway gateway:8001"),
    (cli_service.uninstall, "agent uninstall --dry-run"),
    (cli_jobs.submit, "agent submit digits /data/in.npz -o /data/out.csv"),
    (cli_jobs.jobs, "agent jobs"),
    (cli_jobs.cancel, "agent cancel 7"),
    (cli_jobs.sync, "agent sync --once"),
    (replay, "agent replay decisions.jsonl"),
):
    app.command(epilog=f"Example: edgeward {example}")(command)


def _show_routes(settings: AgentSettings) -> None:
    """What each model with settings of its own comes to, for people."""
    if not settings.routes:
        return
    from rich.table import Table
    from rich.text import Text

    from runtime.cli.console import people

    table = Table("route", "policy", "privacy", "hedge", "cascade", box=None, pad_edge=False)
    for name, route in settings.routes.items():
        rule = settings.rule_of(name)
        cascade = f"risk {route.cascade_risk:g}" if route.cascade else "no"
        words = (name, rule.policy, rule.privacy, "yes" if rule.hedge else "no", cascade)
        table.add_row(*(Text(word) for word in words))
    people().print(table)


def _facts(told: Mapping[str, Any]) -> list[tuple[str, str]]:
    from edge_agent import words
    from runtime.wire.values import ServedBy

    is_alone = not told["gateways"]
    who = words.ALONE if is_alone else words.POLICY.get(told["policy"], told["policy"])
    lines = [("who answers", who), ("up for", f"{told['uptime_s']:.0f} s")]
    if told["drill_file"] is not None:
        lines.append(("drill", f"every local run fails while {told['drill_file']} exists"))
    # Of routes, hedges and second calls there are none without somebody else to ask.
    for name, rule in () if is_alone else told["routes"].items():
        said = [words.POLICY.get(rule["policy"], rule["policy"]), words.PRIVACY.get(rule["privacy"], rule["privacy"])]
        said.append("the other side is asked too when the first is slow" if rule["hedge"] else "one side at a time")
        lines.append((f"requests for {name}", "; ".join([*said, *filter(None, [rule["cascade"]])])))
    for gateway in told["gateways"]:
        reachable = "reachable" if gateway["is_reachable"] else f"not reachable ({gateway['probe_error']})"
        lines.append(("gateway", f"{gateway['address']} {reachable}; {words.BREAKER[gateway['breaker']]}"))
        if gateway["p50_ms"] is not None:
            times = f"p50 {gateway['p50_ms']:g} ms, p95 {gateway['p95_ms']:g} ms"
            lines.append(("its answers lately", f"{gateway['recent_answers']}: {times}"))
        if gateway["last_error"] is not None:
            lines.append(("its last error", f"{gateway['last_error']} ({gateway['last_error_age_s']:.0f} s ago)"))
        if gateway["left_out"]:
            lines.append(("it is left out", gateway["left_out"]))
    lines += _offline_facts(told)
    for by, counts in told["requests"].items():
        if not is_alone or by != ServedBy.CLOUD:
            lines.append((words.ANSWERED.get(by, by), words.counted(counts, words.WHY)))
    if not is_alone:
        effort = told["effort"]
        lines.append(("calls", words.counted(effort["asked"], words.ASKED)))
        lines.append(("second calls", words.counted(effort["hedges"], words.SECOND_CALL)))
    return lines


def _offline_facts(told: Mapping[str, Any]) -> list[tuple[str, str]]:
    spool, sync = told["spool"], told["sync"]
    if "error" in spool:
        depth = spool["error"]
    else:
        oldest = "" if spool["oldest_age_s"] is None else f", the oldest for {spool['oldest_age_s']:.0f} s"
        depth = f"{spool['depth']} requests wait ({spool['bytes']} bytes{oldest})"
    lines = [("spool", depth)]
    if "error" in told["jobs"]:
        lines.append(("jobs", told["jobs"]["error"]))
    elif told["jobs"]:
        lines.append(("jobs", ", ".join(f"{count} {state}" for state, count in told["jobs"].items())))
    last = "never" if sync["last_at"] is None else sync["last_at"]
    lines.append(("last sync", f"{last}: {sync['last_error']}" if sync["last_error"] else last))
    for name, model in sync["models"].items():
        version = "as installed" if model["version"] is None else f"version {model['version']}"
        lines.append(
            (f"synced: {name}", f"{version}{', on trial' if model['is_on_trial'] else ''} {model['note']}".strip())
        )
    return lines
