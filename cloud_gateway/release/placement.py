"""What this process serves, brought in line with what the database says: releases that run, and versions to serve after others."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from cloud_gateway.guards import GuardWatch, Metric
from cloud_gateway.release.active import ActiveRelease
from cloud_gateway.release.answering import Traffic
from cloud_gateway.release.evidence import restored
from cloud_gateway.release.mirror import Mirror
from cloud_gateway.release.plan import ReleasePlan, ShadowSettings, Strategy
from cloud_gateway.release.report import ReleaseCounts
from cloud_gateway.release.state import ReleaseState, Status
from cloud_gateway.release.store import Release
from cloud_gateway.release.trials import Trials
from cloud_gateway.release.versions import Versions
from runtime.engine.model import Model
from runtime.errors import EdgewardError, ExecutionError

log = logging.getLogger(__name__)


class Placement:
    """Puts releases and versions in place. Used on one event loop."""

    def __init__(
        self,
        versions: Versions,
        traffic: Traffic,
        trials: Trials,
        watch_type: type[GuardWatch] = GuardWatch,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.troubles: dict[str, str] = {}
        """Model → why what the database says of it cannot be carried out here."""
        self._versions = versions
        self._traffic = traffic
        self._trials = trials
        self._watch_type = watch_type
        self._monotonic = monotonic

    async def activate(self, release: Release, pair: tuple[Model, Model]) -> ActiveRelease:
        """From the next request on the release's split holds; marked before, so that a candidate's crash of it all counts."""
        await asyncio.to_thread(self._trials.begin, release.id)
        plan = release.plan
        shadow = plan.shadow or ShadowSettings()
        has_latency = any(guard.metric is Metric.LATENCY for guard in plan.guards)
        twice_every = 1 if has_latency and plan.strategy is Strategy.SHADOW else shadow.noise_floor_every
        has_copy = shadow.noise_floor_copy
        mirror = Mirror(*pair, shadow.queue, twice_every, times_candidate=has_latency, has_copy=has_copy)
        return self._put(release, mirror)

    def restored(self, release: Release) -> tuple[ReleaseCounts, GuardWatch]:
        """What was saved of a release that cannot be put in place."""
        return restored(release, self._watch_type)

    async def prepare(self, release: Release) -> tuple[Model, Model]:
        """Both versions of a release in the database, for `activate`; until then, and where that cannot be, stable answers."""
        plan = release.plan
        # Until both are loaded, whatever share the candidate has elsewhere: where another gateway leads, callers are here already.
        self._traffic.pins[plan.model] = str(plan.stable)
        try:
            pair = await self._load_again(release)
        except EdgewardError as error:
            self._note_trouble(plan.model, f"release {release.id} cannot go on here: {error}")
            raise
        self.troubles.pop(plan.model, None)
        return pair

    async def drop(self, release: Release) -> None:
        """It ended while it was prepared, and was never put in place here."""
        kept, gone = _kept_and_gone(release.plan, release.state)
        self._traffic.pins[release.plan.model] = str(kept)
        await self.forget(release)
        await self._retire(release.plan.model, gone, f"release {release.id} of it is {release.state.status}")

    def move(self, active: ActiveRelease, state: ReleaseState) -> None:
        """From the next request on the release stands so."""
        active.move(state)
        self.pin(active)

    def pin(self, active: ActiveRelease) -> None:
        """Requests that look at no split, such as those for metadata, get the version that has most of it."""
        is_all = active.state.status in (Status.SETTLING, Status.PROMOTED)
        self._traffic.pins[active.split.model] = str(active.split.candidate if is_all else active.split.stable)

    async def _load_again(self, release: Release) -> tuple[Model, Model]:
        """The pair of a release that this gateway, or another, ran before; never a candidate that it did not survive."""
        plan = release.plan
        trial = await asyncio.to_thread(self._trials.begin, release.id)
        if trial.has_failed:
            await self._versions.load(plan.model, plan.stable)
            raise ExecutionError(
                f"this gateway ended {trial.crashes} times in a row without being told to while it ran version {plan.candidate}"
            )
        return await self._versions.load_pair(plan)

    def note_steady(self) -> None:
        """Blocking; see `Trials`."""
        self._trials.note_steady()

    async def forget(self, release: Release) -> None:
        """A release that was never put in place here has ended."""
        await asyncio.to_thread(self._trials.end, release.id)

    async def close(self) -> None:
        """The gateway ends as it was told to."""
        await asyncio.to_thread(self._trials.close)

    def let_go(self, active: ActiveRelease) -> None:
        """The next request gets the version that the release ended with."""
        kept, _ = _kept_and_gone(active.release.plan, active.state)
        self._traffic.pins[active.split.model] = str(kept)
        self._traffic.active.pop(active.split.model, None)

    async def clear_away(self, active: ActiveRelease) -> None:
        """What is left of a release that was let go; takes as long as the shadow's last run and the last requests do."""
        split = active.split
        await self.end_mirror(active)
        await asyncio.to_thread(self._trials.end, split.release)
        _, gone = _kept_and_gone(active.release.plan, active.state)
        await self._retire(split.model, gone, f"release {split.release} of it is {active.state.status}")

    async def end_mirror(self, active: ActiveRelease) -> None:
        """Takes as long as its last run; the log of requests has those too that it was given and did not run."""
        for about in await active.end_mirror():
            self._traffic.tell_left(about)

    def serves(self, model: str, version: int) -> bool:
        """Whether that version answers, or a release says which one does."""
        is_pinned = self._traffic.pins.get(model) == str(version) and self._versions.find(model, version) is not None
        return is_pinned or model in self._traffic.active

    async def serve(self, model: str, version: int) -> None:
        """Has the version answer that an ended release made the one to serve."""
        if self.serves(model, version):
            return
        before = self._versions.served(model)
        try:
            await self._versions.load(model, version)
        except EdgewardError as error:
            served = ", ".join(map(str, before)) or "none"
            self._note_trouble(model, f"version {version}, which is to be served, cannot be: {error}; served: {served}")
            return
        self.troubles.pop(model, None)
        self._traffic.pins[model] = str(version)
        for other in before:
            if other != version:
                await self._retire(model, other, f"version {version} took its place in a release")

    async def unpin(self, model: str, candidate: int, before: str | None) -> None:
        """As it was before a release that did not begin."""
        await self._retire(model, candidate, "its release did not begin")
        if before is None:
            self._traffic.pins.pop(model, None)
        else:
            self._traffic.pins[model] = before

    async def _retire(self, model: str, version: int, reason: str) -> None:
        """Takes a version out of service, unless whoever started the gateway, or a release that began meanwhile, wants it."""
        active = self._traffic.active.get(model)
        if active is not None and version in (active.split.stable, active.split.candidate):
            return
        if self._versions.find(model, version) is not None and not self._versions.is_asked_for(model, version):
            await self._versions.unload(model, version, reason)

    def _put(self, release: Release, mirror: Mirror | None) -> ActiveRelease:
        plan = release.plan
        active = ActiveRelease(release, self._watch_type, mirror, self._monotonic)
        active.on_mirrored = lambda mirrored: self._traffic.tell(mirrored, active)
        self._traffic.active[plan.model] = active
        self.pin(active)
        return active

    def _note_trouble(self, model: str, trouble: str) -> None:
        if self.troubles.get(model) != trouble:
            log.error("model %s: %s", model, trouble)
        self.troubles[model] = trouble


def _kept_and_gone(plan: ReleasePlan, state: ReleaseState) -> tuple[int, int]:
    if state.status is Status.PROMOTED:
        return plan.candidate, plan.stable
    return plan.stable, plan.candidate
