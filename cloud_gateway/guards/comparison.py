"""One guard over one population, all requests or one segment: from values of the arms to a finding."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any, Self

from cloud_gateway.guards.evidence import AsymptoticEvidence, BoundedEvidence, Evidence
from cloud_gateway.guards.settings import Direction, GuardSettings, Metric
from cloud_gateway.guards.verdict import BadPredictions, Finding
from runtime.sequential import EmpiricalBernstein, LogHistogram, Pair, Pairing, observations_needed

# Until so many comparisons were made, how many more are needed is reckoned from a variance that is assumed.
FEW = 30
# Of a difference of two shares of 5 %.
ASSUMED_VARIANCE = 0.1
# The tests are exact; the estimate of how many more is not worth more than this part of the margin.
LEAST_GAP = 0.25
# Stable differs from itself in no more than this part of what is tolerated: it counts as steady, and its bounds, which are wide at
# first, keep nobody waiting.
NOTABLE = 0.1


@dataclass(slots=True)
class Tally:
    """Count and sum of one arm's values, for the plain estimates."""

    count: int = 0
    total: float = 0.0

    def add(self, value: float) -> None:
        """One more."""
        self.count += 1
        self.total += value

    @property
    def mean(self) -> float | None:
        """None while there is none."""
        return self.total / self.count if self.count else None


