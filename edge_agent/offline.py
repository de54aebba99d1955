"""Spool, jobs and synced models of one agent, put together: what stands before its service, its routes, its status."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_agent.bare_key import say_if_bare
from edge_agent.home_lock import BY_ITS_ADDRESS, hold
from edge_agent.jobs.jobs import Jobs
from edge_agent.jobs.routes import job_routes
from edge_agent.spool.routes import spool_routes
from edge_agent.spool.spool import Spool
from edge_agent.sync.check import Chooses
from edge_agent.sync.keeper import Keeper
from edge_agent.sync.served import EngineModels
from edge_agent.sync.state import SyncFolder
from edge_agent.sync.syncer import Syncer, Wishes
from runtime import config
from runtime.serving.asking import ask_of
from runtime.serving.layered import Layered
from runtime.serving.rest.extra_route import ExtraRoute
from runtime.serving.service import InferenceService

if TYPE_CHECKING:
    from edge_agent.settings import AgentSettings
    from runtime.engine.engine import Engine


def agent_home() -> Path:
    """Where an agent keeps what must survive it."""
    return config.home() / "agent"


def make_syncer(settings: AgentSettings, engine: Engine | None) -> Syncer:
    """What keeps the wanted models current, in `engine` where an agent runs."""
    wishes = None
    if settings.sync_from is not None and settings.sync_models:
        from edge_agent.sync.download import Source

        source = Source(settings.sync_from, settings.read_api_key(), settings.gateway_ca)
        say_if_bare(source.api_key, source.parsed, "sync_from as https://HOST:PORT")
        chooses = Chooses("" if settings.objective is None else settings.objective.value, settings.threads)
        wishes = Wishes(source, settings.sync_models, settings.sync_max_bytes, chooses, settings.device_name)
    served = None if engine is None else EngineModels(engine, settings.models)
    # An agent has its folder anyhow.
    writing = partial(hold, agent_home(), next_step=BY_ITS_ADDRESS) if served is None else nullcontext
    return Syncer(SyncFolder(agent_home() / "sync", config.home() / "bundles"), wishes, served, writing=writing)


class Offline:
    """The three, behind one service; used as `async with offline.running():` on its event loop."""

    def __init__(self, settings: AgentSettings, service: InferenceService, engine: Engine, syncer: Syncer) -> None:
        home = agent_home()
        self._spool = Spool(home / "spool.db", settings.spool_limits(), service.infer, ask_of(service))
        self._jobs = Jobs(home / "jobs.db", service, engine, settings.job_folders)
        self._keeper = Keeper(syncer, settings.sync_every_s, settings.sync_trial_s)
        self.service: InferenceService = Layered(service, self._spool.infer, self._spool.ask)
        """The service with the spool before it."""
        self.routes: list[ExtraRoute] = [
            *spool_routes(self._spool, settings.max_message_bytes),
            *job_routes(self._jobs, settings.job_folders),
            *self._keeper.routes(),
        ]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Goes on with what earlier runs left, and closes everything at the end."""
        self._spool.start()
        self._keeper.start()
        await asyncio.to_thread(self._jobs.start)
        try:
            yield
        finally:
            # Side by side: a service manager gives the whole stop 45 s, of which draining may take 30.
            await asyncio.gather(asyncio.to_thread(self._jobs.close), self._keeper.close())
            await self._spool.close()

    def interrupt(self) -> None:
        """The agent is about to end: nothing long is begun any more, and the pass of syncing under way is cut short."""
        self._jobs.interrupt()
        self._keeper.interrupt()

    async def spool_depth(self) -> dict[str, float]:
        """Requests and bytes that wait for the cloud, for metrics; empty where that cannot be told now."""
        told = await self._spool.describe()
        return {} if "error" in told else {"requests": told["depth"], "bytes": told["bytes"]}

    async def describe(self) -> dict[str, Any]:
        """What status says: spool depth, jobs, last sync."""
        return {
            "spool": await self._spool.describe(),
            "jobs": await asyncio.to_thread(self._jobs.describe),
            "sync": self._keeper.describe(),
        }
