"""The service to install, as a value."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath


@dataclass(frozen=True, slots=True)
class ServiceDescription:
    """An agent as it is to be run."""

    command: tuple[str, ...]
    """Program and arguments, absolute where they are paths."""
    home: PurePath
    """EDGEWARD_HOME of the service."""
    user_home: PurePath
    """Of whoever installs it."""
    user_config: PurePath
    """Where that user's configuration lives: XDG_CONFIG_HOME."""
    user_id: int
    user_name: str
    is_system: bool
    """For the machine, from its start; else for one user, from login."""
