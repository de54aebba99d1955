"""`edgeward agent install|uninstall`: the agent as a service of this machine or user."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any

import typer

from edge_agent.run_options import as_words, with_run_options

System = Annotated[
    bool, typer.Option("--system", help="For the machine, from its start (needs administrator's rights).")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be written and run, and do nothing.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a program.")]


@with_run_options
def install(
    given: Mapping[str, Any],
    user: Annotated[
        str | None,
        typer.Option("--user", metavar="NAME", help="Whom a --system service runs as (whoever installs it)."),
    ] = None,
    is_system: System = False,
    is_dry: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Has the operating system start `edgeward agent run` now and from now on (systemd, launchd or Task Scheduler).

    What `agent run` can be told, the service can; relative paths are those of this folder.
    """
    from edge_agent.install import carry_out
    from edge_agent.install.earlier import plan_look, plan_restore
    from edge_agent.install.here import describe_service, require_start, why_short_lived, why_taken, why_unreachable
    from edge_agent.install.plan import manager_of, plan_install, plan_uninstall

    require_start(given)  # a service that would not start shows here, not in a log that nobody reads
    manager = manager_of(sys.platform)
    service = describe_service(as_words(given), is_system=is_system, user=user)
    plan = plan_install(manager, service)
    obstacle = why_unreachable(manager, service) or why_taken(manager, service)
    if not is_dry:
        if obstacle is not None:
            raise obstacle
        at = plan_look(manager, service)
        earlier = carry_out.look(at)
        undo = plan_uninstall(manager, service) if earlier is None else plan_restore(manager, service, earlier)
        carry_out.install(plan, undo, at.is_running)
    note = why_short_lived(manager, service) if obstacle is None else f"it could not be installed now: {obstacle}"
    said: dict[str, Any] = {
        "manager": manager,
        "is_dry_run": is_dry,
        "writes": [str(file.path) for file in plan.files],
        "runs": [list(command.words) for command in plan.commands],
        "note": note,
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
    else:
        print(f"installed for {manager}: {', '.join(said['writes'])}; see: edgeward agent status")
    if note is not None:
        print(f"note: {note}")


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
        bool,
        typer.Option(
            "--force",
            help="Also where the spool holds requests that were never answered, and where no service is installed.",
        ),
    ] = False,
    is_dry: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Ends the service and removes what `install` wrote, and the agent's own state; calibrations stay, without --purge.

    An agent that runs by hand keeps its state, and so does one that no service was installed for, without --force or --purge.
    """
    from edge_agent.install import carry_out
    from edge_agent.install.earlier import plan_look
    from edge_agent.install.here import describe_service, why_unreachable
    from edge_agent.install.plan import manager_of, plan_uninstall
    from edge_agent.install.removal import Removal, StateWish

    wish = StateWish(keeps_state, is_purging, is_forced)
    service = describe_service((), is_system=is_system)
    manager = manager_of(sys.platform)
    plan = plan_uninstall(manager, service)
    earlier = carry_out.look(plan_look(manager, service))
    if unreachable := why_unreachable(manager, service):
        if earlier is not None:
            raise unreachable
        plan = replace(plan, before=(), after=())  # nothing to end, and nobody to be told
    removal = Removal(plan, earlier, wish)
    removal.check()
    removed = removal.foresee() if is_dry else removal.remove()
    kept = [path for path in removal.kept() if path not in removed]
    if as_json:
        said = {
            "manager": manager,
            "is_dry_run": is_dry,
            "removes": list(map(str, removed)),
            "keeps": list(map(str, kept)),
            "runs": [list(command.words) for command in (*plan.before, *plan.after)],
        }
        print(json.dumps(said, indent=2))
        return
    for path in removed:
        print(f"{'would remove' if is_dry else 'removed'} {path}")
    for command in (*plan.before, *plan.after) if is_dry else ():
        print(f"would run: {' '.join(command.words)}")
    if not removed:
        print("nothing was installed here")
    if removal.state in kept:
        why = "" if removal.was_installed else ", for no service was installed; --force removes it"
        print(f"kept: {removal.state} ({removal.count_waiting()} requests wait in its spool){why}")
    if shared := [str(path) for path in kept if path != removal.state]:
        print(f"kept, for other commands may use it: {', '.join(shared)}; --purge removes that too")


def _text(content: bytes) -> str:
    return content.decode("utf-16" if content.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8")
