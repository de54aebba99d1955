"""The agent of this machine and user as a service: what `install` on the command line is about."""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from edge_agent.install.service import ServiceDescription
from runtime import config


def describe_service(arguments: Sequence[str], *, is_system: bool, user: str | None = None) -> ServiceDescription:
    """`edgeward agent run ARGUMENTS` by this very Python, with the state folder that this command line has."""
    home = Path.home()
    return ServiceDescription(
        command=(sys.executable, "-m", "edgeward", "agent", "run", *arguments),
        home=config.home(),
        user_home=home,
        user_config=config.user_config_home(),
        user_id=os.getuid() if hasattr(os, "getuid") else 0,
        user_name=user or getpass.getuser(),
        is_system=is_system,
    )


def run_arguments(
    models: Sequence[str], config_file: Path | None, gateway: str | None, key_file: Path | None
) -> tuple[str, ...]:
    """Arguments of `agent run`; paths absolute, for the service runs elsewhere."""
    words = [str(Path(model).absolute()) if Path(model).exists() else model for model in models]
    if config_file is not None:
        words += ["--config", str(config_file.absolute())]
    if gateway is not None:
        words += ["--gateway", gateway]
    if key_file is not None:
        words += ["--gateway-api-key-file", str(key_file.absolute())]
    return tuple(words)
