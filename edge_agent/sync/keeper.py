"""Syncing while the agent runs: now and then, when somebody asks, and the end of a trial. Lives on the event loop."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from edge_agent.sync.syncer import CONFIRM_AFTER_S, Syncer
from runtime.errors import EdgewardError
from runtime.serving.extra_route import ExtraRoute

log = logging.getLogger(__name__)

PATH = "/edgeward/sync"


class Keeper:
    """Runs one syncer on a thread of its own; passes never overlap."""

    def __init__(self, syncer: Syncer, every_s: float | None) -> None:
        self._syncer = syncer
        self._every_s = every_s
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="edgeward-sync")
        self._tasks: list[asyncio.Task[None]] = []
        self._confirming: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins; what was switched to before is on trial from now on."""
        self._confirm_later()
        if self._every_s is not None:
            self._tasks.append(asyncio.create_task(self._keep_current(self._every_s)))

    async def sync(self) -> dict[str, Any]:
        """One pass now, or the next after the one under way."""
        before = self._syncer.describe()["models"]
        told: dict[str, Any] = await asyncio.get_running_loop().run_in_executor(self._thread, self._syncer.sync)
        if told["models"] != before:
            self._confirm_later()  # what is new on trial gets all of its time
        return told

    async def close(self) -> None:
        """Waits for the pass under way, and says goodbye for what is on trial."""
        for task in [*self._tasks, *([] if self._confirming is None else [self._confirming])]:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        await asyncio.get_running_loop().run_in_executor(self._thread, self._say_goodbye)
        self._thread.shutdown(wait=True)

    def routes(self) -> list[ExtraRoute]:
        """POST: a pass now. GET: how it stands."""

        async def answer(request: Request) -> Response:
            if request.method == "POST":
                return JSONResponse(await self.sync())
            return JSONResponse(self._syncer.describe())

        return [ExtraRoute("GET POST", PATH, answer)]

    def describe(self) -> dict[str, Any]:
        """For `agent status`."""
        return self._syncer.describe()

    def _confirm_later(self) -> None:
        if self._confirming is not None:
            self._confirming.cancel()
        self._confirming = asyncio.create_task(self._confirm())

    async def _confirm(self) -> None:
        await asyncio.sleep(CONFIRM_AFTER_S)
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._syncer.confirm)
        except EdgewardError as error:
            log.error("the end of a trial cannot be written down: %s", error)

    async def _keep_current(self, every_s: float) -> None:
        while True:
            try:
                await self.sync()
            except EdgewardError as error:
                log.warning("models are not synced: %s", error)
            await asyncio.sleep(every_s)

    def _say_goodbye(self) -> None:
        try:
            self._syncer.stop()
        except EdgewardError as error:
            log.error("the end of this run cannot be written down: %s", error)
