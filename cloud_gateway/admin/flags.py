"""The options by which our commands find a gateway's admin API, and its key."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from cloud_gateway.admin.client import AdminClient
    from runtime.config import SettingsModel

AdminHost = Annotated[str | None, typer.Option("--admin-host", help="Address of the gateway's admin API (127.0.0.1).")]
AdminPort = Annotated[int | None, typer.Option("--admin-port", help="Its port (8002).")]
AdminKeyFile = Annotated[
    Path | None,
    typer.Option("--admin-key-file", metavar="FILE", help="File of the admin key, for a gateway on another machine."),
]
Config = Annotated[Path | None, typer.Option("--config", metavar="FILE", help="The gateway's settings as TOML.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a program.")]


def connect_admin(
    host: AdminHost, port: AdminPort, key_file: AdminKeyFile, config: Config, *, changes: bool
) -> AdminClient:
    """A client of the admin API that the flags, the settings of its address and this machine's key file name.

    `changes`: whether the key is needed; without it what only reads does without where there is none.
    """
    from cloud_gateway.admin.client import AdminClient
    from cloud_gateway.admin.key import admin_key_file, read_admin_key
    from cloud_gateway.admin.settings import ADMIN_PORT, AdminAddressSettings
    from runtime.config import home, load_settings
    from runtime.serving.sockets import Endpoint

    flags = {"admin_host": host, "admin_port": port}
    settings = load_settings(
        AdminAddressSettings, config, flags, known=None if config is None else _of_gateway()
    ).settings
    file = key_file or admin_key_file(home())
    key = read_admin_key(file) if changes or key_file is not None or file.exists() else None
    return AdminClient(str(Endpoint(settings.admin_host, settings.admin_port or ADMIN_PORT)), key)


def _of_gateway() -> type[SettingsModel]:
    """Whose file `config` is; a command that reads none does without."""
    from cloud_gateway.settings import GatewaySettings

    return GatewaySettings
