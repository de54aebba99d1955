"""One change of a model's release at a time; what takes as long as a load does is done beside the loop that decides.

So a large candidate of one model keeps no other's guards, no look at the database and no beat of the lease waiting.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager

from runtime.errors import ConflictError, StorageError

log = logging.getLogger(__name__)


class Turns:
    """Used on one event loop."""

    def __init__(self) -> None:
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._wanting: Counter[str] = Counter()
        """Those that have the turn of a model or wait for it."""
        self._working: defaultdict[str, set[asyncio.Task[None]]] = defaultdict(set)

    @asynccontextmanager
    async def of(self, model: str) -> AsyncIterator[None]:
        """Held by whoever changes the release of a model: a command, a decision, a load."""
        self._wanting[model] += 1
        try:
            async with self._locks[model]:
                yield
        finally:
            self._wanting[model] -= 1

    def is_wanted(self, model: str) -> bool:
        """Whether `of` would wait: a lock that was just let go counts as free while it is somebody else's next."""
        return self._wanting[model] > 0

    def begin(self, model: str, work: Callable[[], Coroutine[None, None, None]]) -> None:
        """Does `work`, which takes its turn itself, beside everything else; what fails is said, and the next look tries again."""
        task = asyncio.create_task(_said(model, work))
        self._working[model].add(task)
        task.add_done_callback(self._working[model].discard)

    def is_working(self, model: str) -> bool:
        """Whether something that was begun for a model is under way."""
        return bool(self._working[model])

    async def wait(self, model: str | None = None) -> None:
        """Until all that was begun, for one model or for any, is done."""
        while tasks := [task for at, tasks in self._working.items() if model in (None, at) for task in tasks]:
            await asyncio.wait(tasks)

    async def close(self) -> None:
        """Gives up what is under way."""
        tasks = [task for tasks in self._working.values() for task in tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _said(model: str, work: Callable[[], Coroutine[None, None, None]]) -> None:
    try:
        await work()
    except (StorageError, ConflictError) as error:
        log.error("model %s cannot be brought in line with the database yet: %s", model, error)
    except Exception as error:  # the outermost loop of a task: the next look tries again, and stable serves meanwhile
        log.error("bringing model %s in line with the database failed in an unforeseen way", model, exc_info=error)
