"""How a program that serves models has its page: a history in its folder of state, recorded while it serves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from runtime import config
from runtime.pages.page import Page
from runtime.serving.additions import Additions
from runtime.serving.metrics.endpoint import collect
from runtime.serving.service import InferenceService
from runtime.telemetry.history_recorder import HistoryRecorder

if TYPE_CHECKING:
    from runtime.telemetry.history_store import HistoryStore

FILE: Final = "history.db"


def history_of(program: str, folder: Path | None = None) -> HistoryRecorder:
    """A recorder whose history lies in `folder`; in memory alone, and said, where no database can be there.

    `folder`: None: `config.home()`.
    """

    def open_store() -> HistoryStore:
        from runtime.store import open_database, sqlite_url
        from runtime.telemetry.history_store import HistoryStore

        return HistoryStore(open_database(sqlite_url((folder or config.home()) / FILE)), program)

    return HistoryRecorder(open_store)


async def at_once() -> None:
    """Waits for nothing."""


@asynccontextmanager
async def running_page(
    page: Page, service: InferenceService, additions: Additions, begin: Callable[[], Awaitable[object]] = at_once
) -> AsyncIterator[None]:
    """Keeps the page's history and its readers current meanwhile, once `begin` has returned.

    The history's database is a library that takes as much of the processor as many a model's whole start.
    """

    async def run() -> None:
        await begin()
        await page.run(partial(collect, service, additions))

    running = asyncio.create_task(run())
    try:
        yield
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
