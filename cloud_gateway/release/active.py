"""A release at work in this process: its state and split, its mirror, and what was seen and is not in its evidence yet."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

from cloud_gateway.guards import Arm, GuardWatch, LabelledObservation, MetricObservation, Verdict
from cloud_gateway.release.evidence import MAX_PENDING, Evidence
from cloud_gateway.release.failing import FailuresInARow
from cloud_gateway.release.fence import Fence
from cloud_gateway.release.mirror import Mirror
from cloud_gateway.release.mirrored import Mirrored
from cloud_gateway.release.report import PersonBeside
from cloud_gateway.release.seen import Seen, SeenPair, SeenRequest
from cloud_gateway.release.split import Segments, Split
from cloud_gateway.release.state import ReleaseState
from cloud_gateway.release.store import Release
from runtime.wire.values import Parameters

log = logging.getLogger(__name__)

# Requests of a shadow that are kept until labels come, where no guard looks at losses and its report alone does: once all
# of them have labels a share is known to 0.3 %, and a busy shadow must not fill the database that the lease is in.
MOST_KEPT_FOR_REPORT: Final = 100_000
# Observations that the guards take before requests get their turn: half a millisecond at 19 to 28 us each, with one or two guards.
SLICE: Final = 25


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
        self.evidence = Evidence(release, watch_type)
        self.fence = Fence(plan.model)
        self.split = _split_of(release)
        """By which callers are answered until the fence is up."""
        self.fenced = replace(self.split, share=0.0)
        """Stable for everyone: by which they are answered then."""
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
        self._failures = FailuresInARow()
        self._monotonic = monotonic
        self._untold_because = ""

    def note_request(self, seen: SeenRequest) -> None:
        """Keeps what was seen of a request until `absorb`; its `Observation` is made then, off the request's way."""
        if len(self._pending) == MAX_PENDING:
            self.lost += 1
        self._pending.append(seen)

    def note_candidate(self, failure: str | None) -> None:
        """Whether the candidate answered a request (None), or how it failed."""
        self._failures.note(failure, self._monotonic())

    def note_untold(self, error: Exception) -> None:
        """Whoever keeps answers until labels come raised: one is lost, and neither its caller nor the guards are kept waiting."""
        self.lost += 1
        if (why := repr(error)) != self._untold_because:  # said once, not for every request
            log.error("answers within the release of %s cannot be kept: %s", self.split.model, why, exc_info=error)
        self._untold_because = why

    def broken_because(self, now: float) -> str | None:
        """Why the candidate counts as broken, or None."""
        return self._failures.broken_because(now)

    def absorb(self, at_most: int) -> bool:
        """Hands up to so many observations to the guards and counts; whether more are waiting."""
        is_more = False
        if self.mirror is not None:
            taken = self.mirror.take(at_most)
            is_more = len(taken) == at_most
            for mirrored in taken:
                self._take(SeenPair.of(mirrored))
                self._tell(mirrored)
        for _ in range(min(at_most, len(self._pending))):
            self._take(self._pending.popleft())
        return is_more or bool(self._pending)

    def looked(self, now: float, at_most_s: float = 0.0) -> Verdict:
        """The guards' verdict, no older than so long; of now where they want something else than at the last look."""
        is_old = now - self._judged_at > at_most_s
        if self.verdict is None or is_old or self.verdict.action is not self.evidence.watch.action:
            self.verdict, self._judged_at = self.evidence.watch.judge(), now
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

    def _take(self, seen: Seen) -> None:
        self.lost += not self.evidence.take_own(seen, self.state.share)

    @property
    def is_unsaved(self) -> bool:
        """Whether what the guards know was to be kept, and no disk would take it."""
        return self.save_tried_at > self.saved_at

    def note_followed(self) -> None:
        """Another gateway leads, and has what was seen here: what failed here, and what was judged, is the past's."""
        self.trouble = self.late_trouble = self.verdict = None
        self.save_tried_at = self.saved_at

    def take_late(
        self,
        source: str,
        number: int,
        said: Sequence[LabelledObservation | MetricObservation],
        people: Sequence[PersonBeside] = (),
        seen: Sequence[Seen] = (),
    ) -> None:
        """Hands the guards what a source said, up to and with its row `number`; with no `evidence.to_state` in between.

        `seen`: by other gateways, of the requests that they were asked.
        """
        self.evidence.take_said(said, people)
        for one in seen:
            self.evidence.take_seen(one, self.state.share)
        self.evidence.late_read[source] = number

    def restore(self, release: Release, state: ReleaseState) -> None:
        """Knows what the database does, and no more: what was seen here alone must be in there by now. Stands at `state`."""
        self.release, self.fence.unread = release, None
        self.evidence.restore(release)
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
            self.evidence.watch.start_stage(state.share, self.release.plan.paired_share(state.share))
            self.verdict = None
        self.state = state

    @property
    def standing(self) -> tuple[int, str, float]:
        """As the database tells it (`ReleaseStore.standing`)."""
        return self.release.id, str(self.state.status), self.state.share

    def describe(self) -> dict[str, Any]:
        """For people and programs."""
        plan, counts = self.release.plan, self.evidence.counts
        told: dict[str, Any] = {
            "arms": {str(arm): counts.arms[arm].describe() for arm in Arm},
            "replaced_by_stable": counts.replaced,
            "losses": counts.describe_losses(),
            "lost_observations": self.lost,
            "fenced_answers": self.fence.answers,
            "switched_unix_us": self.switched_unix_us,
            "decided_unix_us": self.decided_unix_us,
            "needed": self.needed,
            "trouble": self.fence.because if self.fence.is_up else self.trouble or self.late_trouble,
            # A gateway that does not lead, or has just come back, judges nothing yet, and knows what it has seen all the same.
            "verdict": (self.verdict or self.evidence.watch.judge()).to_dict(),
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


def _split_of(release: Release) -> Split:
    plan = release.plan
    return Split(
        release.id,
        plan.model,
        plan.stable,
        plan.candidate,
        release.state.share,
        f"{plan.model}/{release.id}".encode()[:64],
        plan.routing_key,
        plan.segment,
    )
