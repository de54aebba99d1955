"""What a gateway can be told: by a TOML file, `EDGEWARD_*` variables or flags."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, SecretStr, model_validator

from cloud_gateway.admin.reviewers import ReviewerSettings
from cloud_gateway.admin.settings import ADMIN_PORT, AdminAddressSettings
from cloud_gateway.automation.settings import AutomationSettings
from runtime.errors import WrongUseError
from runtime.serving.settings import AddressSettings, ModelServerSettings


class AskedSettings(AddressSettings):
    """Of those of a gateway, what a command that asks it has to know."""

    api_key_file: Path | None = None


class GatewaySettings(ModelServerSettings, AdminAddressSettings):
    """A cloud gateway: a server of models, and who may use it."""

    api_key_file: Path | None = None
    """A file of API keys, one a line, beside those that `edgeward gateway keys` made; None: only those."""

    automation: tuple[AutomationSettings, ...] = ()
    """How far models may go by themselves, a table `[[automation]]` each; the others answer everything, as ever."""

    reviewers: tuple[ReviewerSettings, ...] = ()
    """Who may list and answer review items, a table `[[reviewers]]` each; none: whoever has the admin key, under any name."""

    registry: str | None = None
    """A folder, or a URL for fsspec (s3://bucket/models), of versions for releases; None: EDGEWARD_HOME/gateway/registry."""
    request_log: Path | None = None
    """A file that gets a line for every request, for `edgeward release simulate`; None: nothing is written."""
    request_log_bytes: int = Field(default=64 << 20, ge=1 << 12)
    """Of that file; when it is full it is begun anew, and the one before is kept."""
    max_push_bytes: int = Field(default=4 << 30, gt=0)
    """Of one bundle that is pushed to the registry."""
    database: SecretStr | None = None
    """URL of the gateway's database (it may hold a password); None: a file of SQLite, EDGEWARD_HOME/gateway/gateway.db."""

    def database_url(self, home: Path) -> str:
        """Where releases, reviews and their audit are kept, of a gateway whose state lives under `home`; holds the password."""
        return _file(home, "gateway.db") if self.database is None else self.database.get_secret_value()

    def results_url(self, home: Path) -> str:
        """Where the results of requests with idempotency keys are kept: gateways that share a database share these, too."""
        return _file(home, "results.db") if self.database is None else self.database_url(home)

    @model_validator(mode="after")
    def _one_automation_a_model(self) -> GatewaySettings:
        names = [one.model for one in self.automation]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"model {twice!r} has more than one [[automation]] table; expected one a model")
        return self

    @model_validator(mode="after")
    def _reviewers_differ(self) -> GatewaySettings:
        for what in ("name", "sha256"):
            values = [getattr(one, what) for one in self.reviewers]
            if len(set(values)) < len(values):
                raise ValueError(
                    f"two [[reviewers]] have one {what}; expected a name and a key of their own for each person"
                )
        return self

    @model_validator(mode="after")
    def _admin_port_is_its_own(self) -> GatewaySettings:
        port = self.chosen_admin_port
        if port and port in (self.http_port, self.grpc_port):
            raise ValueError(f"port {port} is asked for twice; give the admin API one of its own with admin_port, or 0")
        return self

    @property
    def chosen_admin_port(self) -> int:
        """`admin_port` with its default put in."""
        if self.admin_port is not None:
            return self.admin_port
        return ADMIN_PORT if self.http_port else 0

    def require_models(self) -> None:
        """`WrongUseError` when there is nothing to serve."""
        if not self.has_models:
            raise WrongUseError("no model is given; name at least one, as in: edgeward gateway run digits")


def _file(home: Path, name: str) -> str:
    from runtime.store import sqlite_url  # SQLAlchemy, which commands that ask a gateway do without

    return sqlite_url(home / "gateway" / name)
