"""What is counted in a release: requests of both arms, losses where the truth is known, and people beside both versions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cloud_gateway.guards import Arm, LabelledObservation, Observation
from cloud_gateway.release.latency import LatencyHistogram
from cloud_gateway.release.shadow_report import ShadowReport, count_pair
from cloud_gateway.release.split import MAX_SEGMENTS, OTHER_SEGMENT


@dataclass(slots=True)
class ArmCounts:
    """What one arm did for callers."""

    requests: int = 0
    errors: int = 0
    latency: LatencyHistogram = field(default_factory=LatencyHistogram)

    def observe(self, observation: Observation) -> None:
        """Takes one request in."""
        self.requests += 1
        if observation.is_error:
            self.errors += 1
        else:
            self.latency.observe(observation.latency_s)

    def describe(self) -> dict[str, Any]:
        """For people and programs."""
        return {"requests": self.requests, "errors": self.errors, **self.latency.describe()}

    def to_state(self) -> dict[str, Any]:
        """Everything, in types that JSON has."""
        return {"requests": self.requests, "errors": self.errors, "latency": self.latency.to_state()}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> ArmCounts:
        """The one that `to_state` was asked of."""
        return cls(state["requests"], state["errors"], LatencyHistogram.from_state(state["latency"]))


@dataclass(slots=True)
class Losses:
    """Losses against labels, of the requests that both arms answered and whose truth came."""

    labelled: int = 0
    paired: int = 0
    stable_sum: float = 0.0
    candidate_sum: float = 0.0
    squared_sum: float = 0.0
    """Of the differences, candidate minus stable."""

    def observe(self, label: LabelledObservation) -> None:
        """Takes one label in."""
        self.labelled += 1
        if label.stable_loss is None or label.candidate_loss is None:
            return
        self.paired += 1
        self.stable_sum += label.stable_loss
        self.candidate_sum += label.candidate_loss
        self.squared_sum += (label.candidate_loss - label.stable_loss) ** 2

    def describe(self) -> dict[str, Any]:
        """For people and programs."""
        told: dict[str, Any] = {"labelled": self.labelled, "paired": self.paired}
        if self.paired:
            told |= {
                "stable_loss": self.stable_sum / self.paired,
                "candidate_loss": self.candidate_sum / self.paired,
                "difference": (self.candidate_sum - self.stable_sum) / self.paired,
            }
        return told

    def to_state(self) -> list[float]:
        """Everything, in types that JSON has."""
        return [self.labelled, self.paired, self.stable_sum, self.candidate_sum, self.squared_sum]

    @classmethod
    def from_state(cls, state: list[float]) -> Losses:
        """The one that `to_state` was asked of."""
        labelled, paired, *sums = state
        return cls(int(labelled), int(paired), *sums)


@dataclass(frozen=True, slots=True)
class PersonBeside:
    """A request whose truth is known and that a person had answered, blind to what any model said."""

    person_loss: float
    stable_loss: float | None
    """None, as the candidate's then: it had not answered."""
    candidate_loss: float | None
    differing: tuple[tuple[str, str], ...] = ()
    """The person's and the candidate's answer to each row where they differ."""


@dataclass(slots=True)
class PeopleReport:
    """People as the control arm: their losses beside those of both versions, on the same requests."""

    stable: Losses = field(default_factory=Losses)
    """With people in the place of stable, and stable in that of the candidate."""
    candidate: Losses = field(default_factory=Losses)
    """With people in the place of stable."""
    confusion: dict[str, int] = field(default_factory=dict)
    """Rows by "a person's answer>the candidate's", where they differ."""

    def observe(self, seen: PersonBeside) -> None:
        """Takes one request in."""
        self.stable.observe(LabelledObservation(seen.person_loss, seen.stable_loss))
        self.candidate.observe(LabelledObservation(seen.person_loss, seen.candidate_loss))
        for said, answer in seen.differing:
            count_pair(self.confusion, f"{said}>{answer}")

    def describe(self) -> dict[str, Any]:
        """For people and programs."""
        told = {
            name: {"compared": one.paired}
            | (
                {"people_loss": one.stable_sum / one.paired, "loss": one.candidate_sum / one.paired}
                if one.paired
                else {}
            )
            for name, one in (("stable", self.stable), ("candidate", self.candidate))
        }
        return {**told, "confusion": dict(sorted(self.confusion.items(), key=lambda pair: -pair[1]))}

    def to_state(self) -> dict[str, Any]:
        """Everything, in types that JSON has."""
        return {
            "stable": self.stable.to_state(),
            "candidate": self.candidate.to_state(),
            "confusion": self.confusion,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> PeopleReport:
        """The one that `to_state` was asked of."""
        return cls(Losses.from_state(state["stable"]), Losses.from_state(state["candidate"]), dict(state["confusion"]))


@dataclass(slots=True)
class ReleaseCounts:
    """All of it, for one release."""

    arms: dict[Arm, ArmCounts] = field(default_factory=lambda: {arm: ArmCounts() for arm in Arm})
    replaced: int = 0
    """Requests whose candidate failed and that stable answered instead: no caller saw that error."""
    shadow: ShadowReport = field(default_factory=ShadowReport)
    losses: Losses = field(default_factory=Losses)
    segment_losses: dict[str, Losses] = field(default_factory=dict)
    people: PeopleReport = field(default_factory=PeopleReport)

    def observe_label(self, label: LabelledObservation) -> None:
        """Takes one label in, for all requests and for its segment."""
        self.losses.observe(label)
        if label.segment:
            at = label.segment
            if at not in self.segment_losses and len(self.segment_losses) >= MAX_SEGMENTS:
                at = OTHER_SEGMENT
            self.segment_losses.setdefault(at, Losses()).observe(label)

    def describe_losses(self) -> dict[str, Any]:
        """For people and programs."""
        segments = {name: one.describe() for name, one in sorted(self.segment_losses.items())}
        return {**self.losses.describe(), "segments": segments, "people": self.people.describe()}

    def to_state(self) -> dict[str, Any]:
        """Everything, in types that JSON has."""
        return {
            "arms": {str(arm): one.to_state() for arm, one in self.arms.items()},
            "replaced": self.replaced,
            "shadow": self.shadow.to_state(),
            "losses": self.losses.to_state(),
            "segment_losses": {name: one.to_state() for name, one in self.segment_losses.items()},
            "people": self.people.to_state(),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> ReleaseCounts:
        """The one that `to_state` was asked of."""
        return cls(
            {Arm(arm): ArmCounts.from_state(one) for arm, one in state["arms"].items()},
            state["replaced"],
            ShadowReport.from_state(state["shadow"]),
            Losses.from_state(state["losses"]),
            {name: Losses.from_state(one) for name, one in state["segment_losses"].items()},
            PeopleReport.from_state(state["people"]),
        )
