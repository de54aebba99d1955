"""What an agent can be told of its spool, its jobs and the models that it keeps current."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field, field_validator, model_validator

from edge_agent.spool.policy import SpoolLimits, WhenFull
from edge_agent.sync.record import TRIAL_S
from runtime.client.address import Protocol, parse_address
from runtime.errors import WrongUseError
from runtime.serving.settings import ModelServerSettings


def _split(value: object) -> object:
    """An environment variable is one text, separated by commas."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


class OfflineSettings(ModelServerSettings):
    """The agent's settings for what need not be answered at once."""

    spool_max_bytes: int = Field(default=SpoolLimits().max_bytes, gt=0)
    """Of waiting requests, and as much again of results."""
    spool_max_age_s: float = Field(default=SpoolLimits().max_age_s, gt=0)
    """A request that could not be answered for so long is dropped."""
    spool_when_full: WhenFull = SpoolLimits().when_full
    """refuse: what does not fit is refused; drop_oldest: the oldest waiting requests make room."""
    spool_result_ttl_s: float = Field(default=SpoolLimits().result_ttl_s, gt=0)
    """How long results can be fetched."""
    job_folders: Annotated[tuple[Path, ...], BeforeValidator(_split)] = ()
    """Folders whose files submitted jobs may read and write; none: jobs are refused."""
    sync_from: str | None = None
    """HTTP address of the gateway that models are kept current from: "host:port", or "https://host:port" where it speaks TLS."""
    sync_models: Annotated[tuple[str, ...], BeforeValidator(_split)] = ()
    """Names of the models to keep current."""
    sync_every_s: float | None = Field(default=None, ge=1)
    """How often the gateway is asked; None: only by `edgeward agent sync`."""
    sync_max_bytes: int = Field(default=2 << 30, gt=0)
    """Of one bundle."""
    sync_trial_s: float = Field(default=TRIAL_S, gt=0)
    """A version that has served for so long without a crash is no longer on trial, and the gateway is told that it is kept."""

    @field_validator("sync_from")
    @classmethod
    def _is_an_http_address(cls, address: str | None) -> str | None:
        if address is not None:
            try:
                parse_address(address, Protocol.HTTP)
            except WrongUseError as error:
                raise ValueError(str(error)) from error
        return address

    @model_validator(mode="after")
    def _syncs_something(self) -> OfflineSettings:
        if self.sync_every_s is not None and not (self.sync_from and self.sync_models):
            raise ValueError("sync_every_s is set without sync_from and sync_models; say which models, and from where")
        return self

    def spool_limits(self) -> SpoolLimits:
        """The spool's bounds."""
        return SpoolLimits(self.spool_max_bytes, self.spool_max_age_s, self.spool_when_full, self.spool_result_ttl_s)
