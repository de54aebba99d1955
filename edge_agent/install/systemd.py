"""A systemd unit (systemd.service(5), systemd.exec(5)). Pure."""

from __future__ import annotations

from pathlib import PurePath
from typing import Final

from edge_agent.install.service import ServiceDescription

UNIT: Final = "edgeward-agent.service"

# What a server of models on loopback does not need. A user's manager cannot set all of these up, so only the system's does.
_HARDENING: Final = """\
NoNewPrivileges=yes
ProtectSystem=full
ProtectKernelTunables=yes
ProtectControlGroups=yes
RestrictSUIDSGID=yes
"""


def unit_path(service: ServiceDescription) -> PurePath:
    """Where the unit lies."""
    if service.is_system:
        return PurePath("/etc/systemd/system") / UNIT
    return service.user_config / "systemd" / "user" / UNIT


def render(service: ServiceDescription) -> str:
    """The unit's text."""
    command = " ".join(_quoted(word) for word in service.command)
    # `$` means itself in an assignment.
    environment = _quoted(f"EDGEWARD_HOME={service.home}").replace("$$", "$")
    target = "multi-user.target" if service.is_system else "default.target"
    identity = f"User={_escaped(service.user_name)}\n{_HARDENING}" if service.is_system else ""
    return f"""\
[Unit]
Description=Edgeward agent: models on this device, the cloud where it must
After=network.target
# Ten starts in five minutes are a crash loop: a person has to look.
StartLimitIntervalSec=300
StartLimitBurst=10

[Service]
ExecStart={command}
Environment={environment}
Restart=on-failure
RestartSec=2
# Requests under way are answered first; see drain_timeout_s.
TimeoutStopSec=45
{identity}
[Install]
WantedBy={target}
"""


def _quoted(word: str) -> str:
    """A word of a command line or assignment, which systemd reads back as it is."""
    escaped = _escaped(word).replace("$", "$$")
    if escaped and not set(escaped) & set(" \t\n\"'\\;"):
        return escaped
    inner = escaped.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
    return f'"{inner}"'


def _escaped(word: str) -> str:
    return word.replace("%", "%%")
