"""A gateway's parts of releases over real models and a real database, ticked by a test whose guards and clock do as told."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from cloud_gateway.guards import GuardWatch, Verdict
from cloud_gateway.registry import Registry, open_registry
from cloud_gateway.release.active import ActiveRelease
from cloud_gateway.release.answering import Traffic
from cloud_gateway.release.controller import ReleaseController
from cloud_gateway.release.events import Webhook
from cloud_gateway.release.placement import Placement
from cloud_gateway.release.plan import ReleasePlan, parse_plan
from cloud_gateway.release.service import ReleaseService
from cloud_gateway.release.steps import begin
from cloud_gateway.release.store import Release, ReleaseStore
from cloud_gateway.release.trials import Trials
from cloud_gateway.release.versions import Versions
from runtime.bundle.bundle import Bundle
from runtime.engine.engine import Engine
from runtime.engine.settings import EngineSettings
from runtime.serving.local_service import LocalService
from runtime.store import open_database, sqlite_url
from runtime.wire.values import InferenceRequest, InferenceResponse
from tests.cloud_gateway.bundles import SELECTION, make_bundle, row
from tests.cloud_gateway.release.fakes import Clock, FakeWatch

PATIENCE_S = 20.0
SHADOW = """
strategy = "shadow"
hold_s = 10
[shadow]
noise_floor_every = 5
[[guards]]
metric = "loss"
margin = 0.02
"""
HOOKED = 'stages = [50, 100]\nhold_s = 10\nwebhook = "http://127.0.0.1:9/hook"'


@dataclass(frozen=True)
class Stock:
    """Bundles and a registry that all tests here share: none changes them."""

    bundles: dict[int, Bundle]
    registry: Registry
    home: Path


def make_stock(root: Path) -> Stock:
    bundles = {
        1: make_bundle(root / "1", 1),
        2: make_bundle(root / "2", 2, is_other=True),
        3: make_bundle(root / "3", 3, classes=4),  # another signature
        4: make_bundle(root / "4", 4, table_size=0),  # fails its warm-up
        5: make_bundle(root / "5", 5, table_size=2),  # fails for some requests
    }
    registry = open_registry(str(root / "registry"), root / "cache")
    for bundle in bundles.values():
        registry.push(bundle.root)
    return Stock(bundles, registry, root / "home")


@dataclass
class Gateway:
    """The parts of releases in one gateway, ticked by the test."""

    engine: Engine
    local: LocalService
    store: ReleaseStore
    traffic: Traffic
    controller: ReleaseController
    service: ReleaseService
    clock: Clock
    versions: Versions

    async def tick(self, seconds: float = 0.2) -> None:
        self.clock.now += seconds
        await self.controller.leadership.beat()
        self.controller.switchover.trust(time.perf_counter())
        await self.controller.tick()
        await self.controller.turns.wait()

    async def follow(self) -> None:
        """Looks at the database, and waits for what has to be loaded or ended for that."""
        await self.controller.following.follow()
        await self.controller.turns.wait()

    async def take_over(self) -> None:
        """As the loop does after the beat that won the lead."""
        self.controller.leading.note_won()
        await self.controller._take_over()
        await self.controller.turns.wait()

    async def ask(self, count: int = 1, index: int = 0) -> list[InferenceResponse]:
        requests = [
            InferenceRequest("small", row(index), parameters={"routing_key": f"user-{number}"})
            for number in range(count)
        ]
        return list(await asyncio.gather(*(self.service.infer(request) for request in requests)))

    async def versions_told(self, count: int = 50) -> set[str]:
        return {reply.version for reply in await self.ask(count)}

    def events(self) -> list[str]:
        return [line.event for line in self.store.audit()]


@asynccontextmanager
async def gateway(
    stock: Stock,
    file: Path,
    *,
    me: str = "me",
    is_clean: bool = True,
    clock: Clock | None = None,
    watch_type: type[GuardWatch] = FakeWatch,
    webhook: Webhook | None = None,
) -> AsyncIterator[Gateway]:
    """A gateway that was told to serve version 1. Unless `is_clean`, it ends as a killed one does."""
    engine = Engine(EngineSettings(SELECTION, home=stock.home))
    engine.load(stock.bundles[1].root)
    local = LocalService(engine, name="test")
    store = ReleaseStore(open_database(sqlite_url(file)), me)
    traffic, clock = Traffic(), clock or Clock()
    versions = Versions(local, stock.registry)
    placement = Placement(versions, traffic, Trials(file.with_name("trials.json"), clock), watch_type, clock)
    controller = ReleaseController(store, versions, placement, traffic, webhook or Webhook(), clock)
    await controller.open()
    try:
        yield Gateway(engine, local, store, traffic, controller, ReleaseService(local, traffic), clock, versions)
    finally:
        if is_clean:
            await controller.close()
        else:
            for active in traffic.active.values():
                if active.mirror is not None:
                    active.mirror.close()
        store.close()
        local.close()


@asynccontextmanager
async def two(
    stock: Stock, file: Path, release: ReleasePlan, watch_type: type[GuardWatch] = FakeWatch
) -> AsyncIterator[tuple[Gateway, Gateway]]:
    """A release that runs on two gateways with one database and one clock: `a` leads, `b` follows."""
    clock = Clock()
    async with (
        gateway(stock, file, me="a", clock=clock, watch_type=watch_type) as a,
        gateway(stock, file, me="b", clock=clock, watch_type=watch_type) as b,
    ):
        await a.controller.start(release)
        await b.follow()
        yield a, b


def begin_other(one: Gateway, *here: Gateway) -> Release:
    """A release of another model, which runs on some gateways; begun after that of `small`, so it is looked at first."""
    other = plan().model_copy(update={"model": "other"})
    release = one.store.start(other, begin(other))
    for each in here:
        small = each.traffic.active.pop("small")
        active = ActiveRelease(release, type(small.evidence.watch))
        active.fence.trusted_until = time.perf_counter() + 3600
        each.traffic.active |= {"other": active, "small": small}
    return release


def plan(candidate: int = 2, more: str = "stages = [50, 100]\nhold_s = 10\nkeep_warm_s = 20") -> ReleasePlan:
    return parse_plan(f'model = "small"\nstable = 1\ncandidate = {candidate}\n{more}')


def told(verdict: Verdict) -> None:
    FakeWatch.says = verdict
