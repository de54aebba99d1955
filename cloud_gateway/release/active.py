"""A release at work in this process: its split, its mirror, and what was seen since its guards were last asked."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final, TypeVar

from cloud_gateway.guards import (
    Arm,
    GuardWatch,
    LabelledObservation,
    MetricObservation,
    Observation,
    PairedObservation,
    Verdict,
)
from cloud_gateway.release.mirror import Mirror
from cloud_gateway.release.mirrored import Mirrored
from cloud_gateway.release.report import PersonBeside, ReleaseCounts
from cloud_gateway.release.seen import Seen, SeenPair, SeenRequest
from cloud_gateway.release.split import Segments, Split, name_of
from cloud_gateway.release.state import ReleaseState
from cloud_gateway.release.store import Release
from runtime.wire.values import Parameters

log = logging.getLogger(__name__)
SavedT = TypeVar("SavedT")

# Observations that may wait for the guards, and then for a disk: minutes of traffic. What finds no room is counted as lost.
MAX_PENDING: Final = 65536
# A candidate that fails so many requests in a row, over at least so long, is broken: no statistics are needed to see it, and at
# 100 % of the traffic there are none, for stable answers nothing that it could be compared with.
BROKEN_AFTER: Final = 20
BROKEN_AFTER_S: Final = 1.0
# Requests of a shadow that are kept until labels come, where no guard looks at losses and its report alone does: once all
# of them have labels a share is known to 0.3 %, and a busy shadow must not fill the database that the lease is in.
MOST_KEPT_FOR_REPORT: Final = 100_000
# Observations that the guards take before requests get their turn: half a millisecond at 19 to 28 us each, with one or two guards.
SLICE: Final = 25
FENCED: Final = "the database cannot be asked what was decided: stable answers every request here until it can"
UNREAD: Final = "what the database says of this release cannot be read: stable answers every request here until it can"
"""For callers; people are told how."""
UNFENCED: Final = "what was decided is known again: callers are answered by that split"


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
        self._judged_at = -math.inf
        self.needed: int | None = None
        self.trouble: str | None = None
        """Why the last decision could not be carried out."""
        self.late_trouble: str | None = None
        """Why not all that came late could be read at the last look."""
        self.held: object = None
        """What it was last said to wait for; None: nothing, or not yet."""
        self.saved_at = 0.0
        """When what the guards know was last kept because it was time to, by the clock of whoever asks them."""
        self.save_tried_at = 0.0
        """When that was last tried; later than `saved_at`: it failed."""
        self.store_again_at = -math.inf
        """Until then no hold and no step forward is stored, by that clock: a disk has just refused one."""
        self.lost = 0
        """Observations that the guards, or a disk, could not take in time, and answers that could not be kept for labels."""
        self.switched_unix_us: int | None = None
        """When callers here got the share that holds now; None: since it was put in place."""
        self.decided_unix_us: int | None = None
        """When the share that holds now was every gateway's; None: it has not been changed, or is not yet."""
        self.trusted_until = math.inf
        """Until then (`time.perf_counter`) callers are answered by `split`, then by `fenced`: whoever leads may have moved."""
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
        self.fenced = replace(self.split, share=0.0)
        """Stable for everyone: how a gateway answers that cannot know what was decided."""
        self.unread: str | None = None
        """Why what the database says of it cannot be read. Until it can, stable answers here and nothing is decided."""
        self.is_fence_told = False
        """Whether people were told that it is."""
        self.fenced_answers = 0
        """By this gateway since it has the release."""
        self.stables_reply: tuple[Parameters, Parameters] = ({}, {})
        """The last parameters of a reply of stable's, and what they became: of most requests the very same mapping."""
        self.on_mirrored: Callable[[Mirrored], None] | None = None
        """Told of every mirrored request as it is absorbed; where it raises, that one is counted as lost."""
        self.waits_for_labels = any(guard.metric.waits_for_labels for guard in plan.guards)
        """Whether every answer is kept until labels come, because a guard looks at them."""
        self.left_for_report = MOST_KEPT_FOR_REPORT if plan.shadow is not None and not self.waits_for_labels else 0
        """Mirrored requests that may still be kept until labels come, for a shadow's report alone."""
        self.mirrored_share = 0.0 if plan.shadow is None else plan.shadow.share / 100
        """Of stable's requests, those that the candidate is given too."""
        self.control_share = plan.control_share / 100
        """Of the candidate's, those that stable is given too while the candidate has all of them."""
        self._pending: deque[SeenRequest] = deque(maxlen=MAX_PENDING)
        self._unkept: list[Seen] = []
        self._kept = self._batch = 0
        self._watch_type = watch_type
        self._monotonic = monotonic
        self._failing = 0
        self._failing_since = 0.0
        self._last_failure = ""
        self._untold_because = ""

    def note_request(self, seen: SeenRequest) -> None:
        """Keeps what was seen of a request until `absorb`; its `Observation` is made then, off the request's way."""
        if len(self._pending) == MAX_PENDING:
            self.lost += 1
        self._pending.append(seen)

    def note_candidate(self, failure: str | None) -> None:
        """Whether the candidate answered a request (None), or how it failed."""
        if failure is None:
            self._failing = 0
            return
        if not self._failing:
            self._failing_since = self._monotonic()
        self._failing += 1
        self._last_failure = failure

    def note_untold(self, error: Exception) -> None:
        """Whoever keeps answers until labels come raised: one is lost, and neither its caller nor the guards are kept waiting."""
        self.lost += 1
        if (why := repr(error)) != self._untold_because:  # said once, not for every request
            log.error("answers within the release of %s cannot be kept: %s", self.split.model, why, exc_info=error)
        self._untold_because = why

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
                self._note_unkept(SeenPair.of(mirrored))
                self._tell(mirrored)
        for _ in range(min(at_most, len(self._pending))):
            self._note_unkept(self._pending.popleft())
        return is_more or bool(self._pending)

    def looked(self, now: float, at_most_s: float = 0.0) -> Verdict:
        """The guards' verdict, no older than so long; of now where they want something else than at the last look."""
        is_old = now - self._judged_at > at_most_s
        if self.verdict is None or is_old or self.verdict.action is not self.watch.action:
            self.verdict, self._judged_at = self.watch.judge(), now
        return self.verdict

    async def absorb_all(self) -> None:
        """Hands over what was seen, a slice at a time; requests get their turn in between."""
        is_more = True
        while is_more:
            is_more = self.absorb(SLICE)
            await asyncio.sleep(0)

    async def end_mirror(self) -> list[object]:
        """Ends the mirror and tells of what it ran and nobody took; what those are known by that it did not run."""
        if self.mirror is None:
            return []
        await asyncio.to_thread(self.mirror.close)
        while taken := self.mirror.take(SLICE):
            for mirrored in taken:
                self._tell(mirrored)
        return self.mirror.left()

    def _tell(self, mirrored: Mirrored) -> None:
        if self.on_mirrored is None:
            return
        try:
            self.on_mirrored(mirrored)
        except Exception as error:  # the others that were taken with it are counted and told all the same
            self.note_untold(error)

    def _note_unkept(self, seen: Seen) -> None:
        self._take(seen)
        if len(self._unkept) < MAX_PENDING:
            self._unkept.append(seen)
        else:
            self.lost += 1

    def unkept(self) -> tuple[int, list[Seen]]:
        """What was absorbed and no database knows yet, with the number of its first one; the same again until `forget`."""
        self._batch = self._batch or len(self._unkept)
        return self._kept, self._unkept[: self._batch]

    @property
    def is_unsaved(self) -> bool:
        """Whether what the guards know was to be kept, and no disk would take it."""
        return self.save_tried_at > self.saved_at

    def note_followed(self) -> None:
        """Another gateway leads, and has what was seen here: what failed here, and what was judged, is the past's."""
        self.trouble = self.late_trouble = self.verdict = None
        self.save_tried_at = self.saved_at

    @property
    def unkept_count(self) -> int:
        """Of which `evidence` knows now."""
        return len(self._unkept)

    def forget(self, count: int) -> None:
        """The first so many are kept."""
        del self._unkept[:count]
        self._kept += count
        self._batch = 0

    def take_late(
        self,
        source: str,
        number: int,
        said: Sequence[LabelledObservation | MetricObservation],
        people: Sequence[PersonBeside] = (),
        seen: Sequence[Seen] = (),
    ) -> None:
        """Hands the guards what a source said, up to and with its row `number`; with no `evidence` in between.

        `seen`: by other gateways, of the requests that they were asked.
        """
        for observation in said:
            if isinstance(observation, LabelledObservation):
                self.counts.observe_label(observation)
            self.watch.observe(observation)
        for person in people:
            self.counts.people.observe(person)
        for one in seen:
            self._take(one)
        self.late_read[source] = number

    def restore(self, release: Release, state: ReleaseState) -> None:
        """Knows what the database does, and no more: what was seen here alone must be in there by now. Stands at `state`."""
        self.release, self.unread = release, None
        self.counts, self.watch = restored(release, self._watch_type)
        self.late_read = dict(release.evidence.get("late_read", {}))
        self.verdict = None
        self.state = release.state
        self.move(state)

    def _switch(self, share: float) -> None:
        """From the next request on."""
        if share != self.split.share:
            self.split = replace(self.split, share=share)
            self.switched_unix_us, self.decided_unix_us = time.time_ns() // 1000, None

    def move(self, state: ReleaseState) -> None:
        """Takes a new state on: from the next request on its split holds."""
        self._switch(state.share)
        if (state.stage, state.share) != (self.state.stage, self.state.share) and state.status.is_alive:
            self.watch.start_stage(state.share, self.release.plan.paired_share(state.share))
            self.verdict = None
        self.state = state

    def note_unread(self, why: str) -> None:
        """Stable answers from the next request on, until `restore`, or a look that can read it."""
        if self.unread != why:
            log.error("stable answers for %s, and nothing is decided about its release: %s", self.split.model, why)
        self.unread = why
        self.trusted_until = min(self.trusted_until, time.perf_counter())

    def trust(self, until: float) -> None:
        """Callers may be answered by its split until then (`time.perf_counter`), if that is what the database says."""
        if self.unread is None:
            self.trusted_until = until

    @property
    def is_fenced(self) -> bool:
        """Whether stable answers everything here, because what was decided cannot be known."""
        return time.perf_counter() >= self.trusted_until

    @property
    def fenced_because(self) -> str:
        """Why, where it is."""
        return self.unread or FENCED

    @property
    def standing(self) -> tuple[int, str, float]:
        """As the database tells it (`ReleaseStore.standing`)."""
        return self.release.id, str(self.state.status), self.state.share

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
            "fenced_answers": self.fenced_answers,
            "switched_unix_us": self.switched_unix_us,
            "decided_unix_us": self.decided_unix_us,
            "needed": self.needed,
            "trouble": self.fenced_because if self.is_fenced else self.trouble or self.late_trouble,
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
                    "noise_from": self.mirror.noise_from,
                }
        return told

    def _take(self, seen: Seen) -> None:
        """Into guards and counts, whichever gateway saw it."""
        if isinstance(seen, SeenPair):
            self._take_pair(seen)
            return
        arm, is_error, latency_s, where, segment, share, is_replaced = seen
        # Some were under way, or waited, when the split moved; as if of the new one, they would make it look wrong.
        is_of_stage = share == self.state.share
        observation = Observation(arm, is_error, latency_s, name_of(where), segment, is_of_stage)
        self.counts.arms[arm].observe(observation)
        self.counts.replaced += is_replaced
        if self.state.share > 0.0:  # a shadow's guards compare pairs; of two arms only one has callers
            self.watch.observe(observation)

    def _take_pair(self, pair: SeenPair) -> None:
        self.counts.shadow.observe(pair)
        compared = pair.comparison
        agrees = None if compared is None else compared.agrees
        # Latencies are compared like with like: of callers while both versions have some, else of requests that both ran alone.
        is_timed = pair.timed is not None and self.state.share in (0.0, 1.0)
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
