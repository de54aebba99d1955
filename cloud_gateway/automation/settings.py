"""What a gateway can be told of the automation of one model: a table `[[automation]]` of its TOML file."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from cloud_gateway.automation.levels import Level
from runtime.config import SettingsModel

DAY_S = 86_400.0


class AutomationSettings(SettingsModel):
    """How far a model may go by itself, and what it must prove before."""

    model: str = Field(min_length=1, max_length=256)
    start_level: Level = Level.HUMAN_ONLY
    """Where a segment begins that was never seen; from `human_only` a person lets it go on."""
    highest_level: Level = Level.FULL
    """It never steps up beyond this one."""
    margin: float = Field(default=0.02, gt=0, lt=1)
    """How much more often than people the model may be wrong."""
    noise_floor: float | None = Field(default=None, ge=0, lt=1)
    """How often two people disagree, where that is known; None: measured, by asking two of them for `second_opinion_share`."""
    second_opinion_share: float = Field(default=0.2, gt=0, le=1)
    selective_risk: float = Field(default=0.02, gt=0, lt=1)
    """At level `partial`: the share of wrong answers among those that the model gives by itself, at most."""
    alpha: float = Field(default=0.05, gt=0, lt=1)
    """The most probability of a step up that the truth does not warrant."""
    blind_share: float = Field(default=0.1, gt=0, le=1)
    """At level `assist`: so many items hide the suggestion, because people who see one tend to follow it."""
    audit_share: float = Field(default=0.02, gt=0, le=1)
    """Of what the model answers by itself: so many go to a person as well, blind, for ever."""
    audit_lapse_s: float = Field(default=7 * DAY_S, gt=0)
    """Without an audit's answer for so long the model does not go on by itself."""
    calibration_age_s: float = Field(default=30 * DAY_S, gt=0)
    """Without a blind answer for so long what its confidence means is not known any more."""
    tolerance: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """Numbers that differ by no more are the same answer, for regression."""
    output: str = ""
    """The output that holds the answer; empty: the first one."""
    shows_inputs: bool = True
    """Whether an open item's input is kept in the database (pictures, the first values) for whoever answers it on the page."""
    most_open_items: int = Field(default=10_000, ge=1)
    """With so many unanswered, requests that need a person are refused."""

    @model_validator(mode="after")
    def _levels_in_order(self) -> Self:
        if self.start_level.rank > self.highest_level.rank:
            raise ValueError(f"start_level is {self.start_level}, above highest_level {self.highest_level}")
        return self
