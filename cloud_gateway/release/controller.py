"""The loop that carries releases out: it asks the guards, lets `steps` decide, stores the decision, and moves the traffic.

A step forward is stored before traffic moves: a disk that is full holds the release. A step back, whoever asks for it and however
far, moves traffic first, and is stored as soon as that can be done: no disk stands between a bad candidate and the way back.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final

from cloud_gateway.release.active import FENCED, ActiveRelease
from cloud_gateway.release.description import describe_release, describe_running, numbers, numbers_of
from cloud_gateway.release.events import Webhook, event_of, say
from cloud_gateway.release.following import Attention
from cloud_gateway.release.harm import harm
from cloud_gateway.release.late import LateEvidence
from cloud_gateway.release.leadership import Leadership
from cloud_gateway.release.lease import BEAT_S
from cloud_gateway.release.placement import Placement
from cloud_gateway.release.plan import ReleasePlan
from cloud_gateway.release.service import Traffic
from cloud_gateway.release.state import ReleaseState, Status
from cloud_gateway.release.steps import Command, Decision, Move, begin, next_step, obey
from cloud_gateway.release.store import DECIDED, Release, ReleaseStore
from cloud_gateway.release.switchover import Switches, Switchover
from cloud_gateway.release.traffic import SeenTraffic
from cloud_gateway.release.versions import Versions
from runtime.errors import ConflictError, EdgewardError, InvalidInputError, ModelNotFoundError, StorageError

log = logging.getLogger(__name__)

TICK_S: Final = 0.2
# How often evidence is kept. A gateway that is killed forgets so much of it, whatever it showed: that biases nothing.
SAVE_S: Final = 1.0
# Observations that the guards take before requests get their turn: half a millisecond at 19 to 28 us each, with one or two guards.
SLICE: Final = 25
# A pause of the whole process (a machine that slept) counts for no more than this in a stage.
MAX_STEP_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class _Look:
    """What the database says."""

    began: float
    """By the clock of requests, before it was asked."""
    line: int
    """Of the log: what follows holds at least as of it."""
    current: dict[str, int]
    """Model → the version that ended releases made the one to serve."""
    alive: dict[str, Release]
    """By model."""


@dataclass(frozen=True, slots=True)
class _StepBack:
    """What is done here, and no disk would take yet."""

    active: ActiveRelease
    state: ReleaseState
    """Whatever the database says meanwhile."""
    document: dict[str, Any]


class ReleaseController:
    """All releases of one gateway. Used on its event loop."""

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
        self._store = store
        self._seen = SeenTraffic(store.engine, store.me)
        self.late.sources.append(self._seen)
        self._attention = Attention(store)
        self.switchover = Switchover(store, traffic)
        self.switches = Switches(self.switchover, store)
        self._is_fenced = False
        self._is_deaf = False
        self._is_taking_over = False
        """This gateway leads, and has yet to learn what the one before it knew."""
        self._versions = versions
        self._placement = placement
        self._traffic = traffic
        self._webhook = webhook
        self._monotonic = monotonic
        self._ticked_at = monotonic()
        self._second_at = monotonic()
        self._saved_at: dict[int, float] = {}
        self._held: dict[int, object] = {}
        """Release → what it was last said to wait for."""
        self._unstored: dict[str, _StepBack] = {}
        """By model: releases that have been taken back, if only in part; they stay so until that is stored."""
        self._changing = asyncio.Lock()
        """One command or decision at a time."""

    async def open(self) -> None:
        """Goes on where the database says that releases were; before the first request."""
        await self.beat()
        await self._follow()

    async def beat(self) -> None:
        """Says that this gateway is there; whoever leads, and has taken over, knows by that that its splits hold."""
        began = self.switchover.clock()
        self._is_taking_over |= await self.leadership.beat()
        if self._is_taking_over:
            await self._take_over()
        if self.leadership.is_held and self.leadership.trouble is None:
            self.switchover.trust(began)

    async def run(self) -> None:
        """Decides, every `TICK_S`, until cancelled."""
        beaten_at = self._monotonic()
        while True:
            try:
                self._note_fence()
                await self._rest()
                if self._monotonic() - beaten_at >= BEAT_S:
                    beaten_at = self._monotonic()
                    await self.beat()
                    await asyncio.to_thread(self._placement.note_steady)
                    await self._follow()
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

    async def _rest(self) -> None:
        """Until the next tick; where another gateway leads, callers here are on the old split until a change is seen: at once."""
        now = asyncio.get_running_loop().time
        until = now() + TICK_S
        while (left_s := until - now()) > 0:
            if not self._traffic.active or self.leadership.is_held:
                await asyncio.sleep(left_s)
            elif await self._has_moved(left_s):
                await self._follow()

    async def _has_moved(self, within_s: float) -> bool:
        """Whether the leader has switched. Who cannot hear of it looks every tick instead, and does everything else."""
        try:
            moved = await self._attention.has_moved(
                within_s, {active.standing for active in self._traffic.active.values()}
            )
        except StorageError as error:
            if not self._is_deaf:
                log.error(
                    "changes of releases are seen every %.1f s only, for they cannot be waited for: %s", TICK_S, error
                )
            self._is_deaf = True
            await asyncio.sleep(within_s)
            return False
        self._is_deaf = False
        return moved

    async def close(self) -> None:
        """Keeps what is known, and lets another gateway lead."""
        await self.switches.close()
        await self._attention.close()
        for active in list(self._traffic.active.values()):
            with suppress(EdgewardError):
                await _absorb(active)
                await (self._save(active) if self.leadership.is_held else self._hand_in(active))
            if active.mirror is not None:
                await asyncio.to_thread(active.mirror.close)
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
        async with self._changing:
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
            active.trusted_until = self.switchover.trusted_until
            active.late_read = marks
            self._tell("start", release, {"plan": plan.model_dump(mode="json")})
            return self.status(plan.model)

    async def command(
        self, model: str, command: Command, why: str = "", to_percent: float | None = None
    ) -> dict[str, Any]:
        """Does what a person asks of a model's release; its status once that holds for callers of every gateway."""
        await self.leadership.require()
        async with self._changing:
            active = self._traffic.active.get(model)
            if active is None:
                release = await asyncio.to_thread(self._store.newest, model)
                obey(release.plan, release.state, command, why, to_percent)  # an ended one says so
                trouble = self._placement.troubles.get(model, "it has just been found; try again in a second")
                raise ConflictError(f"release {release.id} of {model!r} does not run here: {trouble}")
            state = obey(active.release.plan, active.state, command, why, to_percent)
            await self._carry_out(active, state, str(command), {"by_hand": True, **numbers(active)})
        await self.switches.wait(model)
        return await self.describe(model)

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

    async def list(self, limit: int = 100) -> list[dict[str, Any]]:
        """Releases, the newest first, those that run with their numbers."""
        stored = await asyncio.to_thread(lambda: self._store.releases(limit=limit))
        running = {active.release.id: model for model, active in self._traffic.active.items()}
        return [
            self.status(running[release.id]) if release.id in running else describe_release(release)
            for release in stored
        ]

    async def tick(self) -> None:
        """Asks the guards of every release, and does what follows."""
        now = self._monotonic()
        passed_s = min(now - self._ticked_at, MAX_STEP_S)
        self._ticked_at = now
        is_second = now - self._second_at >= SAVE_S
        if is_second:
            self._second_at = now
        leads = self.leadership.is_held and not self._is_taking_over
        for active in list(self._traffic.active.values()):
            if is_second and leads:
                await self._hand_over_late(active)
            await _absorb(active)
            if is_second and not self.leadership.is_held:
                await self._hand_in_or_say(active)
            # A command under way goes first; the next tick comes soon.
            if leads and not self._changing.locked():
                async with self._changing:
                    active.state = replace(active.state, in_stage_s=active.state.in_stage_s + passed_s)
                    await self._decide_or_say(active, now)
        if self._unstored and not self._changing.locked():
            async with self._changing:
                await self._store_steps_back()

    def _note_fence(self) -> None:
        is_fenced = any(active.is_fenced for active in self._traffic.active.values())
        if is_fenced and not self._is_fenced:
            log.error("releases: %s", FENCED)
        elif self._is_fenced and not is_fenced:
            log.info("releases: callers are answered by the splits that were decided again")
        self._is_fenced = is_fenced

    async def _hand_over_late(self, active: ActiveRelease) -> None:
        """A disk that cannot be read keeps no release from being judged by what was seen."""
        try:
            await self.late.hand_over(active)
        except StorageError as error:
            log.error("what came late for the release of %s cannot be read: %s", active.split.model, error)

    async def _hand_in_or_say(self, active: ActiveRelease) -> None:
        """Where it cannot be written now, it waits."""
        try:
            await self._hand_in(active)
        except StorageError as error:
            log.error("what was seen of the release of %s cannot be handed in yet: %s", active.split.model, error)

    async def _hand_in(self, active: ActiveRelease) -> None:
        """What was seen here, to the gateway that leads."""
        first, seen = active.unkept()
        if seen:
            await asyncio.to_thread(self._seen.hand_in, active.release, first, seen)
            active.forget(len(seen))

    async def _save(self, active: ActiveRelease) -> None:
        known = active.unkept_count
        await asyncio.to_thread(self._store.save, active.release, active.state, active.evidence())
        active.forget(known)

    async def _decide_or_say(self, active: ActiveRelease, now: float) -> None:
        """One release that cannot be stored keeps no other from its way back."""
        try:
            await self._decide(active, now)
        except (StorageError, ConflictError) as error:
            if active.trouble != str(error):
                log.error("release of %s stays as it is: %s", active.split.model, error)
            active.trouble = str(error)
        else:
            active.trouble = None

    async def _decide(self, active: ActiveRelease, now: float) -> None:
        plan = active.release.plan
        if self._traffic.active.get(plan.model) is not active or plan.model in self._unstored:
            return
        failure = active.broken_because(now)
        if self._versions.find(plan.model, plan.candidate) is None:
            failure = f"version {plan.candidate} is not loaded any more"
        active.verdict = active.watch.judge()
        decision = next_step(plan, active.state, active.verdict, failure)
        active.needed = decision.needed
        if decision.move is not Move.HOLD:
            await self._carry_out(active, decision.state, str(decision.move), numbers(active))
            return
        active.state = decision.state
        if self._held.get(active.release.id) != (decision.cause, decision.state.stage):
            await self._note_hold(active, decision)
        elif now - self._saved_at.get(active.release.id, 0.0) >= SAVE_S:
            self._saved_at[active.release.id] = now
            await self._save(active)

    async def _note_hold(self, active: ActiveRelease, decision: Decision) -> None:
        """One record when a release begins to wait for something else, not five a second."""
        document = {"waits_for": str(decision.cause), "needed": decision.needed, **numbers(active)}
        active.release = await self._store_change(active, active.state, str(Move.HOLD), document)
        self._held[active.release.id] = (decision.cause, decision.state.stage)
        self._tell(str(Move.HOLD), active.release, document)

    async def _carry_out(
        self, active: ActiveRelease, state: ReleaseState, event: str, document: dict[str, Any]
    ) -> None:
        self._held.pop(active.release.id, None)
        model, before = active.split.model, active.state
        if state.share < before.share or state.status in (Status.ROLLED_BACK, Status.ABORTED):
            done: dict[str, Any] = {}
            if not state.status.is_alive:
                found = harm(active.counts, active.verdict or active.watch.judge())
                done = {**found.to_dict(), "harm": str(found)}
            active.move(state)  # first of all
            self._pin(active)
            told = {"event": event, DECIDED: self._store.unix_us(), **document, **done}
            if model in self._unstored:
                told["unstored_before"] = self._unstored[model].document
            self._unstored[model] = _StepBack(active, state, told)
            await self._store_steps_back()
            return
        if model in self._unstored:
            raise StorageError(
                f"release of {model!r} was taken back to {before.share * 100:g} % of the traffic, which no disk would take yet; "
                "it goes forward once that is stored"
            )
        active.release = await self._store_change(active, state, event, document)
        active.move(state)
        self._pin(active)
        if state.share != before.share:
            self.switches.begin(active, event)
        await self._note_done(active, event, document)

    async def _store_steps_back(self) -> None:
        """Stores what was taken back already; again at the next tick where the disk will not take it now."""
        for model, step in list(self._unstored.items()):
            active, document = step.active, step.document
            event = str(document["event"])
            try:
                active.release = await self._store_change(active, step.state, event, document)
                self.switches.begin(active, event)
            except StorageError as error:
                log.error("release of %s: %s is done, but not stored yet: %s", model, event, error)
                continue
            except ConflictError as error:
                log.error("release of %s: %s is done here, but not stored: %s", model, event, error)
            del self._unstored[model]
            await self._note_done(active, event, document)

    async def _note_done(self, active: ActiveRelease, event: str, document: dict[str, Any]) -> None:
        """A step was carried out here, and stored."""
        active.needed = None  # of the stage before; the next tick reckons anew
        self._tell(event, active.release, document)
        if not active.state.status.is_alive:
            self.late.forget(active.release.id)
            await self._placement.end(active)

    async def _store_change(
        self, active: ActiveRelease, state: ReleaseState, event: str, document: dict[str, Any]
    ) -> Release:
        evidence, known = active.evidence(), active.unkept_count
        release = await asyncio.to_thread(self._store.change, active.release, state, event, document, evidence)
        active.forget(known)
        return release

    async def _take_over(self) -> None:
        """Another gateway led until now: what it has seen is in the database, and there goes what was seen here."""
        async with self._changing:  # a command since the lead was won is not undone by what was read before it
            releases = await asyncio.to_thread(lambda: self._store.releases(only_alive=True))
            alive = {release.id: release for release in releases}
            ended = []
            for model, active in list(self._traffic.active.items()):
                release = alive.get(active.release.id)
                if release is not None:
                    await _absorb(active)
                    await self._hand_in(active)
                    step = self._unstored.get(model)
                    active.restore(release, release.state if step is None else step.state)
                    self._pin(active)
                elif model not in self._unstored:  # nobody was told of its end here
                    await self._let_go(active)
                    ended.append(active)
            self._is_taking_over = False
            for active in ended:
                await self._placement.clear_away(active)

    async def _follow(self) -> None:
        """Brings this gateway in line with the database: what began, moved or ended elsewhere, and which versions to serve."""
        look = await self._look()
        if self._changing.locked():
            return
        async with self._changing:
            await self._catch_up(look)
            for release in look.alive.values():
                if release.plan.model not in self._traffic.active and release.plan.model not in self._unstored:
                    await self._resume_or_say(release)
            await self._placement.serve(
                {model: version for model, version in look.current.items() if model not in look.alive}
            )

    async def _look(self) -> _Look:
        if not self.leadership.is_held:
            try:
                await self.switchover.join()
            except StorageError as error:
                log.error("stable answers here, for whoever leads cannot be told of this gateway: %s", error)
        began = self.switchover.clock()
        line, current, alive = await asyncio.to_thread(self._store.look)
        return _Look(began, line, current, {release.plan.model: release for release in alive})

    async def _catch_up(self, look: _Look) -> None:
        """Moves and ends what moved or ended elsewhere, says so, and only then clears away."""
        if self.leadership.is_held:
            await self.switchover.leave()  # nobody waits for the one that leads, which trusts what it beats for
            return
        ended = []
        for model, active in list(self._traffic.active.items()):
            if model in self._unstored:
                continue  # it was taken back here, which the database does not know yet
            found = look.alive.get(model)
            if found is None or found.id != active.release.id:
                await self._let_go(active)
                ended.append(active)
            elif replace(found.state, in_stage_s=0.0, reason="") != replace(active.state, in_stage_s=0.0, reason=""):
                active.release = found
                active.move(found.state)
                self._pin(active)
        if not self._unstored:
            await self._acknowledge(look)
        for active in ended:
            await self._placement.clear_away(active)

    async def _acknowledge(self, look: _Look) -> None:
        """A gateway that cannot say what it has carried out is not waited for, so stable answers here until it can."""
        try:
            await self.switchover.acknowledge(look.line, look.began)
        except StorageError as error:
            log.error("stable answers here, for what was carried out cannot be said: %s", error)

    async def _let_go(self, active: ActiveRelease) -> None:
        """It ended elsewhere: from the next request on."""
        found = await asyncio.to_thread(self._store.releases, active.split.model)
        active.state = next(release.state for release in found if release.id == active.release.id)
        self._placement.let_go(active)

    async def _resume_or_say(self, release: Release) -> None:
        """One release that cannot go on yet keeps no other, and no gateway that starts, from serving; it is tried again."""
        try:
            await self._resume(release)
        except (StorageError, ConflictError) as error:
            log.error("release %d of %s cannot be brought in line yet: %s", release.id, release.plan.model, error)

    async def _resume(self, release: Release) -> None:
        """Puts a release in place that runs elsewhere, or ran here; while it was loaded it may have moved."""
        leads = self.leadership.is_held  # loading may take longer than the lead is believed
        error = await self._placement.resume(release)
        if error is not None:
            if leads:
                await self._give_up(release, error)
            return
        active = self._traffic.active[release.plan.model]
        active.trusted_until = self.switchover.trusted_until if leads else 0.0
        if not leads:
            await self._catch_up(await self._look())

    def _pin(self, active: ActiveRelease) -> None:
        is_all = active.state.status in (Status.SETTLING, Status.PROMOTED)
        self._traffic.pins[active.split.model] = str(active.split.candidate if is_all else active.split.stable)

    async def _give_up(self, release: Release, error: EdgewardError) -> None:
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
        document = {**numbers_of(counts, verdict), **done.to_dict(), "harm": str(done)}
        ended = await asyncio.to_thread(self._store.change, release, state, event, document, release.evidence)
        await self._placement.forget(release)
        self._tell(event, ended, document)

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

    def _tell(self, event: str, release: Release, document: dict[str, Any]) -> None:
        plan, state = release.plan, release.state
        reason = f"{state.reason}; {document['harm']}" if "harm" in document else state.reason
        say(event, plan.model, reason, is_alarm=event == str(Move.ROLLBACK))
        if plan.webhook:
            told = {**describe_release(release), **document}
            self._webhook.post(plan.webhook, event_of(event, plan.model, told))


async def _absorb(active: ActiveRelease) -> None:
    """Hands over what was seen, a slice at a time; requests get their turn in between."""
    is_more = True
    while is_more:
        is_more = active.absorb(SLICE)
        await asyncio.sleep(0)
