"""`edgeward agent install|uninstall`: the agent as a service of this machine or user."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any, Final

import typer

System = Annotated[
    bool, typer.Option("--system", help="For the machine, from its start (needs administrator's rights).")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be written and run, and do nothing.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a program.")]

SHARED: Final = ("calibrations", "bundles", "tensorrt")
"""What loading models leaves in EDGEWARD_HOME, whichever program did it; all of it can be measured or unpacked again."""


def install(
    models: Annotated[
        list[str] | None,
        typer.Argument(metavar="MODEL...", help="Names that ship (digits), folders, tars, or model files."),
    ] = None,
    config_file: Annotated[
        Path | None, typer.Option("--config", metavar="FILE", help="Settings as TOML, read at every start.")
    ] = None,
    gateway: Annotated[
        str | None, typer.Option("--gateway", metavar="HOST:PORT", help="gRPC address of the gateway.")
    ] = None,
    key_file: Annotated[
        Path | None,
        typer.Option("--gateway-api-key-file", metavar="FILE", help="File with the API key for the gateway."),
    ] = None,
    user: Annotated[
        str | None,
        typer.Option("--user", metavar="NAME", help="Whom a --system service runs as (whoever installs it)."),
    ] = None,
    is_system: System = False,
    is_dry: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Has the operating system start `edgeward agent run` now and from now on (systemd, launchd or Task Scheduler)."""
    from edge_agent.install import carry_out
    from edge_agent.install.earlier import plan_look, plan_restore
    from edge_agent.install.here import describe_service, run_arguments
    from edge_agent.install.plan import manager_of, plan_install, plan_uninstall
    from edge_agent.settings import AgentSettings
    from runtime.config import load_settings

    # A service that would not start shows here, not in a log that nobody reads.
    flags = {"models": models or None, "gateway": gateway, "gateway_api_key_file": key_file}
    load_settings(AgentSettings, config_file, flags).settings.require_an_arm()
    manager = manager_of(sys.platform)
    service = describe_service(
        run_arguments(models or [], config_file, gateway, key_file), is_system=is_system, user=user
    )
    plan = plan_install(manager, service)
    if not is_dry:
        at = plan_look(manager, service)
        earlier = carry_out.look(at)
        undo = plan_uninstall(manager, service) if earlier is None else plan_restore(manager, service, earlier)
        carry_out.install(plan, undo, at.is_running)
    said: dict[str, Any] = {
        "manager": manager,
        "is_dry_run": is_dry,
        "writes": [str(file.path) for file in plan.files],
        "runs": [list(command.words) for command in plan.commands],
    }
    if as_json:
        said["contents"] = {str(file.path): _text(file.content) for file in plan.files}
        print(json.dumps(said, indent=2))
        return
    if is_dry:
        for file in plan.files:
            print(f"would write {file.path}:\n\n{_text(file.content)}")
        for command in plan.commands:
            print(f"would run: {' '.join(command.words)}")
        return
    print(f"installed for {manager}: {', '.join(said['writes'])}; see: edgeward agent status")


def uninstall(
    is_system: System = False,
    keeps_state: Annotated[
        bool, typer.Option("--keep-state", help="Keep the agent's spool, jobs and synced models.")
    ] = False,
    is_purging: Annotated[
        bool,
        typer.Option(
            "--purge", help="Also calibrations and unpacked bundles, which predict, serve and a gateway share."
        ),
    ] = False,
    is_forced: Annotated[
        bool, typer.Option("--force", help="Also where the spool holds requests that were never answered.")
    ] = False,
    is_dry: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Ends the service and removes what `install` wrote, and the agent's own state; calibrations stay, without --purge."""
    from edge_agent.install import carry_out
    from edge_agent.install.here import describe_service
    from edge_agent.install.plan import manager_of, plan_uninstall
    from edge_agent.offline import agent_home
    from runtime.errors import ConflictError, WrongUseError

    if keeps_state and is_purging:
        raise WrongUseError("--keep-state and --purge are both given; keep the agent's state, or remove everything")
    service = describe_service((), is_system=is_system)
    manager = manager_of(sys.platform)
    plan = plan_uninstall(manager, service)
    state = agent_home()
    waiting = 0 if keeps_state else _waiting(state)
    if waiting and not is_forced and not is_dry:
        raise ConflictError(
            f"{waiting} requests in the spool were never answered; let the agent answer them first, or give --keep-state "
            "or --force"
        )
    folders = [] if keeps_state else [state]
    if is_purging:
        folders += _shared()
    commands = [*plan.before, *plan.after]
    if is_dry:
        removed = [str(path) for path in (*plan.remove, *folders)]
    else:
        removed = [str(path) for path in (*carry_out.uninstall(plan), *carry_out.remove(folders))]
    if as_json:
        runs = [list(command.words) for command in commands]
        print(json.dumps({"manager": manager, "is_dry_run": is_dry, "removes": removed, "runs": runs}, indent=2))
        return
    for path in removed:
        print(f"{'would remove' if is_dry else 'removed'} {path}")
    for command in commands if is_dry else ():
        print(f"would run: {' '.join(command.words)}")
    if not is_dry and not removed:
        print("nothing was installed here")
    elif kept := [str(shared) for shared in _shared() if shared.exists() and shared not in folders]:
        print(f"kept, for other commands may use it: {', '.join(kept)}; --purge removes that too")


def _shared() -> list[Path]:
    from runtime import config

    return [config.home() / name for name in SHARED]


def _waiting(state: Path) -> int:
    """Requests in the spool that were never answered."""
    file = state / "spool.db"
    if not file.exists():
        return 0
    from edge_agent.spool.policy import SpoolLimits
    from edge_agent.spool.store import SpoolStore

    store = SpoolStore(file, SpoolLimits())
    try:
        return int(store.describe()["depth"])
    finally:
        store.close()


def _text(content: bytes) -> str:
    return content.decode("utf-16" if content.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8")
