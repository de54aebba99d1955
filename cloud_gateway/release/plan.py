"""What a release asks for: one TOML file, checked as a whole before anything happens.

model = "digits"
stable = 1
candidate = 2
strategy = "canary"            # shadow | canary | blue_green
stages = [1, 5, 10, 25, 50, 100]
hold_s = 300

[[guards]]
metric = "error_rate"
margin = 0.01
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from enum import StrEnum
from itertools import pairwise
from typing import Annotated, Any, Self
from urllib.parse import urlsplit

from pydantic import Field, ValidationError, model_validator

from cloud_gateway.guards import GuardSettings, Metric
from runtime.bundle.manifest import ModelName
from runtime.config import SettingsModel
from runtime.errors import InvalidInputError

CANARY_STAGES = (1.0, 5.0, 10.0, 25.0, 50.0, 100.0)

Percent = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]


class Strategy(StrEnum):
    """How the candidate meets the traffic."""

    SHADOW = "shadow"
    """It answers the same requests beside stable, and nobody sees its answers."""
    CANARY = "canary"
    """It answers a growing share."""
    BLUE_GREEN = "blue_green"
    """Both are warm, and traffic is switched at once, to any share and back."""


class ShadowSettings(SettingsModel):
    """The candidate beside stable."""

    share: Percent = 100.0
    """Percent of stable's requests that the candidate answers too."""
    queue: int = Field(default=256, ge=1, le=65536)
    """Requests that may wait for it; more are dropped, and counted."""
    noise_floor_every: int = Field(default=20, ge=0)
    """One mirrored request of so many is run on stable once more, to see how far stable differs from itself; 0: none."""
    noise_floor_copy: bool = True
    """Whether that is a second copy of stable, as the candidate is one more: a third model in memory. False: stable itself, which
    hides what only two sessions differ by."""


