"""The agent as a program: its folder held, its models loaded, its parts served until a signal, and all taken down in order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from edge_agent.home_lock import HANDOVER_S, hold
from edge_agent.offline import agent_home, make_syncer
from edge_agent.parts import Parts
from edge_agent.settings import AgentSettings
from edge_agent.sync.syncer import Syncer
from runtime.engine.engine import Engine
from runtime.pages.program import running_page
from runtime.selection.trying import Progress
from runtime.serving.log_format import logging_as
from runtime.serving.program import load_all, make_engine, polling
from runtime.serving.server import Listening, serve
from runtime.serving.server import run as run_loop

# The first answers come first: charts that begin a second later lose nothing that anybody looks for.
CHARTS_AFTER_S: Final = 1.0


def run(
    settings: AgentSettings,
    on_started: Callable[[Listening, Engine], None],
    progress: Progress | None = None,
) -> None:
    """Loads the models, serves until SIGTERM or SIGINT, and takes all down; `ConflictError` where another agent has the home."""
    settings.require_an_arm()
    key = settings.read_api_key()
    with logging_as(settings.log_format, [] if key is None else [key]), hold(agent_home(), HANDOVER_S):
        engine = make_engine(settings, progress)
        try:
            load_all(engine, settings, may_lack=settings.gateway is not None)
            syncer = make_syncer(settings, engine)
            syncer.start()
            run_loop(serve_agent(settings, engine, lambda listening: on_started(listening, engine), syncer=syncer))
        finally:
            engine.close()


async def serve_agent(
    settings: AgentSettings,
    engine: Engine,
    on_started: Callable[[Listening], None] | None = None,
    stop: asyncio.Event | None = None,
    syncer: Syncer | None = None,
) -> None:
    """Serves what `engine` holds until SIGTERM, SIGINT or `stop`; the engine stays the caller's to close."""
    parts = Parts(settings, engine, syncer)
    listening = asyncio.Event()

    def on_listening(at: Listening) -> None:
        listening.set()
        if on_started is not None:
            on_started(at)

    async def settled() -> None:
        await listening.wait()
        await asyncio.sleep(CHARTS_AFTER_S)

    async with (
        parts.running(),
        polling(settings, engine, parts.local),
        parts.offline.running(),
        running_page(parts.page, parts.service, parts.additions, settled),
    ):
        await serve(
            parts.offline.service,
            settings,
            on_started=on_listening,
            additions=parts.additions,
            stop=stop,
        )
