"""An installation that is there before another is made: how it is looked at, and what puts it back. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath

from edge_agent.install import launchd, systemd, windows
from edge_agent.install.plan import Command, FileToWrite, InstallPlan, Manager
from edge_agent.install.service import ServiceDescription


@dataclass(frozen=True, slots=True)
class Look:
    """What is read and asked before anything is changed; a command says yes by ending with 0."""

    file: PurePath
    """What describes the service."""
    is_running: Command
    is_enabled: Command
    description: Command | None = None
    """Prints what would stand in `file`, where the manager keeps it and the file only carries it there."""


@dataclass(frozen=True, slots=True)
class Earlier:
    """What was there."""

    file: FileToWrite
    is_running: bool
    is_enabled: bool
    """Whether it starts by itself."""


def plan_look(manager: Manager, service: ServiceDescription) -> Look:
    """How to find out what is there."""
    match manager:
        case Manager.SYSTEMD:
            asked = ("systemctl",) if service.is_system else ("systemctl", "--user")
            return Look(
                systemd.unit_path(service),
                Command((*asked, "is-active", "--quiet", systemd.UNIT)),
                Command((*asked, "is-enabled", "--quiet", systemd.UNIT)),
            )
        case Manager.LAUNCHD:
            loaded = Command(("launchctl", "print", f"{launchd.domain(service)}/{launchd.LABEL}"))
            return Look(launchd.plist_path(service), loaded, loaded)
        case Manager.WINDOWS:
            # Whether a task runs is told in the language of the machine only; one that is there is taken for one that runs.
            query = Command(("schtasks", "/Query", "/TN", windows.TASK, "/XML"))
            return Look(windows.task_path(service), query, query, query)


def plan_restore(manager: Manager, service: ServiceDescription, earlier: Earlier) -> InstallPlan:
    """What puts it back. Its commands that disturb are for where the attempt disturbed it: what still runs is left alone."""
    commands: tuple[Command, ...]
    match manager:
        case Manager.SYSTEMD:
            asked = ("systemctl",) if service.is_system else ("systemctl", "--user")
            commands = (
                Command((*asked, "daemon-reload")),
                Command((*asked, "enable" if earlier.is_enabled else "disable", systemd.UNIT)),
                Command((*asked, "restart" if earlier.is_running else "stop", systemd.UNIT), disturbs=True),
            )
        case Manager.LAUNCHD:
            domain = launchd.domain(service)
            commands = (Command(("launchctl", "bootout", f"{domain}/{launchd.LABEL}"), may_fail=True, disturbs=True),)
            if earlier.is_running:
                path = str(launchd.plist_path(service))
                commands += (Command(("launchctl", "bootstrap", domain, path), disturbs=True),)
        case Manager.WINDOWS:
            commands = (
                Command(("schtasks", "/Create", "/TN", windows.TASK, "/XML", str(earlier.file.path), "/F")),
                Command(("schtasks", "/Run", "/TN", windows.TASK)),
            )
    return InstallPlan((earlier.file,), commands)
