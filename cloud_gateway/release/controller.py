"""All releases of one gateway: what people ask of them, and the loop that asks the guards and looks at the database.

`leading` decides and `carrying_out` moves the traffic, on the one gateway that leads; `following` keeps each in line with the
database. The lease beats beside the loop, and what takes long has `turns` of its own: neither waits for a candidate that is loaded.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from cloud_gateway.release.active import ActiveRelease
from cloud_gateway.release.answering import Traffic
from cloud_gateway.release.carrying_out import CarryingOut
from cloud_gateway.release.description import describe_release, describe_running
from cloud_gateway.release.events import Webhook
from cloud_gateway.release.fence import UNFENCED
from cloud_gateway.release.following import Following
from cloud_gateway.release.late import LateEvidence
from cloud_gateway.release.leadership import Leadership
from cloud_gateway.release.leading import Leading
from cloud_gateway.release.lease import BEAT_S
from cloud_gateway.release.placement import Placement
from cloud_gateway.release.plan import ReleasePlan
from cloud_gateway.release.steps import Command, begin, obey
from cloud_gateway.release.store import Release, ReleaseStore, Unreadable
from cloud_gateway.release.switchover import Switches, Switchover
from cloud_gateway.release.traffic import SeenTraffic, hand_in
from cloud_gateway.release.turns import Turns
from cloud_gateway.release.versions import Versions
from runtime.errors import ConflictError, EdgewardError, InvalidInputError, ModelNotFoundError, StorageError

log = logging.getLogger(__name__)

TICK_S: Final = 0.2
# How often what was seen elsewhere, or late, is read and what was seen here is handed in.
LATE_S: Final = 1.0
# A pause of the whole process (a machine that slept) counts for no more than this in a stage.
MAX_STEP_S: Final = 5.0


class ReleaseController:
    """Used on the gateway's event loop."""

    def __init__(
        self,
        store: ReleaseStore,
        versions: Versions,
        placement: Placement,
        traffic: Traffic,
        webhook: Webhook,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.leadership = Leadership(store, monotonic)
        self.late = LateEvidence()
        """Has what other gateways see as a source, and is given more."""
        self.switchover = Switchover(store, traffic)
        self.switches = Switches(self.switchover, store)
        self.turns = Turns()
        self._seen = SeenTraffic(store.engine, store.me)
        self.late.sources.append(self._seen)
        self._carrying_out = CarryingOut(store, placement, self.switches, self.turns, self.late, webhook)
        self.leading = Leading(
            store, versions, placement, traffic, self._carrying_out, self.turns, self.late, self._seen
        )
        self.following = Following(
            store,
            placement,
            traffic,
            self.leadership,
            self.leading,
            self._carrying_out,
            self.switchover,
            self.turns,
        )
        self._store = store
        self._versions = versions
        self._placement = placement
        self._traffic = traffic
        self._webhook = webhook
        self._monotonic = monotonic
        self._ticked_at = monotonic()
        self._second_at = monotonic()
        self._beaten_at = 0.0
        """When the last good beat began, by the clock of requests."""

    async def open(self) -> None:
        """Goes on where the database says that releases were; before the first request."""
        await self.beat()
        beating = asyncio.create_task(self._keep_beating())  # loading may take longer than the lease is good for
        try:
            await self._take_over()
            await self.following.follow()
            await self.turns.wait()
        finally:
            beating.cancel()
            with suppress(asyncio.CancelledError):
                await beating

    async def beat(self) -> None:
        """Says that this gateway is there; whoever leads, and has taken over, knows by that that its splits hold."""
        began = self.switchover.clock()
        if await self.leadership.beat():
            self.leading.note_won()
        if self.leadership.is_held and self.leadership.trouble is None:
            self._beaten_at = began
            self._trust()

    async def run(self) -> None:
        """Beats and decides, every `TICK_S`, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep_beating())
            group.create_task(self._keep_deciding())

    async def close(self) -> None:
        """Keeps what is known, and lets another gateway lead."""
        await self.turns.close()
        await self._carrying_out.close()
        await self.switches.close()
        await self.following.close()
        for active in list(self._traffic.active.values()):
            await self._keep(active)
            await self._placement.end_mirror(active)
        await self._placement.close()
        with suppress(StorageError):
            await self.switchover.leave()
        await self.leadership.give_back()
        await asyncio.to_thread(self._webhook.close)

    async def start(self, plan: ReleasePlan) -> dict[str, Any]:
        """Begins a release once both versions are loaded, warm and alike; its status.

        `ConflictError` for a second one of the model, `ModelNotFoundError` for a version that is nowhere, `InvalidInputError` for
        another signature, `ExecutionError` for a warm-up that fails: then nothing has changed.
        """
        await self.leadership.require()
        async with self.turns.of(plan.model):
            await self.leading.known(plan.model)  # one that has ended elsewhere is in nobody's way
            self._check_startable(plan)
            before = self._traffic.pins.get(plan.model)
            if self._versions.served(plan.model):
                # Before the candidate is loaded: as the newest version it would answer from that moment on.
                self._traffic.pins[plan.model] = str(plan.stable)
            try:
                pair = await self._versions.load_pair(plan)
                marks = await self.late.marks()
                release = await asyncio.to_thread(self._store.start, plan, begin(plan))
            except BaseException:
                await self._placement.unpin(plan.model, plan.candidate, before)
                raise
            active = await self._placement.activate(release, pair)
            active.fence.trusted_until = self.switchover.trusted_until
            active.evidence.late_read = marks
            self._carrying_out.tell("start", release, {"plan": plan.model_dump(mode="json")})
            return self.status(plan.model)

    async def command(
        self, model: str, command: Command, why: str = "", to_percent: float | None = None
    ) -> dict[str, Any]:
        """Does what a person asks of a model's release; its status once that holds for callers of every gateway."""
        await self.leadership.require()
        async with self.turns.of(model):
            active = await self._known(model, command)
            if active is None:
                release = await asyncio.to_thread(self._store.newest, model)
                obey(release.plan, release.state, command, why, to_percent)  # an ended one says so
                trouble = self._placement.troubles.get(model, "it has just been found; try again in a second")
                raise ConflictError(f"release {release.id} of {model!r} does not run here: {trouble}")
            state = obey(active.release.plan, active.state, command, why, to_percent)
            await self._carrying_out.carry_out(active, state, str(command), active.evidence.watch.judge(), by_hand=True)
        await self.switches.wait(model)  # not until what it ended is put away: that may take as long as another's load
        if self._traffic.active.get(model) is active:
            return self.status(model)
        if active.fence.unread is not None:
            return describe_release(active.release, active.state) | self.leadership.describe()
        ended = await asyncio.to_thread(self._store.find, active.release.id)  # whatever release is the newest by now
        return describe_release(ended) | self.leadership.describe()

    async def _known(self, model: str, command: Command) -> ActiveRelease | None:
        try:
            return await self.leading.known(model)
        except StorageError:
            if command not in (Command.ABORT, Command.ROLLBACK):
                raise
            return self._traffic.active.get(model)  # the way back takes no more than what is known here

    def running(self, model: str) -> Release:
        """The release that runs here; `ModelNotFoundError` where there is none."""
        active = self._traffic.active.get(model)
        if active is None:
            raise ModelNotFoundError(f"model {model!r} has no release that runs here")
        return active.release

    def status(self, model: str) -> dict[str, Any]:
        """A release that runs here, for people and programs; `ModelNotFoundError` where there is none."""
        self.running(model)
        return describe_running(self._traffic.active[model]) | self.leadership.describe()

    async def describe(self, model: str) -> dict[str, Any]:
        """The newest release of a model, whether it runs or has ended."""
        if model in self._traffic.active:
            return self.status(model)
        release = await asyncio.to_thread(self._store.newest, model)
        trouble = self._placement.troubles.get(model)
        return (
            describe_release(release) | self.leadership.describe() | ({} if trouble is None else {"trouble": trouble})
        )

    async def list(self, limit: int = 100) -> tuple[list[dict[str, Any]], list[Unreadable]]:
        """Releases, the newest first, those that run with their numbers; and those that cannot be read."""
        stored = await asyncio.to_thread(lambda: self._store.found(limit=limit))
        running = {active.release.id: model for model, active in self._traffic.active.items()}
        told, unreadable = [], []
        for release in stored:
            if release.id in running:
                told.append(self.status(running[release.id]))
            elif isinstance(release, Release):
                told.append(describe_release(release))
            else:
                unreadable.append(release)
        return told, unreadable

    async def tick(self) -> None:
        """Asks the guards of every release, and does what follows."""
        now = self._monotonic()
        passed_s = min(now - self._ticked_at, MAX_STEP_S)
        self._ticked_at = now
        is_second = now - self._second_at >= LATE_S
        if is_second:
            self._second_at = now
        leads = self._leads
        for active in list(self._traffic.active.values()):
            if is_second and leads:
                await self.leading.hand_over_late(active)
            await active.absorb_all()
            if is_second and not self.leadership.is_held:
                await self._hand_in(active)
            if leads:
                await self.leading.decide(active, now, passed_s)
        await self.leading.store_steps_back()

    async def _keep_beating(self) -> None:
        while True:
            await asyncio.sleep(BEAT_S)
            try:
                await self.beat()
            except Exception as error:  # the outermost loop: the next beat tries again, and stable serves meanwhile
                log.error("a beat of the lease failed in an unforeseen way", exc_info=error)

    async def _keep_deciding(self) -> None:
        looked_at = self._monotonic()
        while True:
            try:
                self._note_fence()
                await self.following.rest(TICK_S)
                await self._take_over()
                if self._monotonic() - looked_at >= BEAT_S:
                    looked_at = self._monotonic()
                    await asyncio.to_thread(self._placement.note_steady)
                    await self.following.follow()
                    if self.leadership.is_held and self._traffic.active:
                        await self.switchover.look()
                await self.tick()
            except StorageError as error:
                log.error("releases stay as they are: %s", error)
                await asyncio.sleep(TICK_S)
            except ConflictError as error:
                log.warning("releases: %s", error)
            except Exception as error:  # the outermost loop: the next tick tries again, and stable serves meanwhile
                log.error("a step of the releases failed in an unforeseen way", exc_info=error)
                await asyncio.sleep(TICK_S)

    async def _take_over(self) -> None:
        if self.leading.is_taking_over:
            await self.leading.take_over()
        elif self.leadership.is_held and self.leading.has_unread:
            await self.leading.read_again()
        else:
            return
        self._trust()

    @property
    def _leads(self) -> bool:
        return self.leadership.is_held and not self.leading.is_taking_over

    def _trust(self) -> None:
        if self._leads:
            self.switchover.trust(self._beaten_at)

    def _note_fence(self) -> None:
        for model, active in self._traffic.active.items():
            was_trusted = active.fence.trusted_until > 0.0  # one that was just brought in waits for its first look
            is_fenced = active.fence.is_up and was_trusted
            if is_fenced == active.fence.is_told:
                continue
            active.fence.is_told = is_fenced
            event, said = ("fenced", active.fence.because) if is_fenced else ("unfenced", UNFENCED)
            log.log(logging.ERROR if is_fenced else logging.INFO, "release of %s: %s", model, said)
            self._carrying_out.post(event, active.release, {"reason": said, "fenced_answers": active.fence.answers})

    async def _keep(self, active: ActiveRelease) -> None:
        """What is known here alone, as this gateway ends: what cannot be written down now is lost, and that is said."""
        try:
            await active.absorb_all()
            if self._leads and active.fence.unread is None:
                with suppress(ConflictError):  # another gateway leads by now, and is handed what was seen here
                    await self.leading.save(active)
            while active.evidence.unkept_count:  # what could not be handed in before goes by itself
                await hand_in(self._seen, active)
        except EdgewardError as error:
            log.error(
                "release of %s: %d observations since its evidence was last kept are lost with this gateway: %s",
                active.split.model,
                active.evidence.unkept_count,
                error,
            )

    async def _hand_in(self, active: ActiveRelease) -> None:
        """Where it cannot be written now, it waits; what a command under way has kept is not handed in as well."""
        if self.turns.is_wanted(active.split.model):
            return
        try:
            async with self.turns.of(active.split.model):
                await hand_in(self._seen, active)
                active.note_followed()
        except StorageError as error:
            log.error("what was seen of the release of %s cannot be handed in yet: %s", active.split.model, error)

    def _check_startable(self, plan: ReleasePlan) -> None:
        model = plan.model
        active = self._traffic.active.get(model)
        if active is not None:
            raise ConflictError(
                f"model {model!r} has a release already: number {active.release.id}, {active.state.status.words}; wait for its "
                f"end, or end it with: edgeward release abort {model}"
            )
        served, pinned = self._versions.served(model), self._traffic.pins.get(model)
        answering = int(pinned) if pinned is not None else max(served, default=plan.stable)
        if answering != plan.stable:
            raise InvalidInputError(
                f"the plan says that version {plan.stable} of {model!r} is stable, but version {answering} answers its requests; "
                f"write stable = {answering}"
            )
