"""What an agent can be told: by a TOML file, `EDGEWARD_*` variables or flags."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field, SecretStr, field_validator, model_validator

from edge_agent.budget import BYTES_PER_HOUR, HEDGE_SHARE, RETRY_SHARE
from edge_agent.memory import DEFAULT_FLOOR_MB
from edge_agent.offline_settings import OfflineSettings
from edge_agent.request_options import DEFAULT_DEADLINE_S
from edge_agent.rules import Policy, Rule
from runtime.client.address import Protocol, parse_address
from runtime.confidence.defaults import DEFAULT_RISK
from runtime.config import SettingsModel
from runtime.errors import WrongUseError
from runtime.wire.values import Privacy


def _split(value: object) -> object:
    """Addresses as flags, a file or a variable give them: each alone, or several with commas between them."""
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
        return value
    return tuple(part.strip() for text in texts for part in text.split(",") if part.strip()) or None


def _from_json(value: object) -> object:
    """A variable holds one text: {"digits": {"policy": "fastest"}}."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError as error:
        raise ValueError(f"it is no JSON: {error}") from error


class RouteSettings(SettingsModel):
    """How one model's requests are routed; what is absent is as for all models."""

    policy: Policy | None = None
    privacy: Privacy | None = None
    """local_only: no request for this model leaves the device."""
    hedge: bool | None = None
    """Whether the other arm is asked too when the first takes longer than it usually does."""
    cascade: bool = False
    """Whether the cloud is asked where the local answer is not sure enough, by the bundle's labelled samples."""
    cascade_risk: float = Field(default=DEFAULT_RISK, gt=0, lt=1)
    """How many of the answers that stand may be wrong."""
    cloud_model: str | None = Field(default=None, min_length=1)
    """What the gateway is asked for instead, such as a larger model with the same inputs and outputs; None: the same name."""


class AgentSettings(OfflineSettings):
    """An edge agent: a server of models, the gateway behind it, and who answers when."""

    gateway: Annotated[tuple[str, ...] | None, BeforeValidator(_split)] = None
    """Its gRPC address, "host:port", or "grpcs://host:port" with TLS, or several of equal ones; None: this device answers alone."""
    gateway_ca: Path | None = None
    """A PEM file of who signs its certificate, for every address with TLS here; None: whom the operating system believes."""
    gateway_http: str | None = None
    """Its HTTP address, "host:port", or "https://host:port" with TLS: statistics of inputs and outputs go there; None: nowhere."""
    device_name: str = Field(default_factory=platform.node, max_length=128)
    """How the gateway names this device in what it says of its statistics."""
    telemetry_bytes_per_hour: int = Field(default=BYTES_PER_HOUR, ge=16_384)
    """What statistics may take on the way to the gateway; rows never travel there."""
    gateway_api_key: SecretStr | None = None
    """In a file or a variable; there is no flag, for command lines are seen by everybody on the machine."""
    gateway_api_key_file: Path | None = None
    """A file that holds the key and nothing else."""
    policy: Policy = Policy.EDGE_FIRST
    privacy: Privacy = Privacy.ANY
    """local_only: no request leaves the device."""
    hedge: bool = True
    """Whether the other arm is asked too when the first takes longer than it usually does."""
    hedge_share: float = Field(default=HEDGE_SHARE, ge=0, le=1)
    """How many of the requests may be hedged."""
    retry_share: float = Field(default=RETRY_SHARE, ge=0, le=1)
    """How many of the calls to gateways may be made again."""
    routes: Annotated[Mapping[str, RouteSettings], BeforeValidator(_from_json)] = Field(default_factory=dict)
    """By model, where it differs from all of this: in a file as [routes.MODEL]."""
    min_available_memory_mb: int = Field(default=DEFAULT_FLOOR_MB, ge=0)
    """With less the gateway is asked first; 0: memory is not looked at."""
    decision_log: Path | None = None
    """A file that every request's decisions are written to, for `agent replay`; None: off."""
    default_deadline_s: float = Field(default=DEFAULT_DEADLINE_S, gt=0, le=3600)
    """For requests that come without a deadline."""
    drill_file: Path | None = None
    """While this file exists every local run fails, so that the fallback can be practised; None: off."""

    @field_validator("gateway_http")
    @classmethod
    def _is_an_http_address(cls, address: str | None) -> str | None:
        if address is not None:
            try:
                parse_address(address, Protocol.HTTP)
            except WrongUseError as error:
                raise ValueError(str(error)) from error
        return address

    @field_validator("gateway")
    @classmethod
    def _are_addresses(cls, gateway: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for address in gateway or ():
            try:
                parse_address(address, Protocol.GRPC)
            except WrongUseError as error:
                raise ValueError(str(error)) from error
        if len(set(gateway or ())) != len(gateway or ()):
            raise ValueError(f"{', '.join(gateway or ())}: a gateway stands twice; name each once")
        return gateway or None

    @model_validator(mode="after")
    def _fits_together(self) -> AgentSettings:
        if self.gateway is None and self.policy is Policy.CLOUD_ONLY:
            raise ValueError("policy cloud_only needs a gateway; give --gateway HOST:PORT, or choose another policy")
        addresses = [*(self.gateway or ()), self.gateway_http or "", self.sync_from or ""]
        if self.gateway_ca is not None and not any(one.startswith(("grpcs://", "https://")) for one in addresses):
            raise ValueError(
                f"gateway_ca is set, but nothing is asked over TLS ({', '.join(filter(None, addresses)) or 'no address'}); "
                "write gateway as grpcs://HOST:PORT, gateway_http and sync_from as https://HOST:PORT"
            )
        for model, route in self.routes.items():
            policy = route.policy or self.policy
            if self.gateway is None and policy is Policy.CLOUD_ONLY:
                raise ValueError(f"routes.{model}: policy cloud_only needs a gateway; give --gateway HOST:PORT")
            if route.cascade and policy is not Policy.EDGE_FIRST:
                raise ValueError(
                    f'routes.{model}: a cascade asks the edge first, but the policy is {policy}; set policy = "edge_first"'
                )
        if self.gateway_api_key is not None and self.gateway_api_key_file is not None:
            raise ValueError("gateway_api_key and gateway_api_key_file are both set; keep one")
        return self

    def rule_of(self, model: str) -> Rule:
        """How requests to `model` are routed; a cascade's threshold is not known yet."""
        route = self.routes.get(model, RouteSettings())
        return Rule(
            self.policy if route.policy is None else route.policy,
            self.privacy if route.privacy is None else route.privacy,
            self.hedge if route.hedge is None else route.hedge,
        )

    def cloud_names(self) -> dict[str, str]:
        """By model, the name that the gateway has for it, where that is another."""
        return {name: route.cloud_model for name, route in self.routes.items() if route.cloud_model is not None}

    def cascade_risks(self) -> dict[str, float]:
        """By model with a cascade, how many of the answers that stand may be wrong."""
        return {name: route.cascade_risk for name, route in self.routes.items() if route.cascade}

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
