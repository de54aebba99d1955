"""A launchd property list (launchd.plist(5)). Pure."""

from __future__ import annotations

import plistlib
from pathlib import PurePath
from typing import Any, Final

from edge_agent.install.service import ServiceDescription

LABEL: Final = "io.edgeward.agent"


def plist_path(service: ServiceDescription) -> PurePath:
    """Where the property list lies."""
    if service.is_system:
        return PurePath("/Library/LaunchDaemons") / f"{LABEL}.plist"
    return service.user_home / "Library" / "LaunchAgents" / f"{LABEL}.plist"


def log_path(service: ServiceDescription) -> PurePath:
    """Where its log goes; launchd makes the file, not the folder."""
    root = PurePath("/") if service.is_system else service.user_home
    return root / "Library" / "Logs" / "edgeward-agent.log"


def domain(service: ServiceDescription) -> str:
    """Whose services it is among."""
    return "system" if service.is_system else f"gui/{service.user_id}"


def render(service: ServiceDescription) -> bytes:
    """The property list's bytes."""
    said: dict[str, Any] = {
        "Label": LABEL,
        "ProgramArguments": list(service.command),
        "EnvironmentVariables": {"EDGEWARD_HOME": str(service.home)},
        "RunAtLoad": True,
        # Again after a failure, not after it was told to end.
        "KeepAlive": {"SuccessfulExit": False},
        "ThrottleInterval": 5,
        # Somebody waits for its answers. Where it is left out, processor and disk are throttled.
        "ProcessType": "Interactive",
        "ExitTimeOut": 45,
        "StandardErrorPath": str(log_path(service)),
    }
    if service.is_system:
        said["UserName"] = service.user_name
    return plistlib.dumps(said, sort_keys=False)
