"""What only the gateway that leads does: it asks the guards, lets `steps` decide, and has that carried out."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import Final

from cloud_gateway.guards import Verdict
from cloud_gateway.release.active import ActiveRelease
from cloud_gateway.release.answering import Traffic
from cloud_gateway.release.carrying_out import CarryingOut
from cloud_gateway.release.description import numbers
from cloud_gateway.release.evidence import MAX_PENDING
from cloud_gateway.release.harm import harm
from cloud_gateway.release.late import LateEvidence
from cloud_gateway.release.placement import Placement
from cloud_gateway.release.state import Status
from cloud_gateway.release.steps import Decision, Move, next_step
from cloud_gateway.release.store import Release, ReleaseStore
from cloud_gateway.release.traffic import SeenTraffic, hand_in
from cloud_gateway.release.turns import Turns
from cloud_gateway.release.versions import Versions
from runtime.errors import ConflictError, EdgewardError, StorageError

log = logging.getLogger(__name__)

# How often evidence is kept: each time costs 2 ms, a tenth of what a hundred requests do. A gateway that is killed forgets so much
# of it, whatever it showed: that biases nothing.
SAVE_S: Final = 5.0
# Or sooner, where so much was seen: what is not kept yet is bounded.
SAVE_AT: Final = MAX_PENDING // 4
# No sooner after a try: evidence is made anew for each, and a disk that fails would be tried at every tick.
SAVE_AGAIN_S: Final = 1.0
# How old may be what is told of a release that holds; what its guards want done is asked at every tick.
JUDGE_S: Final = 1.0


class Leading:
    """Used on one event loop."""

    def __init__(
        self,
        store: ReleaseStore,
        versions: Versions,
        placement: Placement,
        traffic: Traffic,
        carrying_out: CarryingOut,
        turns: Turns,
        late: LateEvidence,
        seen: SeenTraffic,
    ) -> None:
        self._won = self._taken_over = 0
        """How often the lead was won, and up to which of these times the database was asked what the one before knew."""
        self._store = store
        self._versions = versions
        self._placement = placement
        self._traffic = traffic
        self._carrying_out = carrying_out
        self._turns = turns
        self._late = late
        self._seen = seen

    @property
    def is_taking_over(self) -> bool:
        """Whether this gateway leads, and has yet to learn what the one before it knew: it decides nothing until then."""
        return self._taken_over != self._won

    @property
    def has_unread(self) -> bool:
        """Whether the database's word on a release that runs here is still to be read."""
        return any(active.fence.unread is not None for active in self._traffic.active.values())

    def note_won(self) -> None:
        """Another gateway may have led until now."""
        self._won += 1

    async def known(self, model: str) -> ActiveRelease | None:
        """The release of a model that runs here, with all that whoever led before knew of it; for whoever has the turn."""
        active = self._traffic.active.get(model)
        if active is not None and (self.is_taking_over or active.fence.unread is not None):
            await self._take_over(active)
        return self._traffic.active.get(model)

    async def hand_over_late(self, active: ActiveRelease) -> None:
        """Labels, metrics and what other gateways saw, to the guards; where that cannot be read, they judge by the rest."""
        try:
            await self._late.hand_over(active)
        except StorageError as error:
            if active.late_trouble != str(error):
                log.error("what came late for the release of %s cannot be read: %s", active.split.model, error)
            active.late_trouble = str(error)
        else:
            active.late_trouble = None

    async def decide(self, active: ActiveRelease, now: float, passed_s: float) -> None:
        """What follows from its guards, `passed_s` after the last time. What cannot be stored is said, and no other waits."""
        if self._turns.is_wanted(active.split.model):
            return  # a command under way goes first; the next tick comes soon
        async with self._turns.of(active.split.model):
            active.state = replace(active.state, in_stage_s=active.state.in_stage_s + passed_s)
            try:
                await self._decide(active, now)
            except (StorageError, ConflictError) as error:
                if active.trouble != str(error):
                    log.error("release of %s stays as it is: %s", active.split.model, error)
                active.trouble, active.store_again_at = str(error), now + SAVE_AGAIN_S
            else:
                if not active.is_unsaved and now >= active.store_again_at:
                    active.trouble = None

    async def save(self, active: ActiveRelease) -> None:
        """Keeps what the guards know by now."""
        known = active.evidence.unkept_count
        await asyncio.to_thread(self._store.save, active.release, active.state, active.evidence.to_state())
        active.evidence.forget(known)

    async def take_over(self) -> None:
        """Another gateway led until now: what it has seen is in the database, and there goes what was seen here.

        A release of which that cannot be read now is led once it can be, and keeps no other waiting.
        """
        won = self._won
        for model in list(self._traffic.active):
            async with self._turns.of(
                model
            ):  # a command since the lead was won is not undone by what was read before it
                await self._known_or_unread(model)
        self._taken_over = won  # where it was won again meanwhile, there is more to be asked

    async def read_again(self) -> None:
        """Tries again to read what could not be; keeps no other release waiting, and a command under way goes first."""
        for model, active in list(self._traffic.active.items()):
            if active.fence.unread is not None and not self._turns.is_wanted(model):
                async with self._turns.of(model):
                    await self._known_or_unread(model)

    async def store_steps_back(self) -> None:
        """Tries again to store what was taken back; a command under way goes first."""
        for model in list(self._carrying_out.unstored):
            if not self._turns.is_wanted(model):
                async with self._turns.of(model):
                    if self._ends_unread(model) or await self._known_or_unread(model):
                        await self._carrying_out.store_step_back(model)

    async def give_up(self, release: Release, error: EdgewardError) -> None:
        """A release whose candidate cannot be had any more, or crashes the gateway, is rolled back, if only stable is there."""
        plan = release.plan
        if self._versions.find(plan.model, plan.stable) is None:
            return  # nothing answers; what is wrong may pass, and is said in the status
        reason = f"the candidate cannot go on: {error}"
        state = replace(release.state, status=Status.ROLLED_BACK, share=0.0, reason=reason)
        event = str(Move.ROLLBACK)
        counts, watch = self._placement.restored(release)
        verdict = watch.judge()
        done = harm(counts, verdict)
        document = {**numbers(counts, verdict), **done.to_dict(), "harm": str(done)}
        ended = await asyncio.to_thread(self._store.change, release, state, event, document, release.evidence)
        await self._placement.forget(release)
        self._carrying_out.tell(event, ended, document)

    async def _decide(self, active: ActiveRelease, now: float) -> None:
        plan = active.release.plan
        if (
            self.is_taking_over
            or active.fence.unread is not None
            or self._traffic.active.get(plan.model) is not active
            or plan.model in self._carrying_out.unstored
        ):
            return
        failure = active.broken_because(now)
        if self._versions.find(plan.model, plan.candidate) is None:
            failure = f"version {plan.candidate} is not loaded any more"
        verdict = active.looked(now, JUDGE_S)
        decision = next_step(plan, active.state, verdict, failure)
        if now < active.store_again_at and decision.move is not Move.ROLLBACK:
            active.needed = decision.needed
            active.state = decision.state if decision.move is Move.HOLD else active.state
            return
        if not _is_held(active, decision):  # what is written down has the numbers of now
            verdict = active.looked(now)
            decision = next_step(plan, active.state, verdict, failure)
        active.needed = decision.needed
        if decision.move is not Move.HOLD:
            await self._carrying_out.carry_out(active, decision.state, str(decision.move), verdict)
            return
        active.state = decision.state
        if not _is_held(active, decision):
            await self._note_hold(active, decision, verdict)
        else:
            await self._save_in_time(active, now)

    async def _save_in_time(self, active: ActiveRelease, now: float) -> None:
        is_time = now - active.saved_at >= SAVE_S or active.evidence.unkept_count >= SAVE_AT
        if is_time and now - active.save_tried_at >= SAVE_AGAIN_S:
            active.save_tried_at = now
            await self.save(active)
            active.saved_at = now

    async def _note_hold(self, active: ActiveRelease, decision: Decision, verdict: Verdict) -> None:
        """One record when a release begins to wait for something else, not five a second."""
        document = {
            "waits_for": str(decision.cause),
            "needed": decision.needed,
            **numbers(active.evidence.counts, verdict),
        }
        await self._carrying_out.store_change(active, active.state, str(Move.HOLD), document)
        active.held = (decision.cause, decision.state.stage)
        self._carrying_out.tell(str(Move.HOLD), active.release, document)

    def _ends_unread(self, model: str) -> bool:
        """Whether a step back ends a release that cannot be read: its end takes no more than what is known here."""
        step = self._carrying_out.unstored.get(model)
        return step is not None and step.active.fence.unread is not None and not step.state.status.is_alive

    async def _known_or_unread(self, model: str) -> bool:
        """As `known`; what cannot be read is said, and false."""
        active = self._traffic.active.get(model)
        try:
            await self.known(model)
        except StorageError as error:
            if active is not None:
                active.fence.note_unread(str(error))
            return False
        return True

    async def _take_over(self, active: ActiveRelease) -> None:
        release = await asyncio.to_thread(self._store.find, active.release.id)
        step = self._carrying_out.unstored.get(active.split.model)
        if release.state.status.is_alive:
            await active.absorb_all()
            while (
                active.evidence.unkept_count
            ):  # what is absorbed while it is handed in would be neither there nor here
                await hand_in(self._seen, active)
            active.restore(release, release.state if step is None else step.state)
            self._placement.pin(active)
        elif step is None:  # nobody was told of its end here
            active.state = release.state
            self._placement.let_go(active)
            self._carrying_out.clear_away(active)


def _is_held(active: ActiveRelease, decision: Decision) -> bool:
    """Whether it is written down already that the release waits for that."""
    return decision.move is Move.HOLD and active.held == (decision.cause, decision.state.stage)
