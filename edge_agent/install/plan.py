"""What installing and uninstalling do, as values: files to write, commands to run, things to remove. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePath

from edge_agent.install import launchd, systemd, windows
from edge_agent.install.service import ServiceDescription


class Manager(StrEnum):
    """What starts services on an operating system."""

    SYSTEMD = "systemd"
    LAUNCHD = "launchd"
    WINDOWS = "windows"


@dataclass(frozen=True, slots=True)
class Command:
    """One program to run."""

    words: tuple[str, ...]
    may_fail: bool = False
    """Whether what it would undo may not be there."""
    disturbs: bool = False
    """Whether it ends a service that runs."""


@dataclass(frozen=True, slots=True)
class FileToWrite:
    """One file, whole."""

    path: PurePath
    content: bytes
    is_scratch: bool = False
    """Whether it only carries the content to a command, and goes when those have run."""


@dataclass(frozen=True, slots=True)
class InstallPlan:
    """Files first, then commands in their order."""

    files: tuple[FileToWrite, ...]
    commands: tuple[Command, ...]


@dataclass(frozen=True, slots=True)
class UninstallPlan:
    """Commands before the files are removed, then files, then commands after that."""

    before: tuple[Command, ...]
    remove: tuple[PurePath, ...]
    after: tuple[Command, ...] = ()


def manager_of(platform: str) -> Manager:
    """By `sys.platform`."""
    if platform == "darwin":
        return Manager.LAUNCHD
    return Manager.WINDOWS if platform == "win32" else Manager.SYSTEMD


def plan_install(manager: Manager, service: ServiceDescription) -> InstallPlan:
    """What installs the service, started now and whenever the machine or the user does."""
    match manager:
        case Manager.SYSTEMD:
            scope = () if service.is_system else ("--user",)
            path = systemd.unit_path(service)
            return InstallPlan(
                (FileToWrite(path, systemd.render(service).encode()),),
                (
                    Command(("systemctl", *scope, "daemon-reload")),
                    Command(("systemctl", *scope, "enable", systemd.UNIT)),
                    # Not `enable --now`: an agent that runs already shall run what is installed now.
                    Command(("systemctl", *scope, "restart", systemd.UNIT), disturbs=True),
                ),
            )
        case Manager.LAUNCHD:
            path = launchd.plist_path(service)
            domain = launchd.domain(service)
            return InstallPlan(
                (FileToWrite(path, launchd.render(service)),),
                (
                    Command(("launchctl", "bootout", f"{domain}/{launchd.LABEL}"), may_fail=True, disturbs=True),
                    Command(("launchctl", "bootstrap", domain, str(path))),
                ),
            )
        case Manager.WINDOWS:
            path = windows.task_path(service)
            return InstallPlan(
                (FileToWrite(path, windows.render(service), is_scratch=True),),
                (
                    Command(("schtasks", "/Create", "/TN", windows.TASK, "/XML", str(path), "/F")),
                    Command(("schtasks", "/Run", "/TN", windows.TASK)),
                ),
            )


def plan_uninstall(manager: Manager, service: ServiceDescription) -> UninstallPlan:
    """What undoes `plan_install`; whether it was done, wholly or in part, does not matter."""
    match manager:
        case Manager.SYSTEMD:
            scope = () if service.is_system else ("--user",)
            return UninstallPlan(
                (Command(("systemctl", *scope, "disable", "--now", systemd.UNIT), may_fail=True),),
                (systemd.unit_path(service),),
                (
                    Command(("systemctl", *scope, "daemon-reload")),
                    Command(("systemctl", *scope, "reset-failed", systemd.UNIT), may_fail=True),
                ),
            )
        case Manager.LAUNCHD:
            domain = launchd.domain(service)
            return UninstallPlan(
                (Command(("launchctl", "bootout", f"{domain}/{launchd.LABEL}"), may_fail=True),),
                (launchd.plist_path(service), launchd.log_path(service)),
            )
        case Manager.WINDOWS:
            return UninstallPlan(
                (
                    Command(("schtasks", "/End", "/TN", windows.TASK), may_fail=True),
                    Command(("schtasks", "/Delete", "/TN", windows.TASK, "/F"), may_fail=True),
                ),
                (windows.task_path(service),),
            )
