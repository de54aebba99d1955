"""A release at work in this process: its split, its mirror, and what was seen since its guards were last asked."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

from cloud_gateway.guards import (
    Arm,
    GuardWatch,
    LabelledObservation,
    Metric,
    MetricObservation,
    Observation,
    PairedObservation,
    Verdict,
)
from cloud_gateway.release.mirror import Mirror, Mirrored
from cloud_gateway.release.report import PersonBeside, ReleaseCounts
from cloud_gateway.release.split import Place, Segments, Split, name_of
from cloud_gateway.release.state import ReleaseState
from cloud_gateway.release.store import Release

log = logging.getLogger(__name__)

# Observations that may wait for the guards: minutes of traffic. Older ones make room, and are counted as lost.
MAX_PENDING: Final = 65536
# A candidate that fails so many requests in a row, over at least so long, is broken: no statistics are needed to see it, and at
# 100 % of the traffic there are none, for stable answers nothing that it could be compared with.
BROKEN_AFTER: Final = 20
BROKEN_AFTER_S: Final = 1.0


class ActiveRelease:
    """Used on the event loop alone; the mirror has a thread of its own."""

    def __init__(
        self,
        release: Release,
        watch_type: type[GuardWatch] = GuardWatch,
        mirror: Mirror | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """With the evidence that was saved of `release`, where there is some."""
        plan = release.plan
        self.release = release
        self.state = release.state
        self.mirror = mirror
        self.segments = Segments()
        self.verdict: Verdict | None = None
        self.needed: int | None = None
        self.trouble: str | None = None
        """Why the last decision could not be carried out."""
        self.lost = 0
        """Observations that the guards could not take in time."""
        self.counts, self.watch = restored(release, watch_type)
        self.late_read: dict[str, int] = dict(release.evidence.get("late_read", {}))
        """Of each source of `late`, the number up to which its rows are in `watch`."""
        self.split = Split(
            release.id,
            plan.model,
            plan.stable,
            plan.candidate,
            release.state.share,
            f"{plan.model}/{release.id}".encode()[:64],
            plan.routing_key,
            plan.segment,
        )
        self.on_mirrored: Callable[[Mirrored], None] | None = None
        """Told of every mirrored request as it is absorbed."""
        self.waits_for_labels = any(guard.metric is Metric.LOSS for guard in plan.guards)
        """Whether answers are kept until labels come."""
        self.mirrored_share = 0.0 if plan.shadow is None else plan.shadow.share / 100
        """Of stable's requests, those that the candidate is given too."""
        self.control_share = plan.control_share / 100
        """Of the candidate's, those that stable is given too while the candidate has all of them."""
        self._pending: deque[tuple[Arm, bool, float, Place, str]] = deque(maxlen=MAX_PENDING)
        self._monotonic = monotonic
        self._failing = 0
        self._failing_since = 0.0
        self._last_failure = ""

    def note_request(self, arm: Arm, is_error: bool, latency_s: float, where: Place, segment: str) -> None:
        """Keeps what was seen of a request until `absorb`; its `Observation` is made then, off the request's way."""
        if len(self._pending) == MAX_PENDING:
            self.lost += 1
        self._pending.append((arm, is_error, latency_s, where, segment))

    def note_candidate(self, failure: str | None) -> None:
        """Whether the candidate answered a request (None), or how it failed."""
        if failure is None:
            self._failing = 0
            return
        if not self._failing:
            self._failing_since = self._monotonic()
        self._failing += 1
        self._last_failure = failure

    def broken_because(self, now: float) -> str | None:
        """Why the candidate counts as broken, or None."""
        if self._failing < BROKEN_AFTER or now - self._failing_since < BROKEN_AFTER_S:
            return None
        return f"its last {self._failing} requests all failed, the last one with: {self._last_failure}"

    def absorb(self, at_most: int) -> bool:
        """Hands up to so many observations to the guards and counts; whether more are waiting."""
        is_more = False
        if self.mirror is not None:
            taken = self.mirror.take(at_most)
            is_more = len(taken) == at_most
            for mirrored in taken:
                self._absorb_mirrored(mirrored)
                if self.on_mirrored is not None:
                    self.on_mirrored(mirrored)
        for _ in range(min(at_most, len(self._pending))):
            arm, is_error, latency_s, where, segment = self._pending.popleft()
            observation = Observation(arm, is_error, latency_s, name_of(where), segment)
            self.counts.arms[arm].observe(observation)
            if self.split.share > 0.0:  # a shadow's guards compare pairs; of two arms only one has callers
                self.watch.observe(observation)
        return is_more or bool(self._pending)

    def take_late(
        self,
        source: str,
        number: int,
        seen: Sequence[LabelledObservation | MetricObservation],
        people: Sequence[PersonBeside] = (),
    ) -> None:
        """Hands the guards what a source said, up to and with its row `number`; with no `evidence` in between."""
        for observation in seen:
            if isinstance(observation, LabelledObservation):
                self.counts.observe_label(observation)
            self.watch.observe(observation)
        for person in people:
            self.counts.people.observe(person)
        self.late_read[source] = number

    def move(self, state: ReleaseState) -> None:
        """Takes a new state on: from the next request on its split holds."""
        if state.share != self.split.share:
            self.split = replace(self.split, share=state.share)
        if (state.stage, state.share) != (self.state.stage, self.state.share) and state.status.is_alive:
            self.watch.start_stage(state.share, self.release.plan.paired_share(state.share))
        self.state = state

    def evidence(self) -> dict[str, Any]:
        """What is to survive this process."""
        return {
            "watch": self.watch.to_state(),
            "counts": self.counts.to_state(),
            "late_read": dict(self.late_read),
        }

    def describe(self) -> dict[str, Any]:
        """For people and programs."""
        plan, counts = self.release.plan, self.counts
        told: dict[str, Any] = {
            "arms": {str(arm): counts.arms[arm].describe() for arm in Arm},
            "replaced_by_stable": counts.replaced,
            "losses": counts.describe_losses(),
            "lost_observations": self.lost,
            "needed": self.needed,
            "trouble": self.trouble,
            # A gateway that does not lead, or has just come back, judges nothing yet, and knows what it has seen all the same.
            "verdict": (self.verdict or self.watch.judge()).to_dict(),
        }
        if plan.shadow is not None or counts.shadow.seen:
            told["shadow"] = counts.shadow.describe()
            if self.mirror is not None:
                told["shadow"] |= {
                    "offered": self.mirror.offered,
                    "dropped": self.mirror.dropped,
                    "waiting": self.mirror.waiting,
                }
        return told

    def _absorb_mirrored(self, mirrored: Mirrored) -> None:
        report = self.counts.shadow
        if mirrored.error is not None:
            report.candidate_errors += 1
        if mirrored.comparison is not None:
            report.observe(mirrored.comparison, mirrored.segment)
        if mirrored.noise is not None:
            report.noise.observe(mirrored.noise)
        if mirrored.timed is not None:
            report.stable_latency.observe(mirrored.timed[0])
            report.candidate_latency.observe(mirrored.timed[1])
        compared = mirrored.comparison
        agrees = None if compared is None else compared.agrees
        # Latencies are compared like with like: of callers while both versions have some, else of requests that both ran alone.
        is_timed = mirrored.timed is not None and self.split.share in (0.0, 1.0)
        stable_s, candidate_s = mirrored.timed if is_timed and mirrored.timed else (None, None)
        self.watch.observe(
            PairedObservation(
                agrees=False if mirrored.error is not None else agrees,
                distance=1.0 if compared is None else compared.distance,
                stable_latency_s=stable_s,
                candidate_latency_s=candidate_s,
                is_candidate_error=mirrored.error is not None,
                segment=mirrored.segment,
                is_stable_error=mirrored.stable_error is not None,
                noise_agrees=None if mirrored.noise is None else mirrored.noise.agrees,
                noise_distance=None if mirrored.noise is None else mirrored.noise.distance,
            )
        )


def restored(release: Release, watch_type: type[GuardWatch]) -> tuple[ReleaseCounts, GuardWatch]:
    """What was saved of a release; what cannot be read, as after an upgrade, begins anew: its guards hold until they know more."""
    plan, saved = release.plan, release.evidence
    try:
        counts = ReleaseCounts.from_state(saved["counts"]) if "counts" in saved else ReleaseCounts()
        if "watch" in saved:
            return counts, watch_type.from_state(saved["watch"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        log.error("the evidence of release %d of %s cannot be read and begins anew: %r", release.id, plan.model, error)
        counts = ReleaseCounts()
    share = release.state.share
    return counts, watch_type(plan.guards, plan.alpha, share, plan.paired_share(share))
