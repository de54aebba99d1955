"""The guards of one release at work: observations in, a verdict out at any time.

Rolling back: the weighted mean of all evidence of harm, over guards and segments, reaches 1 / alpha. Each is an e-process, so their
mean is one, and a candidate that is no worse in anything is ever rolled back with probability alpha at most, however often
one looks: never weaker than dividing alpha among them. Advancing: every required guard has proven, in this stage, that the
candidate is within its margin; since all must, each may use alpha undivided. Anything else holds.

Values of one arm are taken as exchangeable given the past; one routing key that fails for reasons of its own, sticky on the
candidate, is not: weigh such keys down before they get here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import ceil, isfinite, isnan
from typing import Any, Final, Self

from cloud_gateway.guards.comparison import FEW, Comparison
from cloud_gateway.guards.observations import (
    Arm,
    LabelledObservation,
    MetricObservation,
    Observation,
    PairedObservation,
)
from cloud_gateway.guards.settings import GuardSettings, Metric
from cloud_gateway.guards.split import SplitCheck
from cloud_gateway.guards.verdict import Action, Finding, Verdict
from runtime.errors import InvalidInputError

AnyObservation = Observation | PairedObservation | LabelledObservation | MetricObservation

MOST_SEGMENTS: Final = 32
"""Each guard watches so many segments, the first that it sees; the others count in its overall comparison."""
_SEGMENTS_PART: Final = 0.5


class GuardWatch:
    """All guards of a release: O(1) memory and time for each observation, no clock, no I/O; state survives as JSON.

    `alpha`: the most probability of ever rolling a candidate back that is no worse, and of the last stage advancing with one
    that is worse by the margin. `planned_share`: of the traffic that the candidate gets, 0 for a shadow. Where one version has
    all of it, only requests that the other was given too are compared: `paired_share` of them are to be, 0 to 1.
    """

    def __init__(
        self, guards: Sequence[GuardSettings], alpha: float, planned_share: float, paired_share: float = 1.0
    ) -> None:
        if not 0.0 < alpha < 1.0:
            raise ValueError(f"alpha is {alpha}; expected a probability such as 0.05")
        self._guards = tuple(guards)
        self._alpha = alpha
        self._share = planned_share
        self._paired_share = paired_share
        total = sum(guard.weight for guard in guards)
        self._weights = [guard.weight / total for guard in guards]
        self._overall = [
            Comparison(guard, "", alpha, weight * (1 - _SEGMENTS_PART if guard.by_segment else 1), planned_share)
            for guard, weight in zip(guards, self._weights, strict=True)
        ]
        self._segments: list[dict[str, Comparison]] = [{} for _ in guards]
        self._split = SplitCheck(planned_share)
        self._served: dict[str, int] = {"": 0}
        self._requests = 0
        self._left_out = 0

    def observe(self, observation: AnyObservation) -> None:
        """Takes one observation in; `InvalidInputError` for a latency, loss or metric that is no finite number."""
        match observation:
            case Observation():
                self._observe_request(observation)
            case PairedObservation():
                self._observe_shadow(observation)
            case LabelledObservation():
                self._observe_label(observation)
            case MetricObservation():
                value = _finite(observation.name, observation.value)
                for comparison in self._watching(Metric.BUSINESS, observation.segment, observation.name):
                    comparison.observe_arm(observation.arm is Arm.CANDIDATE, value)

    @property
    def action(self) -> Action:
        """What `judge` would say is to be done, without the findings: who looks several times a second needs none.

        Takes 11 us where `judge` takes 140 (one guard), and 1/34 of its time with four guards by 17 segments.
        """
        if self._evidence >= 1.0 / self._alpha:
            return Action.ROLLBACK
        comparable = self._comparable
        if self._split.complaint or not comparable or not all(one.is_fine for one in comparable):
            return Action.HOLD
        return Action.ADVANCE

    def judge(self) -> Verdict:
        """The verdict as of now; may be asked after every observation."""
        findings = tuple(
            comparison.finding(self._served.get(comparison.segment, 0)) for comparison in self._comparisons()
        )
        evidence = self._evidence
        if evidence >= 1.0 / self._alpha:
            return Verdict(Action.ROLLBACK, self._why_back(findings, evidence), findings, None)
        if self._split.complaint:
            return Verdict(Action.HOLD, self._split.complaint, findings, None)
        required = [guard.label for guard in self._guards if guard.is_required]
        if not required:
            return Verdict(Action.HOLD, "no guard is required, so nothing can prove the candidate fit", findings, None)
        comparable = self._comparable
        if not comparable:
            reason = (
                f"nothing that {', '.join(required)} could be compared with is reported while the candidate has all of the "
                "traffic"
            )
            return Verdict(Action.HOLD, reason, findings, None)
        waiting = [comparison for comparison in comparable if not comparison.is_fine]
        if waiting:
            needed, reason = self._why_wait(waiting)
            return Verdict(Action.HOLD, reason, findings, needed)
        labels = ", ".join(one.guard.label for one in comparable)
        reason = f"within the margin of every required guard, at alpha {self._alpha:g}: {labels}"
        return Verdict(Action.ADVANCE, reason, findings, None)

    @property
    def _evidence(self) -> float:
        """Of harm, in all guards and segments together; what nobody has yet, of segments not seen, counts as 1: none."""
        return 1.0 + sum(comparison.weight * (comparison.e_worse - 1.0) for comparison in self._comparisons())

    @property
    def _comparable(self) -> list[Comparison]:
        """What has to be proven, of all that can be: nobody reports for stable while the candidate has all of the traffic."""
        return [
            one
            for one in self._overall
            if one.guard.is_required and (self._share < 1.0 or one.guard.metric is not Metric.BUSINESS)
        ]

    def start_stage(self, planned_share: float, paired_share: float = 1.0) -> None:
        """From here on the candidate is to get `planned_share` of the traffic, and advancing needs fresh evidence."""
        self._share, self._paired_share = planned_share, paired_share
        self._requests = 0
        self._split = SplitCheck(planned_share)
        for comparison in self._comparisons():
            comparison.start_stage(planned_share)

    def _observe_request(self, seen: Observation) -> None:
        is_candidate = seen.arm is Arm.CANDIDATE
        if is_candidate:
            self._served[""] += 1
            if seen.segment and (seen.segment in self._served or len(self._served) <= MOST_SEGMENTS):
                self._served[seen.segment] = self._served.get(seen.segment, 0) + 1
        if not seen.is_of_stage:
            return
        self._requests += 1
        self._split.observe(seen.key, is_candidate)
        if self._share == 1.0:
            return  # stable answers no callers: pairs are what is compared
        for comparison in self._watching(Metric.ERROR_RATE, seen.segment):
            comparison.observe_arm(is_candidate, float(seen.is_error))
        # How fast a request failed says nothing about how fast it is answered.
        if not seen.is_error:
            latency_s = _finite("latency_s", seen.latency_s)
            for comparison in self._watching(Metric.LATENCY, seen.segment):
                comparison.observe_arm(is_candidate, latency_s)

    def _observe_shadow(self, seen: PairedObservation) -> None:
        if self._share == 0.0:
            self._requests += 1  # else it was counted as its caller's
        for comparison in self._watching(Metric.ERROR_RATE, seen.segment):
            comparison.observe_both(float(seen.is_stable_error), float(seen.is_candidate_error))
        if seen.is_stable_error:
            return
        if seen.agrees is not None:
            self._observe_answers(seen, seen.agrees)
        if seen.stable_latency_s is not None and seen.candidate_latency_s is not None and not seen.is_candidate_error:
            stable_s = _finite("stable_latency_s", seen.stable_latency_s)
            candidate_s = _finite("candidate_latency_s", seen.candidate_latency_s)
            for comparison in self._watching(Metric.LATENCY, seen.segment):
                comparison.observe_both(stable_s, candidate_s)

    def _observe_answers(self, seen: PairedObservation, agrees: bool) -> None:
        for comparison in self._watching(Metric.DISAGREEMENT, seen.segment):
            comparison.observe_between(float(not agrees))
            if seen.noise_agrees is not None:
                comparison.observe_noise(float(not seen.noise_agrees))
        # An output that has no distance, such as NaN, is as far off as can be.
        distance = 1.0 if isnan(seen.distance) else min(max(seen.distance, 0.0), 1.0)
        for comparison in self._watching(Metric.OUTPUT_DRIFT, seen.segment):
            comparison.observe_between(distance)
            if seen.noise_distance is not None:
                comparison.observe_noise(seen.noise_distance)

    def _observe_label(self, seen: LabelledObservation) -> None:
        stable = None if seen.stable_loss is None else _finite("stable_loss", seen.stable_loss)
        candidate = None if seen.candidate_loss is None else _finite("candidate_loss", seen.candidate_loss)
        for comparison in self._watching(Metric.LOSS, seen.segment):
            if stable is not None and candidate is not None:
                comparison.observe_both(stable, candidate)
            elif self._share == 1.0:
                continue  # what stable alone answered is what the candidate failed: no sample of its requests
            elif candidate is not None:
                comparison.observe_arm(True, candidate)
            elif stable is not None:
                comparison.observe_arm(False, stable)

    def _watching(self, metric: Metric, segment: str, name: str = "") -> Iterator[Comparison]:
        """Every comparison of that metric that a request of the segment counts in."""
        for at, guard in enumerate(self._guards):
            if guard.metric is not metric or guard.name != name:
                continue
            yield self._overall[at]
            if guard.by_segment and segment:
                own = self._segments[at]
                if segment not in own:
                    if len(own) >= MOST_SEGMENTS:
                        self._left_out += 1
                        continue
                    # 1/2 + 1/6 + 1/12 + ... is 1: however many come, their parts never add up to more.
                    order = len(own) + 1
                    part = self._weights[at] * _SEGMENTS_PART / (order * (order + 1))
                    own[segment] = Comparison(guard, segment, self._alpha, part, self._share)
                yield own[segment]

    def _comparisons(self) -> Iterator[Comparison]:
        for overall, own in zip(self._overall, self._segments, strict=True):
            yield overall
            yield from own.values()

    def _why_back(self, findings: tuple[Finding, ...], evidence: float) -> str:
        worst = max(zip(self._comparisons(), findings, strict=True), key=lambda both: both[0].weight * both[0].e_worse)
        reason = f"worse than tolerated (evidence {evidence:.3g} of {1 / self._alpha:.3g}); {worst[1].reason}"
        bad = worst[1].bad_predictions
        if bad is not None:
            reason += f"; bad predictions served: about {bad.estimate:.0f}, at most {bad.upper:.0f}"
        return reason

    def _why_wait(self, waiting: Sequence[Comparison]) -> tuple[int | None, str]:
        requests = [self._requests_needed(comparison) for comparison in waiting]
        known = [number for number in requests if number is not None]
        names = ", ".join(comparison.guard.label for comparison in waiting)
        note = (
            f"; {self._left_out} requests were of segments beyond the first {MOST_SEGMENTS}" if self._left_out else ""
        )
        if len(known) < len(requests):
            doubtful = ", ".join(
                comparison.guard.label for comparison, number in zip(waiting, requests, strict=True) if number is None
            )
            return None, f"not enough evidence for {names}; how much more cannot be said for {doubtful}{note}"
        return max(known), f"not enough evidence for {names}: about {max(known):,} requests more are needed{note}"

    def _requests_needed(self, comparison: Comparison) -> int | None:
        comparisons = comparison.needed()
        if comparisons is None:
            return None
        if comparison.count_in_stage >= FEW and self._share > 0.0:
            return ceil(comparisons * max(self._requests / comparison.count_in_stage, 1.0))
        # A comparison takes a request of the arm that gets fewer; where one arm gets none, one that both were given.
        return ceil(comparisons / (min(self._share, 1.0 - self._share) or self._paired_share))

    def to_state(self) -> dict[str, Any]:
        """Everything it knows, in types that JSON has."""
        return {
            "guards": [guard.model_dump(mode="json") for guard in self._guards],
            "alpha": self._alpha,
            "planned_share": self._share,
            "paired_share": self._paired_share,
            "overall": [comparison.to_state() for comparison in self._overall],
            "segments": [[comparison.to_state() for comparison in own.values()] for own in self._segments],
            "split": self._split.to_state(),
            "served": dict(self._served),
            "requests": self._requests,
            "left_out": self._left_out,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """The watch that `to_state` was asked of."""
        guards = [GuardSettings.model_validate(guard) for guard in state["guards"]]
        made = cls(guards, state["alpha"], state["planned_share"], state["paired_share"])
        made._overall = [
            Comparison.from_state(guard, told) for guard, told in zip(guards, state["overall"], strict=True)
        ]
        made._segments = [
            {one["segment"]: Comparison.from_state(guard, one) for one in told}
            for guard, told in zip(guards, state["segments"], strict=True)
        ]
        made._split = SplitCheck.from_state(state["split"])
        made._served = dict(state["served"])
        made._requests, made._left_out = state["requests"], state["left_out"]
        return made


def _finite(name: str, value: float) -> float:
    if not isfinite(value):
        raise InvalidInputError(f"{name} is {value}; expected a finite number")
    return float(value)
