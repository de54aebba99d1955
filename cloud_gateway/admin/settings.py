"""Where a gateway's admin API is: all that a command which asks it has to know."""

from __future__ import annotations

from typing import Final

from pydantic import Field

from runtime.config import SettingsModel

ADMIN_PORT: Final = 8002


class AdminAddressSettings(SettingsModel):
    """Of those of a gateway, what its admin API listens on."""

    admin_host: str = "127.0.0.1"
    """Where the admin API listens; whoever can reach it from elsewhere needs the admin key to read, too."""
    admin_port: int | None = Field(default=None, ge=0, le=65535)
    """0: any free port; None: 8002, or any free one where that is what `http_port` asks for."""
