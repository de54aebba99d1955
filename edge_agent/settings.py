"""What an agent can be told: by a TOML file, `EDGEWARD_*` variables or flags."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, SecretStr, field_validator, model_validator

from edge_agent.offline_settings import OfflineSettings
from edge_agent.routing import Policy
from edge_agent.service import DEFAULT_DEADLINE_S
from runtime.client.address import Protocol, parse_address
from runtime.errors import WrongUseError


class AgentSettings(OfflineSettings):
    """An edge agent: a server of models, the gateway behind it, and who answers when."""

    gateway: str | None = None
    """Its gRPC address, "host:port"; None: this device answers alone."""
    gateway_api_key: SecretStr | None = None
    """In a file or a variable; there is no flag, for command lines are seen by everybody on the machine."""
    gateway_api_key_file: Path | None = None
    """A file that holds the key and nothing else."""
    policy: Policy = Policy.EDGE_FIRST
    default_deadline_s: float = Field(default=DEFAULT_DEADLINE_S, gt=0, le=3600)
    """For requests that come without a deadline."""
    drill_file: Path | None = None
    """While this file exists every local run fails, so that the fallback can be practised; None: off."""

    @field_validator("gateway")
    @classmethod
    def _is_an_address(cls, gateway: str | None) -> str | None:
        if gateway is not None:
            try:
                parse_address(gateway, Protocol.GRPC)
            except WrongUseError as error:
                raise ValueError(str(error)) from error
        return gateway

    @model_validator(mode="after")
    def _fits_together(self) -> AgentSettings:
        if self.gateway is None and self.policy is Policy.CLOUD_ONLY:
            raise ValueError("policy cloud_only needs a gateway; give --gateway HOST:PORT, or choose another policy")
        if self.gateway_api_key is not None and self.gateway_api_key_file is not None:
            raise ValueError("gateway_api_key and gateway_api_key_file are both set; keep one")
        return self

    def require_an_arm(self) -> None:
        """`WrongUseError` when neither this device nor a gateway could answer anything."""
        if self.gateway is None and not self.has_models:
            raise WrongUseError("neither a model nor a gateway is given; name one, as in: edgeward agent run digits")

    def read_api_key(self) -> str | None:
        """The key for the gateway, from wherever it stands; `WrongUseError` when its file cannot be read."""
        if self.gateway_api_key_file is None:
            return None if self.gateway_api_key is None else self.gateway_api_key.get_secret_value()
        try:
            return self.gateway_api_key_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise WrongUseError(f"the API key file {self.gateway_api_key_file} cannot be read: {error}") from error