class ReleasePlan(SettingsModel):
    """One release of one model."""

    model: ModelName
    stable: int = Field(ge=1)
    candidate: int = Field(ge=1)
    strategy: Strategy = Strategy.CANARY
    stages: tuple[Percent, ...] = ()
    """Percent of the traffic that the candidate gets, stage by stage. Empty: 1-5-10-25-50-100 for a canary, 100 for blue-green."""
    hold_s: float = Field(default=60.0, ge=0, le=30 * 86400, allow_inf_nan=False)
    """The least time in each stage, counted while a gateway runs it."""
    keep_warm_s: float = Field(default=600.0, ge=0, le=30 * 86400, allow_inf_nan=False)
    """How long at least stable stays loaded after the candidate has all of the traffic, so that the way back is one step."""
    control_share: float = Field(default=50.0, gt=0, le=100, allow_inf_nan=False)
    """While the candidate has all of the traffic: percent of its requests that stable answers too, off the way of every request,
    so that there is something to compare it with. As many as `shadow.queue` wait; more are left out, and counted."""
    promote_by_hand: bool = False
    """Whether the last stage waits for `edgeward release promote`."""
    routing_key: str = Field(default="routing_key", min_length=1, max_length=128)
    """The request parameter whose value decides the arm, such as a user's id. Requests without it are split by their id."""
    segment: str = Field(default="", max_length=128)
    """The request parameter that names a request's segment; empty: there are none."""
    alpha: float = Field(default=0.05, gt=0, lt=0.5)
    """The chance, over the whole release, of rolling back a candidate that is no worse."""
    guards: tuple[GuardSettings, ...] = ()
    """None: an error rate no more than 1 percentage point higher, and for a shadow an output that differs in no more than 5 %."""
    shadow: ShadowSettings | None = None
    """For a canary: whether stable's requests are mirrored too. A shadow release has one, if only the default."""
    waves: tuple[Percent, ...] = ()
    """Percent of the devices that are offered the candidate, wave by wave, once it is promoted here; empty: all of them at once."""
    wave_tolerated: float = Field(default=0.01, gt=0, lt=1)
    """The share of devices that may fail an update for reasons of their own; more, and the waves are halted."""
    webhook: str = ""
    """A URL that gets every event as JSON; empty: none."""

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, values: Any) -> Any:
        """What follows from the strategy, put in where it is absent, so that a plan shows what it does."""
        if not isinstance(values, dict):
            return values
        strategy = values.get("strategy", Strategy.CANARY)
        filled = dict(values)
        if strategy == Strategy.SHADOW:
            filled.setdefault("shadow", {})
        elif not filled.get("stages"):
            filled["stages"] = CANARY_STAGES if strategy == Strategy.CANARY else (100.0,)
        if not filled.get("guards"):
            guards = [GuardSettings(metric=Metric.ERROR_RATE, margin=0.01)]
            if strategy == Strategy.SHADOW:
                guards.append(GuardSettings(metric=Metric.DISAGREEMENT, margin=0.05))
            filled["guards"] = tuple(guards)
        return filled

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.stable == self.candidate:
            raise ValueError(f"stable and candidate are both version {self.stable}; expected two versions")
        if self.strategy is Strategy.SHADOW:
            if self.stages:
                raise ValueError(f"a shadow gets no traffic, so it has no stages; got {list(self.stages)}")
        else:
            self._check_stages()
        is_always_compared = self.strategy is Strategy.SHADOW or self.stages == (100.0,)
        if not is_always_compared and self.shadow is None:
            wanting = [g.label for g in self.guards if g.metric.is_between_answers]
            if wanting:
                raise ValueError(
                    f"guard {wanting[0]} compares answers to the same requests, which a {self.strategy} without a shadow does not "
                    "have; add a [shadow] table"
                )
        labels = [(g.metric, g.name, g.quantile if g.metric is Metric.LATENCY else 0) for g in self.guards]
        if twice := [g.label for g, key in zip(self.guards, labels, strict=True) if labels.count(key) > 1]:
            raise ValueError(f"guard {twice[0]} stands twice; one of a kind is enough")
        self._check_waves()
        if self.webhook:
            parts = urlsplit(self.webhook)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise ValueError(f"webhook {self.webhook!r} is no URL; expected http://host/path or https://host/path")
        return self

    def _check_stages(self) -> None:
        stages = list(self.stages)
        if any(later <= earlier for earlier, later in pairwise(stages)):
            raise ValueError(f"stages {stages} do not rise; expected percentages such as [1, 5, 10, 25, 50, 100]")
        if stages[-1] != 100:
            raise ValueError(f"stages {stages} end at {stages[-1]:g} %; the last stage of a release is 100")
        if stages[0] == 0:
            raise ValueError(f"stages {stages} begin with 0 %, which would never bring evidence; leave it out")
        if all(0 < stage <= 1 for stage in stages[:-1]) and len(stages) > 2:
            raise ValueError(
                f"stages {stages} look like fractions; they are percentages, as in [1, 5, 10, 25, 50, 100]"
            )

    def _check_waves(self) -> None:
        waves = list(self.waves)
        if waves and self.strategy is Strategy.SHADOW:
            raise ValueError(f"a shadow is never promoted, so no device gets it; got waves {waves}")
        if waves and (waves[0] <= 0 or waves[-1] != 100 or any(high <= low for low, high in pairwise(waves))):
            raise ValueError(
                f"waves {waves} are none; expected rising percentages of the devices such as [1, 5, 25, 100]"
            )

    def share(self, stage: int) -> float:
        """The share of traffic, 0 to 1, that the candidate gets in a stage, counted from 0; none for a shadow."""
        return self.stages[stage] / 100 if self.stages else 0.0

    def paired_share(self, share: float) -> float:
        """Of the requests that one version alone has callers for, how many both are given, 0 to 1; `share`: the candidate's."""
        if share == 1.0:
            return self.control_share / 100
        return 1.0 if self.shadow is None else self.shadow.share / 100 or 1.0


def parse_plan(text: str, where: str = "the plan") -> ReleasePlan:
    """The plan that a TOML text holds; `InvalidInputError` names every wrong key, with the nearest known one."""
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidInputError(f"{where} is not TOML: {error}") from None
    return check_plan(values, where)


def check_plan(values: Mapping[str, Any], where: str = "the plan") -> ReleasePlan:
    """The plan that a table of values means; errors as with `parse_plan`."""
    try:
        return ReleasePlan.model_validate(dict(values))
    except ValidationError as error:
        raise InvalidInputError(f"{where}: " + "; ".join(_explain(problem) for problem in error.errors())) from None


_KEYS: Mapping[str, list[str]] = {
    "": list(ReleasePlan.model_fields),
    "guards": list(GuardSettings.model_fields),
    "shadow": list(ShadowSettings.model_fields),
}


def _explain(problem: Any) -> str:
    path = [str(part) for part in problem["loc"]]
    at = ".".join(path) or "plan"
    if problem["type"] == "extra_forbidden":
        known = _KEYS.get(path[0] if len(path) > 1 else "", [])
        near = difflib.get_close_matches(path[-1], known, n=1)
        return f"unknown key {at!r}; " + (f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(known)}")
    if problem["type"] == "missing":
        return f"{at} is missing"
    message = problem["msg"].removeprefix("Value error, ")
    if not path:
        return str(message)
    return f"{at}: {message}; got {problem.get('input')!r:.120}"
