"""The levels of automation and the steps between them: numbers and `now` in, a level and its reason out."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol


class Level(StrEnum):
    """Who decides, from people alone to the model alone."""

    HUMAN_ONLY = "human_only"
    """A person; the model is not asked."""
    SHADOW = "shadow"
    """A person, who does not see what the model says."""
    ASSIST = "assist"
    """A person, who sees the model's suggestion; a share of items hides it."""
    PARTIAL = "partial"
    """The model where its confidence is proven to be good enough, else a person."""
    FULL = "full"
    """The model; a share of its answers is audited for ever."""

    @property
    def rank(self) -> int:
        """0 for `human_only` to 4 for `full`."""
        return list(Level).index(self)

    @property
    def is_automatic(self) -> bool:
        """Whether the model may answer by itself."""
        return self.rank >= Level.PARTIAL.rank


class Rules(Protocol):
    """What of the settings the decision looks at."""

    @property
    def highest_level(self) -> Level: ...  # noqa: D102

    @property
    def audit_lapse_s(self) -> float: ...  # noqa: D102

    @property
    def calibration_age_s(self) -> float: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a model in a segment, since it is at its level."""

    is_proven: bool
    """Not inferior to people: within the margin, the people's own disagreement taken off."""
    is_harmful: bool
    """Proven to be worse than people by more than the margin."""
    is_risky: bool
    """Proven to be wrong more often than wished in what it answered by itself."""
    threshold: float | None
    """The lowest confidence at which its selective risk is proven; None: there is none yet."""
    needed: int | None
    """Blind answers still needed for the next step; an estimate."""
    drift: str = ""
    """What the drift monitor says; empty: nothing."""
    calibrated_at: float | None = None
    """Seconds (wall clock) of the last blind answer."""
    audited_at: float | None = None
    """Of the last answer that checked what the model decided by itself, or of when it began to."""


@dataclass(frozen=True, slots=True)
class Step:
    """A level to be at, and why."""

    level: Level
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """In types that JSON has."""
        return {"level": str(self.level), "reason": self.reason}


def decide(level: Level, facts: Facts, rules: Rules, now: float) -> Step:
    """Where to go from `level`: down at once where there is reason to, up by one on proof, else to stay.

    Down means to the highest level at which people decide everything, `assist`; where their seeing a harmful suggestion does harm
    itself, to `shadow`. From `human_only` only a person lets it go on: nothing is known of the model then.
    """
    why_down = _why_down(level, facts, rules, now)
    if why_down:
        lower = Level.ASSIST if level.is_automatic else Level.SHADOW
        return Step(lower, why_down)
    if level is Level.HUMAN_ONLY:
        return Step(level, "the model is not asked; let it run in shadow to learn of it")
    if level.rank >= rules.highest_level.rank:
        return Step(level, f"{level} is the highest level allowed")
    if not facts.is_proven:
        more = "" if facts.needed is None else f"; about {facts.needed} blind answers more are needed"
        return Step(level, f"it is not proven yet that the model is as good as people{more}")
    higher = list(Level)[level.rank + 1]
    if higher is Level.PARTIAL and facts.threshold is None:
        return Step(level, "as good as people on the whole, but at no confidence is the wished risk proven yet")
    if higher.is_automatic and facts.drift:
        return Step(level, f"proven to be as good as people, but on rows from before they drifted: {facts.drift}")
    return Step(higher, "the model is proven to be as good as people, within the margin")


def _why_down(level: Level, facts: Facts, rules: Rules, now: float) -> str:
    """Empty: nothing speaks against the level."""
    if level in (Level.HUMAN_ONLY, Level.SHADOW):
        return ""
    if facts.is_harmful:
        return "the model is proven to be worse than people by more than the margin"
    if not level.is_automatic:
        return ""
    if facts.is_risky:
        return "the model is proven to be wrong more often than wished in what it answers by itself"
    if facts.drift:
        return f"its inputs or outputs have drifted: {facts.drift}"
    # A clock that was set back makes ages negative, never a reason.
    if facts.calibrated_at is None or now - facts.calibrated_at > rules.calibration_age_s:
        return f"its confidence was last checked {_ago(facts.calibrated_at, now)}; {rules.calibration_age_s / 3600:g} h at most"
    if facts.audited_at is None or now - facts.audited_at > rules.audit_lapse_s:
        return f"its last audit was answered {_ago(facts.audited_at, now)}; {rules.audit_lapse_s / 3600:g} h at most"
    return ""


def _ago(at: float | None, now: float) -> str:
    return "never" if at is None else f"{(now - at) / 3600:.1f} h ago"
