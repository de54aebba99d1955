"""A gateway in line with its database: what began, moved or ended elsewhere, and which versions to serve.

Whoever leads looks too, for what it is to bring in after a start; all that moves while it leads, it moves itself.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from functools import partial

from cloud_gateway.release.active import ActiveRelease
from cloud_gateway.release.answering import Traffic
from cloud_gateway.release.attention import Attention
from cloud_gateway.release.carrying_out import CarryingOut
from cloud_gateway.release.leadership import Leadership
from cloud_gateway.release.leading import Leading
from cloud_gateway.release.placement import Placement
from cloud_gateway.release.store import Look, Release, ReleaseStore, Unreadable
from cloud_gateway.release.switchover import Switchover
from cloud_gateway.release.turns import Turns
from runtime.engine.model import Model
from runtime.errors import EdgewardError, StorageError

log = logging.getLogger(__name__)


class Following:
    """Used on one event loop."""

    def __init__(
        self,
        store: ReleaseStore,
        placement: Placement,
        traffic: Traffic,
        leadership: Leadership,
        leading: Leading,
        carrying_out: CarryingOut,
        switchover: Switchover,
        turns: Turns,
    ) -> None:
        self._store = store
        self._placement = placement
        self._traffic = traffic
        self._leadership = leadership
        self._leading = leading
        self._carrying_out = carrying_out
        self._switchover = switchover
        self._turns = turns
        self._attention = Attention(store)
        self._is_deaf = False
        self._unreadable: dict[str, Unreadable] = {}
        """As they were last said."""
        self._in_line = asyncio.Lock()
        """From a look until all that it said is carried out and acknowledged: no release is put in place in between."""

    async def follow(self) -> None:
        """Moves and ends what moved or ended elsewhere; what has to be loaded for that, begins to be."""
        look = await self._come_in_line()
        for model, release in look.alive.items():
            if model not in self._traffic.active and not self._turns.is_working(model):
                self._turns.begin(model, partial(self._bring_in, release))
        for model, version in look.current.items():
            is_served = model in look.alive or self._placement.serves(model, version)
            if not is_served and not self._turns.is_working(model):
                self._turns.begin(model, partial(self._serve, model, version))

    async def rest(self, seconds: float) -> None:
        """Until the next tick; where another gateway leads, callers here are on the old split until a change is seen: at once."""
        now = asyncio.get_running_loop().time
        until = now() + seconds
        while (left_s := until - now()) > 0:
            if not self._traffic.active or self._leadership.is_held:
                await asyncio.sleep(left_s)
            elif await self._has_moved(left_s, seconds):
                await self.follow()

    async def close(self) -> None:
        """Waits for no change any more."""
        await self._attention.close()

    async def _has_moved(self, within_s: float, tick_s: float) -> bool:
        """Whether the leader has switched. Who cannot hear of it asks again every tick, and does everything else."""
        try:
            moved = await self._attention.has_moved(
                within_s, {active.standing for active in self._traffic.active.values()}
            )
        except StorageError as error:
            if not self._is_deaf:
                log.error(
                    "changes of releases are seen every %.1f s only, for they cannot be waited for: %s", tick_s, error
                )
            self._is_deaf = True
            await asyncio.sleep(within_s)
            return False
        self._is_deaf = False
        return moved

    async def _come_in_line(self) -> Look:
        async with self._in_line:
            began, look = await self._look()
            await self._catch_up(began, look)
            return look

    async def _look(self) -> tuple[float, Look]:
        """When it began, by the clock of requests, and what the database said."""
        if not self._leadership.is_held:
            try:
                await self._switchover.join()
            except StorageError as error:
                log.error("stable answers here, for whoever leads cannot be told of this gateway: %s", error)
        began = self._switchover.clock()
        look = await asyncio.to_thread(self._store.look)
        self._say_unreadable(look)
        return began, look

    def _say_unreadable(self, look: Look) -> None:
        for model, one in look.unreadable.items():
            if self._unreadable.get(model) != one:
                log.error("model %s: %s; all other releases go on", model, one.why)
        self._unreadable = look.unreadable

    async def _catch_up(self, began: float, look: Look) -> None:
        """Says what it moved and ended, and only then clears away."""
        if self._leadership.is_held:
            await self._leave()  # nobody waits for the one that leads, which trusts what it beats for
            return
        ended: list[ActiveRelease] = []
        try:
            if await self._bring_all_up(look, ended):
                await self._acknowledge(began, look)
        finally:  # also where this is given up in between: nobody else knows of those that were let go
            for active in ended:
                self._carrying_out.clear_away(active)

    async def _bring_all_up(self, look: Look, ended: list[ActiveRelease]) -> bool:
        """Whether all that it said is carried out; adds to `ended` what it let go."""
        is_whole = not self._carrying_out.unstored  # what was taken back here, the database does not know yet
        for model, active in list(self._traffic.active.items()):
            if model in self._carrying_out.unstored:
                continue
            if self._turns.is_wanted(model):
                is_whole = False  # a command that began while this gateway led
                continue
            async with self._turns.of(model):
                if self._leadership.is_held or self._traffic.active.get(model) is not active:
                    is_whole = False  # it moves by commands here by now, whatever the look said
                elif await self._bring_up(active, look):
                    ended.append(active)
        return is_whole

    async def _bring_up(self, active: ActiveRelease, look: Look) -> bool:
        """A release as the database has it: moved, or ended where that runs it no more; whether it has ended.

        Stable answers for one that cannot be read, and so it holds up no other, here or where this gateway is waited for.
        """
        try:
            has_ended = await self._as_found(active, look)
        except StorageError as error:
            active.fence.note_unread(str(error))
            return False
        active.fence.unread = None
        return has_ended

    async def _as_found(self, active: ActiveRelease, look: Look) -> bool:
        model = active.split.model
        for one in look.unreadable.values():  # not by its model: that may be what cannot be read
            if one.id == active.release.id:
                raise StorageError(one.why)
        found = look.alive.get(model)
        if found is None or found.id != active.release.id:
            active.state = (await asyncio.to_thread(self._store.find, active.release.id)).state
            self._placement.let_go(active)  # from the next request on
            return True
        if replace(found.state, in_stage_s=0.0, reason="") != replace(active.state, in_stage_s=0.0, reason=""):
            active.release = found
            self._placement.move(active, found.state)
        return False

    async def _acknowledge(self, began: float, look: Look) -> None:
        """A gateway that cannot say what it has carried out is not waited for, so stable answers here until it can."""
        if not self._traffic.active:
            await self._leave()
        try:
            await self._switchover.acknowledge(look.line, began)
        except StorageError as error:
            log.error("stable answers here, for what was carried out cannot be said: %s", error)

    async def _leave(self) -> None:
        """Until that is written down, a switch elsewhere may wait for this gateway, and name it as one that said nothing."""
        try:
            await self._switchover.leave()
        except StorageError as error:
            log.error("whoever leads cannot be told yet that it need not wait for this gateway: %s", error)

    async def _bring_in(self, release: Release) -> None:
        """Puts a release in place that runs elsewhere, or ran here."""
        async with self._turns.of(release.plan.model):
            if release.plan.model in self._traffic.active:
                return
            leads = self._leadership.is_held  # loading may take longer than the lead is believed
            try:
                pair = await self._placement.prepare(release)
            except EdgewardError as error:
                if leads:
                    await self._leading.give_up(release, error)
                return
            async with self._in_line:
                active = await self._activate(release, pair)
            if active is None:
                await self._placement.drop(await asyncio.to_thread(self._store.find, release.id))
                return
        share = f"{active.split.share * 100:g} % of the traffic"
        log.info("release %d of %s goes on: %s, %s", release.id, release.plan.model, active.state.status, share)
        await self._come_in_line()

    async def _activate(self, release: Release, pair: tuple[Model, Model]) -> ActiveRelease | None:
        """As it is by now: it may have moved while it was loaded; None: or ended."""
        leads = self._leadership.is_held
        found = await asyncio.to_thread(self._store.find, release.id)
        if not found.state.status.is_alive:
            return None
        active = await self._placement.activate(found, pair)
        active.fence.trusted_until = self._switchover.trusted_until if leads else 0.0
        if self._leadership.is_held and not leads:
            self._leading.note_won()  # the one before may have moved it after it was read
        return active

    async def _serve(self, model: str, version: int) -> None:
        """Has the version answer that an ended release made the one to serve."""
        async with self._turns.of(model):
            await self._placement.serve(model, version)
