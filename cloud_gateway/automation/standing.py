"""All that is known of one model in one segment: its level, the evidence for it, when it was last checked. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from cloud_gateway.automation.levels import Facts, Level, Step, decide
from cloud_gateway.automation.selective import SelectiveRisk
from cloud_gateway.automation.settings import AutomationSettings
from cloud_gateway.guards.comparison import Comparison
from cloud_gateway.guards.settings import GuardSettings, Metric
from runtime.sequential import BettingMixture


@dataclass(frozen=True, slots=True)
class BlindAnswer:
    """A person's answer that the model's suggestion cannot have swayed, for an item chosen without regard to it."""

    model_loss: float
    """0: the same answer, to 1."""
    human_loss: float | None
    """How far a second person's answer is from the first's; None: nobody else was asked."""
    confidence: float | None
    """Of the model; None where its answers have none."""
    decided_by_model: bool
    """Whether the model had answered the request by itself: then this is an audit."""


@dataclass(slots=True)
class Standing:
    """One model in one segment. `now` is wall-clock seconds, since it must outlive the process."""

    settings: AutomationSettings
    level: Level
    since: float
    drift: str = ""
    calibrated_at: float | None = None
    audited_at: float | None = None
    shown: int = 0
    """Suggestions that were shown to a person who then answered."""
    overridden: int = 0
    """Those that the person did not follow."""
    _versus: Comparison = field(init=False)
    _selective: SelectiveRisk = field(init=False)
    _audit: BettingMixture = field(init=False)

    def __post_init__(self) -> None:
        self._selective = SelectiveRisk(self.settings.selective_risk, self.settings.alpha)
        self._start_evidence()

    def _start_evidence(self) -> None:
        """A level's own evidence: as good as people, and wrong no more than wished where the model answered by itself."""
        margin = self.settings.margin
        guard = GuardSettings(metric=Metric.LOSS, margin=margin, tolerance=margin)
        self._versus = Comparison(guard, "", self.settings.alpha, 1.0, 0.5)
        self._audit = BettingMixture(self.settings.selective_risk, 0.0)

    def observe(self, answer: BlindAnswer, now: float) -> None:
        """Takes in one blind answer."""
        floor = answer.human_loss if self.settings.noise_floor is None else self.settings.noise_floor
        # People are the control arm. Without a second opinion there is nothing to say how right they are themselves.
        if floor is not None:
            self._versus.observe_both(stable=floor, candidate=answer.model_loss)
        if answer.confidence is not None:
            self._selective.observe(answer.confidence, answer.model_loss)
            self.calibrated_at = now
        if answer.decided_by_model:
            self._audit.observe(answer.model_loss)
            self.audited_at = now

    def observe_truth(self, human_loss: float | None, model_loss: float | None) -> None:
        """Takes in the truth for a request: what each that had answered it has lost."""
        if human_loss is not None and model_loss is not None:
            self._versus.observe_both(stable=human_loss, candidate=model_loss)
        if human_loss is None and model_loss is not None and self.level.is_automatic:
            self._audit.observe(model_loss)

    def observe_shown(self, is_overridden: bool) -> None:
        """A person who saw the suggestion answered."""
        self.shown += 1
        self.overridden += is_overridden

    def facts(self) -> Facts:
        """What the decision looks at."""
        return Facts(
            is_proven=self._versus.is_fine,
            is_harmful=self._versus.e_worse >= 1.0 / self.settings.alpha,
            is_risky=self.level.is_automatic and self._audit.e_value >= 1.0 / self.settings.alpha,
            threshold=self._selective.threshold,
            needed=self._versus.needed(),
            drift=self.drift,
            calibrated_at=self.calibrated_at,
            audited_at=self.audited_at,
        )

    @property
    def threshold(self) -> float | None:
        """The confidence from which on the model answers by itself at level `partial`."""
        return self._selective.threshold

    def decide(self, now: float) -> Step:
        """Where it should be, and why; nothing changes yet."""
        return decide(self.level, self.facts(), self.settings, now)

    def move(self, level: Level, now: float) -> None:
        """To another level: evidence for the next step begins anew; after a step down so does what its confidence means."""
        if level.rank < self.level.rank:
            self._selective = SelectiveRisk(self.settings.selective_risk, self.settings.alpha)
            self.calibrated_at = None
        if level.is_automatic:
            # A level's first audit and, where a person has set it without any, its first blind answer get the whole time.
            self.audited_at = now
            self.calibrated_at = now if self.calibrated_at is None else self.calibrated_at
        else:
            self.audited_at = None
        self.level, self.since = level, now
        self._start_evidence()

    def describe(self, now: float) -> dict[str, Any]:
        """For people and programs."""
        finding = self._versus.finding(0)
        return {
            "level": str(self.level),
            "since": self.since,
            "next": self.decide(now).to_dict(),
            "threshold": self.threshold,
            "drift": self.drift,
            "calibrated_at": self.calibrated_at,
            "audited_at": self.audited_at,
            "compared_with_people": self._versus.count,
            "model_loss": finding.candidate_estimate,
            "human_loss": finding.stable_estimate,
            "difference": finding.difference,
            "lower": finding.lower,
            "upper": finding.upper,
            "e_proven": finding.e_fine,
            "e_harmful": finding.e_worse,
            "suggestions_shown": self.shown,
            "override_rate": self.overridden / self.shown if self.shown else None,
        }

    def to_state(self) -> dict[str, Any]:
        """Everything but the settings, in types that JSON has."""
        return {
            "level": str(self.level),
            "since": self.since,
            "drift": self.drift,
            "calibrated_at": self.calibrated_at,
            "audited_at": self.audited_at,
            "shown": self.shown,
            "overridden": self.overridden,
            "versus": self._versus.to_state(),
            "selective": self._selective.to_state(),
            "audit": self._audit.to_state(),
            "rules": _rules(self.settings),
        }

    @classmethod
    def from_state(cls, settings: AutomationSettings, state: Mapping[str, Any]) -> Self:
        """The one that `to_state` was asked of; evidence that was gathered for other margins or risks begins anew."""
        made = cls(settings, Level(state["level"]), state["since"])
        made.drift, made.calibrated_at, made.audited_at = state["drift"], state["calibrated_at"], state["audited_at"]
        made.shown, made.overridden = state["shown"], state["overridden"]
        if state["rules"] == _rules(settings):
            made._versus = Comparison.from_state(made._versus.guard, state["versus"])
            made._selective = SelectiveRisk.from_state(state["selective"])
            made._audit = BettingMixture.from_state(state["audit"])
        return made


def _rules(settings: AutomationSettings) -> list[float | None]:
    return [settings.margin, settings.selective_risk, settings.alpha, settings.noise_floor]