class Comparison:
    """The evidence of one guard, and the plain numbers beside it."""

    def __init__(self, guard: GuardSettings, segment: str, alpha: float, weight: float, planned_share: float) -> None:
        self.guard = guard
        self.segment = segment
        self.weight = weight
        """Its part of the release's alpha."""
        self._alpha = alpha
        self._low, self._span = (guard.bounds[0], guard.bounds[1] - guard.bounds[0]) if guard.bounds else (0.0, 1.0)
        self._margin = guard.margin / self._span
        self._stable, self._candidate = Tally(), Tally()
        self._pairing = Pairing(planned_share)
        self._is_paired = planned_share in (0.0, 1.0)
        self._before_stage = 0
        self._noise: EmpiricalBernstein | None = None
        self._slow: tuple[LogHistogram, LogHistogram] | None = None
        self._evidence = self._fresh_evidence(guard.tolerated / self._span)

    def _fresh_evidence(self, tolerance: float) -> Evidence:
        if self.guard.metric is Metric.LATENCY:
            self._slow = (LogHistogram(), LogHistogram())
            # Both margins are in the latencies that are compared, so that neither share of slow requests should be the larger.
            return BoundedEvidence(0.0, -1.0, 1.0, self._alpha)
        if self.guard.metric is Metric.BUSINESS and self.guard.bounds is None:
            return AsymptoticEvidence(tolerance, self._alpha)
        lowest = 0.0 if self.guard.metric.is_between_answers else -1.0
        return BoundedEvidence(tolerance, lowest, 1.0 - self._margin, self._alpha)

    def observe_arm(self, is_candidate: bool, value: float) -> None:
        """One value of one arm; it is compared once the other arm has one of about the same time."""
        value = self._scaled(value)
        (self._candidate if is_candidate else self._stable).add(value)
        pair = self._pairing.add(is_candidate, value)
        if pair is not None:
            self._compare(pair)

    def observe_both(self, stable: float, candidate: float) -> None:
        """Values of both arms for the same request."""
        pair = Pair((self._scaled(stable),), (self._scaled(candidate),))
        self._stable.add(pair.first[0])
        self._candidate.add(pair.second[0])
        self._compare(pair)

    def observe_between(self, value: float) -> None:
        """One value that is itself a comparison: a disagreement, a distance."""
        self._candidate.add(value)
        self._evidence.observe(value, value - self._margin)

    def observe_noise(self, value: float) -> None:
        """The same of two answers of stable."""
        if self._noise is None:
            self._noise = EmpiricalBernstein(0.0, 1.0, self._alpha)
        self._noise.observe(value)

    def start_stage(self, planned_share: float) -> None:
        """Another share of traffic: fresh evidence for advancing."""
        self._pairing.resize(planned_share)
        self._evidence.start_stage()
        self._before_stage = self.count
        is_paired = planned_share in (0.0, 1.0)
        if self._slow is not None and is_paired is not self._is_paired:
            # Latencies of callers, with queue and wire, say nothing of what is slow for a run alone, nor the other way.
            self._slow = (LogHistogram(), LogHistogram())
        self._is_paired = is_paired

    @property
    def e_worse(self) -> float:
        """Evidence that the candidate is worse than tolerated; none, while stable differs from itself by as much."""
        return min(self._evidence.e_worse, 1.0) if self._may_be_noise() else self._evidence.e_worse

    def _may_be_noise(self) -> bool:
        """Whether stable's own unsteadiness may be all of it, by the bounds of both; it lowers evidence, and never adds to it."""
        if self._noise is None or not self.count or self._noise.mean <= NOTABLE * self.guard.tolerated:
            return False
        return self._evidence.interval()[1] <= self.guard.tolerated + self._noise.interval()[1]

    @property
    def is_fine(self) -> bool:
        """Whether it is proven, in this stage, that the candidate is within the margin."""
        return self._evidence.e_fine >= 1.0 / self._alpha

    @property
    def count(self) -> int:
        """Comparisons made."""
        return self._evidence.beyond.count

    @property
    def count_in_stage(self) -> int:
        """Those of this stage."""
        return self.count - self._before_stage

    def needed(self) -> int | None:
        """Comparisons still needed to prove that it is within the margin; None when it does not look as if it were.

        Of values without bounds nothing can be assumed before some were seen: until then it is the fewest that the test takes.
        """
        beyond = self._evidence.beyond
        scale = self._margin if self.guard.metric is not Metric.LATENCY else 1.0 - self.guard.quantile
        if beyond.count < FEW:
            gap = scale
            variance = 2 * scale if self.guard.metric is Metric.LATENCY else max(ASSUMED_VARIANCE, scale)
            if isinstance(self._evidence, AsymptoticEvidence):
                variance = beyond.variance
        else:
            gap, variance = max(min(-beyond.mean, scale), LEAST_GAP * scale), beyond.variance
            if -beyond.mean < 0 and self._looks_beyond():
                return None
        estimate = observations_needed(self._evidence.e_fine, self._alpha, gap, variance)
        return max(estimate, self._evidence.fewest_left, 1)

    def _looks_beyond(self) -> bool:
        """Whether the confidence sequence leaves no room under the margin."""
        if self.guard.metric is Metric.LATENCY:
            return self._evidence.interval()[1] > 0
        return self._evidence.interval()[1] >= self._margin

    def finding(self, served: int) -> Finding:
        """What is known by now; `served`: how many requests the candidate answered for callers."""
        share = self._alpha * self.weight
        common: dict[str, Any] = {
            "metric": self.guard.label,
            "segment": self.segment,
            "test": self._evidence.test,
            "stable_count": self._stable.count,
            "candidate_count": self._candidate.count,
            "e_worse": self.e_worse,
            "e_fine": self._evidence.e_fine,
            "alpha_share": share,
        }
        if not self.count:
            nothing: dict[str, Any] = dict.fromkeys(
                ("stable_estimate", "candidate_estimate", "difference", "lower", "upper")
            )
            return Finding(**common, **nothing, reason=f"{self._where()}: nothing was compared yet")
        mean, lower, upper = (value * self._span for value in self._evidence.interval())
        is_finite = isfinite(lower) and isfinite(upper)
        stable, candidate = self._estimates()
        bad = None
        if self.guard.metric is not Metric.BUSINESS:
            per_request = 1.0 / self._span
            bad = BadPredictions(max(mean, 0.0) * per_request * served, max(upper, 0.0) * per_request * served)
        return Finding(
            **common,
            stable_estimate=stable,
            candidate_estimate=candidate,
            difference=mean,
            lower=lower if is_finite else None,
            upper=upper if is_finite else None,
            reason=self._sentence(stable, candidate, mean, lower, upper),
            bad_predictions=bad if self.e_worse > 1.0 or self.guard.metric.is_of_bad_predictions else None,
        )

    def _compare(self, pair: Pair) -> None:
        if self._slow is None:
            harm = sum(pair.second) / len(pair.second) - sum(pair.first) / len(pair.first)
            if self.guard.direction is Direction.HIGHER_IS_BETTER:
                harm = -harm
            self._evidence.observe(harm, harm - self._margin)
            return
        stable, candidate = self._slow
        # Before stable has shown that many latencies, its quantile is its largest one.
        if stable.count * (1.0 - self.guard.quantile) >= 1.0:
            slow = stable.quantile(self.guard.quantile)
            normal = _share_over(pair.first, slow)
            self._evidence.observe(
                _share_over(pair.second, slow * (1.0 + self.guard.tolerated)) - normal,
                _share_over(pair.second, slow * (1.0 + self.guard.margin)) - normal,
            )
        for value in pair.first:
            stable.observe(value)
        for value in pair.second:
            candidate.observe(value)

    def _estimates(self) -> tuple[float | None, float | None]:
        if self._slow is not None:
            slow_stable, slow_candidate = self._slow
            return slow_stable.quantile(self.guard.quantile), slow_candidate.quantile(self.guard.quantile)
        stable, candidate = (
            None if tally.mean is None else self._low + self._span * tally.mean
            for tally in (self._stable, self._candidate)
        )
        return stable, candidate

    def _scaled(self, value: float) -> float:
        if self.guard.bounds is None and self.guard.metric is not Metric.LOSS:
            return float(value)
        return min(max((value - self._low) / self._span, 0.0), 1.0)

    def _where(self) -> str:
        return f"{self.guard.label} in segment {self.segment!r}" if self.segment else self.guard.label

    def _sentence(self, stable: float | None, candidate: float | None, mean: float, lower: float, upper: float) -> str:
        numbers = f"{candidate:.4g} on {self._candidate.count:,} of the candidate"
        if stable is not None:
            numbers += f", {stable:.4g} on {self._stable.count:,} of stable"
        what = "slow requests more" if self._slow is not None else "difference"
        if self.guard.metric.is_between_answers:
            what = "mean"
        noise = ""
        if self._noise is not None and self._noise.mean > 0.0:
            own, (least, most) = self._noise.mean, self._noise.interval()
            noise = f"; stable with itself {own:.4g} ({least:.4g} to {most:.4g}) on {self._noise.count:,}"
        return (
            f"{self._where()}: {numbers}; {what} {mean:+.4g} ({lower:+.4g} to {upper:+.4g}), margin {self.guard.margin:g}{noise}; "
            f"proof of harm: {_proven(self.e_worse, self._alpha * self.weight)}; "
            f"of no harm: {_proven(self._evidence.e_fine, self._alpha)}"
        )

    def to_state(self) -> dict[str, Any]:
        """Everything but the guard, in types that JSON has."""
        return {
            "segment": self.segment,
            "weight": self.weight,
            "alpha": self._alpha,
            "stable": [self._stable.count, self._stable.total],
            "candidate": [self._candidate.count, self._candidate.total],
            "pairing": self._pairing.to_state(),
            "slow": None if self._slow is None else [side.to_state() for side in self._slow],
            "evidence": self._evidence.to_state(),
            "is_paired": self._is_paired,
            "before_stage": self._before_stage,
            "noise": None if self._noise is None else self._noise.to_state(),
        }

    @classmethod
    def from_state(cls, guard: GuardSettings, state: Mapping[str, Any]) -> Self:
        """The one that `to_state` was asked of."""
        made = cls(guard, state["segment"], state["alpha"], state["weight"], 0.5)
        made._stable, made._candidate = Tally(*state["stable"]), Tally(*state["candidate"])
        made._pairing = Pairing.from_state(state["pairing"])
        if state["slow"] is not None:
            stable, candidate = (LogHistogram.from_state(side) for side in state["slow"])
            made._slow = (stable, candidate)
        made._evidence = type(made._evidence).from_state(state["evidence"])  # type: ignore[attr-defined]
        # Standings of automation were kept before stages counted for themselves; theirs have none.
        made._is_paired, made._before_stage = state.get("is_paired", False), state.get("before_stage", 0)
        if state.get("noise") is not None:
            made._noise = EmpiricalBernstein.from_state(state["noise"])
        return made


def _proven(e_value: float, alpha: float) -> str:
    """How far an e-value, of which 1 is no evidence at all, has come to the 1 / alpha that is proof: by its logarithm."""
    if e_value >= 1.0 / alpha:
        return "reached"
    return "none" if e_value <= 1.0 else f"{100 * math.log(e_value) / -math.log(alpha):.0f} % of what it takes"


def _share_over(values: tuple[float, ...], limit: float) -> float:
    return sum(value > limit for value in values) / len(values)
