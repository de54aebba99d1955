"""What this process serves, brought in line with what the database says: releases that run, and versions to serve after others."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping

from cloud_gateway.guards import GuardWatch, Metric
from cloud_gateway.release.active import ActiveRelease, restored
from cloud_gateway.release.mirror import Mirror
from cloud_gateway.release.plan import ShadowSettings, Strategy
from cloud_gateway.release.report import ReleaseCounts
from cloud_gateway.release.service import Traffic
from cloud_gateway.release.state import Status
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

    async def resume(self, release: Release) -> EdgewardError | None:
        """Puts a release of the database in place; what is wrong where that cannot be: then stable answers."""
        plan, state = release.plan, release.state
        # Until both are loaded, whatever share the candidate has elsewhere: where another gateway leads, callers are here already.
        self._traffic.pins[plan.model] = str(plan.stable)
        try:
            pair = await self._load_again(release)
        except EdgewardError as error:
            self._note_trouble(plan.model, f"release {release.id} cannot go on here: {error}")
            return error
        self.troubles.pop(plan.model, None)
        await self.activate(release, pair)
        share = f"{state.share * 100:g} % of the traffic"
        log.info("release %d of %s goes on: %s, %s", release.id, plan.model, state.status, share)
        return None

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

    async def end(self, active: ActiveRelease) -> None:
        """Traffic has its version for good; the other one goes, unless whoever started the gateway wants it."""
        self.let_go(active)
        await self.clear_away(active)

    def let_go(self, active: ActiveRelease) -> None:
        """The next request gets the version that the release ended with."""
        kept, _ = _kept_and_gone(active)
        self._traffic.pins[active.split.model] = str(kept)
        self._traffic.active.pop(active.split.model, None)

    async def clear_away(self, active: ActiveRelease) -> None:
        """What is left of a release that was let go."""
        split = active.split
        if active.mirror is not None:
            await asyncio.to_thread(active.mirror.close)
        await asyncio.to_thread(self._trials.end, split.release)
        _, gone = _kept_and_gone(active)
        await self._retire(split.model, gone, f"release {split.release} of it is {active.state.status}")

    async def serve(self, current: Mapping[str, int]) -> None:
        """Has the versions answer that ended releases made the ones to serve."""
        for model, version in current.items():
            if model in self._traffic.active:
                continue
            if self._traffic.pins.get(model) == str(version) and self._versions.find(model, version) is not None:
                continue
            before = self._versions.served(model)
            try:
                await self._versions.load(model, version)
            except EdgewardError as error:
                served = ", ".join(map(str, before)) or "none"
                self._note_trouble(
                    model, f"version {version}, which is to be served, cannot be: {error}; served: {served}"
                )
                continue
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
        if self._versions.find(model, version) is not None and not self._versions.is_asked_for(model, version):
            await self._versions.unload(model, version, reason)

    def _put(self, release: Release, mirror: Mirror | None) -> ActiveRelease:
        plan = release.plan
        active = ActiveRelease(release, self._watch_type, mirror, self._monotonic)
        active.on_mirrored = lambda mirrored: self._traffic.tell(mirrored, active)
        self._traffic.active[plan.model] = active
        self._traffic.pins[plan.model] = str(plan.candidate if release.state.status is Status.SETTLING else plan.stable)
        return active

    def _note_trouble(self, model: str, trouble: str) -> None:
        if self.troubles.get(model) != trouble:
            log.error("model %s: %s", model, trouble)
        self.troubles[model] = trouble


def _kept_and_gone(active: ActiveRelease) -> tuple[int, int]:
    split = active.split
    if active.state.status is Status.PROMOTED:
        return split.candidate, split.stable
    return split.stable, split.candidate
