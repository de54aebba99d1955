"""Syncing while the agent runs: now and then, when somebody asks, and the end of a trial. Lives on the event loop."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final, TypeVar

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from edge_agent.sync.record import TRIAL_S
from edge_agent.sync.syncer import Syncer
from runtime.errors import EdgewardError
from runtime.serving.rest.extra_route import ExtraRoute

log = logging.getLogger(__name__)

PATH = "/edgeward/sync"
# A pass that is cut short ends at once but for a connection being made or a model being loaded.
END_WITHIN_S: Final = 6.0

T = TypeVar("T")


class Keeper:
    """Runs one syncer on threads of its own, which the end of the process does not wait for; passes never overlap."""

    def __init__(self, syncer: Syncer, every_s: float | None, trial_s: float = TRIAL_S) -> None:
        self._syncer = syncer
        self._every_s = every_s
        self._trial_s = trial_s
        self._under_way: set[asyncio.Future[Any]] = set()
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
        told = await self._off_loop(self._syncer.sync)
        if told["models"] != before:
            self._confirm_later()  # what is new on trial gets all of its time
        return told

    def interrupt(self) -> None:
        """Cuts the pass under way short; the agent is about to end."""
        self._syncer.interrupt()

    async def close(self) -> None:
        """Cuts the pass under way short, and says goodbye for what is on trial; within `END_WITHIN_S`."""
        self.interrupt()
        for task in [*self._tasks, *([] if self._confirming is None else [self._confirming])]:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        if self._under_way:
            _, late = await asyncio.wait(self._under_way, timeout=END_WITHIN_S)
            if late:
                log.warning(
                    "a pass over the models did not end within %g s; the next start does it again", END_WITHIN_S
                )
        await asyncio.to_thread(self._say_goodbye)

    def routes(self) -> list[ExtraRoute]:
        """POST: a pass now. GET: how it stands."""

        async def answer(request: Request) -> Response:
            if request.method == "POST":
                return JSONResponse(await self.sync())
            return JSONResponse(self._syncer.describe())

        return [ExtraRoute("GET POST", PATH, answer, "The last sync; POST makes one now")]

    def describe(self) -> dict[str, Any]:
        """For `agent status`."""
        return self._syncer.describe()

    def _confirm_later(self) -> None:
        if self._confirming is not None:
            self._confirming.cancel()
        self._confirming = asyncio.create_task(self._confirm())

    async def _off_loop(self, job: Callable[[], T]) -> T:
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[T] = loop.create_future()

        def work() -> None:
            try:
                done = partial(_settle, ended, job(), None)
            except Exception as error:  # the caller's
                done = partial(_settle, ended, None, error)
            with suppress(RuntimeError):  # nobody waits any more: the loop is closed
                loop.call_soon_threadsafe(done)

        self._under_way.add(ended)
        threading.Thread(target=work, name="edgeward-sync", daemon=True).start()
        try:
            return await asyncio.shield(ended)
        finally:
            if ended.done():
                self._under_way.discard(ended)

    async def _confirm(self) -> None:
        await asyncio.sleep(self._trial_s)
        try:
            await self._off_loop(self._syncer.confirm)
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


def _settle(ended: asyncio.Future[Any], result: Any, error: Exception | None) -> None:
    if error is None:
        ended.set_result(result)
    else:
        ended.set_exception(error)
        ended.exception()  # nobody else may be waiting for it
