"""What is known of a release in this process: guards, counts, how far late sources were read, and what no database knows yet."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from cloud_gateway.guards import (
    GuardWatch,
    LabelledObservation,
    MetricObservation,
    Observation,
    PairedObservation,
)
from cloud_gateway.release.report import PersonBeside, ReleaseCounts
from cloud_gateway.release.seen import Seen, SeenPair
from cloud_gateway.release.split import name_of
from cloud_gateway.release.store import Release

log = logging.getLogger(__name__)
SavedT = TypeVar("SavedT")

# Observations that may wait for the guards, and then for a disk: minutes of traffic. What finds no room is counted as lost.
MAX_PENDING: Final = 65536


class Evidence:
    """With what was saved of `release`, where there is some. Used on the event loop alone."""

    def __init__(self, release: Release, watch_type: type[GuardWatch]) -> None:
        self._watch_type = watch_type
        self._unkept: list[Seen] = []
        self._kept = self._batch = 0
        self.counts: ReleaseCounts
        self.watch: GuardWatch
        self.late_read: dict[str, int]
        """Of each source of `late`, the number up to which its rows are in `watch`."""
        self.restore(release)

    def restore(self, release: Release) -> None:
        """Knows what the database does, and no more: what was seen here alone must be in there by now."""
        self.counts, self.watch = restored(release, self._watch_type)
        self.late_read = dict(release.evidence.get("late_read", {}))

    def to_state(self) -> dict[str, Any]:
        """What is to survive this process."""
        return {
            "watch": self.watch.to_state(),
            "counts": self.counts.to_state(),
            "late_read": dict(self.late_read),
        }

    def take_own(self, seen: Seen, share: float) -> bool:
        """What this gateway saw, while the candidate's share is `share` (0 to 1); False where no room is left to keep it."""
        self.take_seen(seen, share)
        if len(self._unkept) >= MAX_PENDING:
            return False
        self._unkept.append(seen)
        return True

    @property
    def unkept_count(self) -> int:
        """Of what this gateway saw, how much no database knows yet."""
        return len(self._unkept)

    def unkept(self) -> tuple[int, list[Seen]]:
        """What was taken and no database knows yet, with the number of its first one; the same again until `forget`."""
        self._batch = self._batch or len(self._unkept)
        return self._kept, self._unkept[: self._batch]

    def forget(self, count: int) -> None:
        """The first so many are kept."""
        del self._unkept[:count]
        self._kept += count
        self._batch = 0

    def take_said(
        self, said: Sequence[LabelledObservation | MetricObservation], people: Sequence[PersonBeside] = ()
    ) -> None:
        """What came late: labels, the app's metrics, and people's answers beside both arms'."""
        for observation in said:
            if isinstance(observation, LabelledObservation):
                self.counts.observe_label(observation)
            self.watch.observe(observation)
        for person in people:
            self.counts.people.observe(person)

    def take_seen(self, seen: Seen, share: float) -> None:
        """Into guards and counts, whichever gateway saw it; `share` as in `take_own`."""
        if isinstance(seen, SeenPair):
            self._take_pair(seen, share)
            return
        arm, is_error, latency_s, where, segment, its_share, is_replaced = seen
        # Some were under way, or waited, when the split moved; as if of the new one, they would make it look wrong.
        is_of_stage = its_share == share
        observation = Observation(arm, is_error, latency_s, name_of(where), segment, is_of_stage)
        self.counts.arms[arm].observe(observation)
        self.counts.replaced += is_replaced
        if share > 0.0:  # a shadow's guards compare pairs; of two arms only one has callers
            self.watch.observe(observation)

    def _take_pair(self, pair: SeenPair, share: float) -> None:
        self.counts.shadow.observe(pair)
        compared = pair.comparison
        agrees = None if compared is None else compared.agrees
        # Latencies are compared like with like: of callers while both versions have some, else of requests that both ran alone.
        is_timed = pair.timed is not None and share in (0.0, 1.0)
        stable_s, candidate_s = pair.timed if is_timed and pair.timed else (None, None)
        self.watch.observe(
            PairedObservation(
                agrees=False if pair.is_candidate_error else agrees,
                distance=1.0 if compared is None else compared.distance,
                stable_latency_s=stable_s,
                candidate_latency_s=candidate_s,
                is_candidate_error=pair.is_candidate_error,
                segment=pair.segment,
                is_stable_error=pair.is_stable_error,
                noise_agrees=None if pair.noise is None else pair.noise.agrees,
                noise_distance=None if pair.noise is None else pair.noise.distance,
            )
        )


def restored(release: Release, watch_type: type[GuardWatch]) -> tuple[ReleaseCounts, GuardWatch]:
    """What was saved of a release; what cannot be read, as after an upgrade, begins anew: its guards hold until they know more."""
    plan, share = release.plan, release.state.share
    counts = _saved(release, "counts", ReleaseCounts.from_state)
    watch = _saved(release, "watch", watch_type.from_state)
    return (
        ReleaseCounts() if counts is None else counts,
        watch_type(plan.guards, plan.alpha, share, plan.paired_share(share)) if watch is None else watch,
    )


def _saved(release: Release, part: str, read: Callable[[Any], SavedT]) -> SavedT | None:
    """One part of what was saved; None: there is none, or it cannot be read."""
    if part not in release.evidence:
        return None
    try:
        return read(release.evidence[part])
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        log.error(
            "the %s in the evidence of release %d of %s cannot be read and begins anew: %r",
            part,
            release.id,
            release.plan.model,
            error,
        )
        return None
