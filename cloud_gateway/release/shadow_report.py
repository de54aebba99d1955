"""How a shadow's answers compare with stable's, answer by answer: of all requests, and of those of each segment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from cloud_gateway.release.comparison import Comparison
from cloud_gateway.release.latency import LatencyHistogram
from cloud_gateway.release.seen import SeenPair
from cloud_gateway.release.split import MAX_SEGMENTS, OTHER_SEGMENT

# Pairs of classes that are told apart; a model of a thousand classes has a million pairs.
MAX_CONFUSIONS: Final = 400
# Of each segment: seventeen of them are saved with the evidence every few seconds.
MAX_SEGMENT_CONFUSIONS: Final = 50
OTHER_PAIRS: Final = "other"


@dataclass(slots=True)
class Agreement:
    """How often two answers to one request agreed, and how far they were apart."""

    compared: int = 0
    agreeing: int = 0
    distance_sum: float = 0.0

    def observe(self, comparison: Comparison) -> None:
        """Takes one pair of answers in."""
        self.compared += 1
        self.agreeing += comparison.agrees
        self.distance_sum += comparison.distance

    def describe(self) -> dict[str, Any]:
        """For people and programs."""
        if not self.compared:
            return {"compared": 0}
        return {
            "compared": self.compared,
            "agreement": self.agreeing / self.compared,
            "mean_distance": self.distance_sum / self.compared,
        }

    def to_state(self) -> list[float]:
        """Everything, in types that JSON has."""
        return [self.compared, self.agreeing, self.distance_sum]

    @classmethod
    def from_state(cls, state: list[float]) -> Agreement:
        """The one that `to_state` was asked of."""
        return cls(int(state[0]), int(state[1]), state[2])


@dataclass(slots=True)
class SideBySide:
    """The candidate beside stable, and stable beside itself, on the same requests."""

    agreement: Agreement = field(default_factory=Agreement)
    noise: Agreement = field(default_factory=Agreement)
    """Stable against a second copy of stable: what no candidate can be held to."""
    confusion: dict[str, int] = field(default_factory=dict)
    """Of a classifier, rows by "stable's class>candidate's class", where they differ."""
    candidate_errors: int = 0
    stable_latency: LatencyHistogram = field(default_factory=LatencyHistogram)
    candidate_latency: LatencyHistogram = field(default_factory=LatencyHistogram)
    """Of requests that both ran alone, one after the other; a coin decides which goes first."""

    def observe(self, pair: SeenPair, max_confusions: int = MAX_CONFUSIONS) -> None:
        """Takes one request in that both were given."""
        self.candidate_errors += pair.is_candidate_error
        if pair.comparison is not None:
            self.agreement.observe(pair.comparison)
            for before, after in pair.comparison.classes:
                count_pair(self.confusion, f"{before}>{after}", max_confusions)
        if pair.noise is not None:
            self.noise.observe(pair.noise)
        if pair.timed is not None:
            self.stable_latency.observe(pair.timed[0])
            self.candidate_latency.observe(pair.timed[1])

    def describe(self) -> dict[str, Any]:
        """For people and programs."""
        return {
            **self.agreement.describe(),
            "candidate_errors": self.candidate_errors,
            "noise_floor": self.noise.describe(),
            "confusion": dict(sorted(self.confusion.items(), key=lambda pair: -pair[1])),
            "stable": self.stable_latency.describe(),
            "candidate": self.candidate_latency.describe(),
        }

    def to_state(self) -> dict[str, Any]:
        """Everything, in types that JSON has."""
        return {
            "agreement": self.agreement.to_state(),
            "noise": self.noise.to_state(),
            "confusion": self.confusion,
            "candidate_errors": self.candidate_errors,
            "stable_latency": self.stable_latency.to_state(),
            "candidate_latency": self.candidate_latency.to_state(),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> SideBySide:
        """The one that `to_state` was asked of."""
        return cls(
            Agreement.from_state(state["agreement"]),
            Agreement.from_state(state["noise"]),
            dict(state["confusion"]),
            state["candidate_errors"],
            LatencyHistogram.from_state(state["stable_latency"]),
            LatencyHistogram.from_state(state["candidate_latency"]),
        )


@dataclass(slots=True)
class ShadowReport:
    """All of a shadow's requests, and those of each segment."""

    overall: SideBySide = field(default_factory=SideBySide)
    segments: dict[str, SideBySide] = field(default_factory=dict)

    def observe(self, pair: SeenPair) -> None:
        """Takes one request in that both were given."""
        self.overall.observe(pair)
        if pair.segment:
            at = pair.segment
            # Several gateways name the first that each sees.
            if at not in self.segments and len(self.segments) >= MAX_SEGMENTS:
                at = OTHER_SEGMENT
            self.segments.setdefault(at, SideBySide()).observe(pair, MAX_SEGMENT_CONFUSIONS)

    @property
    def seen(self) -> int:
        """Requests that both versions were given."""
        return self.overall.agreement.compared + self.overall.candidate_errors

    def describe(self) -> dict[str, Any]:
        """For people and programs."""
        segments = {name: one.describe() for name, one in sorted(self.segments.items())}
        return {**self.overall.describe(), "segments": segments}

    def to_state(self) -> dict[str, Any]:
        """Everything, in types that JSON has."""
        return {
            "overall": self.overall.to_state(),
            "segments": {name: one.to_state() for name, one in self.segments.items()},
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> ShadowReport:
        """The one that `to_state` was asked of."""
        segments = {name: SideBySide.from_state(one) for name, one in state["segments"].items()}
        return cls(SideBySide.from_state(state["overall"]), segments)


def count_pair(confusion: dict[str, int], pair: str, most: int = MAX_CONFUSIONS) -> None:
    """One more of a pair; those beyond the first `most` are counted together."""
    if pair not in confusion and len(confusion) >= most:
        pair = OTHER_PAIRS
    confusion[pair] = confusion.get(pair, 0) + 1
