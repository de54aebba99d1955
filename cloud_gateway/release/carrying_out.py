"""What was decided about a release is carried out: the traffic moves, the database and the log know it, people are told.

A step forward is stored before traffic moves: a disk that is full holds the release. A step back, whoever asks for it and however
far, moves traffic first, and is stored as soon as that can be done: no disk stands between a bad candidate and the way back.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import Any

from cloud_gateway.guards import Verdict
from cloud_gateway.release.active import ActiveRelease
from cloud_gateway.release.description import describe_release, numbers
from cloud_gateway.release.events import Webhook, event_of, say
from cloud_gateway.release.harm import harm
from cloud_gateway.release.late import LateEvidence
from cloud_gateway.release.placement import Placement
from cloud_gateway.release.state import ReleaseState, Status
from cloud_gateway.release.steps import Move
from cloud_gateway.release.store import DECIDED, Release, ReleaseStore
from cloud_gateway.release.switchover import Switches
from cloud_gateway.release.turns import Turns
from runtime.errors import ConflictError, StorageError

log = logging.getLogger(__name__)


@dataclass(slots=True)
class StepBack:
    """What is done here, and no disk would take yet."""

    active: ActiveRelease
    state: ReleaseState
    """Whatever the database says meanwhile."""
    document: dict[str, Any]
    said: str = ""
    """Why no disk took it, as people were told: once, not at every try."""


class CarryingOut:
    """Used on one event loop, by whoever has the turn of the model."""

    def __init__(
        self,
        store: ReleaseStore,
        placement: Placement,
        switches: Switches,
        turns: Turns,
        late: LateEvidence,
        webhook: Webhook,
    ) -> None:
        self.unstored: dict[str, StepBack] = {}
        """By model: releases that have been taken back, if only in part; they stay so until that is stored."""
        self._let_go: list[ActiveRelease] = []
        """Not cleared away yet."""
        self._store = store
        self._placement = placement
        self._switches = switches
        self._turns = turns
        self._late = late
        self._webhook = webhook

    async def carry_out(
        self, active: ActiveRelease, state: ReleaseState, event: str, verdict: Verdict, *, by_hand: bool = False
    ) -> None:
        """Brings a release to `state`; `StorageError` or `ConflictError` where a step forward cannot be stored: nothing moved.

        `verdict`: of its guards by now, for the record; to make one may take milliseconds, and a step back has no time for two.
        """
        active.held = None
        document: dict[str, Any] = {"by_hand": True} if by_hand else {}
        if state.share < active.state.share or state.status in (Status.ROLLED_BACK, Status.ABORTED):
            await self._step_back(active, state, event, verdict, document)
        else:
            await self._step_forward(active, state, event, document | numbers(active.evidence.counts, verdict))

    async def store_change(
        self, active: ActiveRelease, state: ReleaseState, event: str, document: dict[str, Any]
    ) -> None:
        """Writes a change down, with all that is known by now."""
        evidence, known = active.evidence.to_state(), active.evidence.unkept_count
        active.release = await asyncio.to_thread(self._store.change, active.release, state, event, document, evidence)
        active.evidence.forget(known)

    async def store_step_back(self, model: str) -> None:
        """Stores what was taken back already; again at the next tick where the disk will not take it now."""
        step = self.unstored.get(model)
        if step is None:
            return  # a command has stored it meanwhile
        active, document = step.active, step.document
        event = str(document["event"])
        try:
            await self.store_change(active, step.state, event, document)
            self._switches.begin(active, event)
        except StorageError as error:
            if step.said != str(error):
                log.error("release of %s: %s is done, but not stored yet: %s", model, event, error)
            step.said = str(error)
            return
        except ConflictError as error:
            log.error("release of %s: %s is done here, but not stored: %s", model, event, error)
        del self.unstored[model]
        self._note_done(active, event, document)

    def tell(self, event: str, release: Release, document: dict[str, Any]) -> None:
        """The log line and the webhook of an event."""
        plan, state = release.plan, release.state
        reason = f"{state.reason}; {document['harm']}" if "harm" in document else state.reason
        say(event, plan.model, reason, is_alarm=event == str(Move.ROLLBACK))
        self.post(event, release, document)

    def post(self, event: str, release: Release, document: dict[str, Any]) -> None:
        """The webhook alone, where the plan has one."""
        plan = release.plan
        if plan.webhook:
            told = {**describe_release(release), **document}
            self._webhook.post(plan.webhook, event_of(event, plan.model, told))

    def clear_away(self, active: ActiveRelease) -> None:
        """Begins to put away what is left of a release that was let go: its mirror, and the version that lost."""

        async def clear_away() -> None:
            async with self._turns.of(active.split.model):
                await self._placement.clear_away(active)
                self._let_go.remove(active)

        self._let_go.append(active)
        self._turns.begin(active.split.model, clear_away)

    async def close(self) -> None:
        """Ends the mirrors of releases that were let go, and whose turn to be cleared away did not come."""
        for active in self._let_go:
            await self._placement.end_mirror(active)

    async def _step_forward(
        self, active: ActiveRelease, state: ReleaseState, event: str, document: dict[str, Any]
    ) -> None:
        model, before = active.split.model, active.state
        if model in self.unstored:
            raise StorageError(
                f"release of {model!r} was taken back to {before.share * 100:g} % of the traffic, which no disk would take yet; "
                "it goes forward once that is stored"
            )
        await self.store_change(active, state, event, document)
        self._placement.move(active, state)
        if state.share != before.share:
            self._switches.begin(active, event)
        self._note_done(active, event, document)

    async def _step_back(
        self, active: ActiveRelease, state: ReleaseState, event: str, verdict: Verdict, document: dict[str, Any]
    ) -> None:
        model = active.split.model
        self._placement.move(active, state)  # first of all
        told = {"event": event, DECIDED: self._store.unix_us(), **document, **numbers(active.evidence.counts, verdict)}
        if not state.status.is_alive:
            found = harm(active.evidence.counts, verdict)
            told |= {**found.to_dict(), "harm": str(found)}
        if model in self.unstored:
            told["unstored_before"] = self.unstored[model].document
        self.unstored[model] = StepBack(active, state, told)
        await self.store_step_back(model)

    def _note_done(self, active: ActiveRelease, event: str, document: dict[str, Any]) -> None:
        """A step was carried out here, and stored."""
        active.needed = None  # of the stage before; the next tick reckons anew
        self.tell(event, active.release, document)
        if not active.state.status.is_alive:
            self._late.forget(active.release.id)
            self._placement.let_go(active)
            self.clear_away(active)
