"""A gateway that follows waits for the database on a thread of its own: it is on the new split a moment after the leader."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from cloud_gateway.release.store import ReleaseStore

Standing = set[tuple[int, str, float]]


class Attention:
    """Used on one event loop."""

    def __init__(self, store: ReleaseStore) -> None:
        self._store = store
        self._changes = store.changes()
        self._thread = ThreadPoolExecutor(1, "edgeward-following")
        self._found: Standing | None = None
        self._is_unread = False
        """Whether there was a change, and the database would not say which."""

    async def has_moved(self, timeout_s: float, standing: Standing) -> bool:
        """Whether releases in the database stand otherwise than `standing`; at once when they do, else after `timeout_s` at most.

        Said once: what cannot be carried out here is left to the controller's own looks. `StorageError` where it cannot be asked.
        """
        ask = partial(self._has_moved, timeout_s, standing)
        return await asyncio.get_running_loop().run_in_executor(self._thread, ask)

    def _has_moved(self, timeout_s: float, standing: Standing) -> bool:
        if not (self._is_unread or self._changes.wait(timeout_s)):
            return False
        self._is_unread = True
        before, self._found = self._found, self._store.standing()
        self._is_unread = False
        return self._found not in (before, standing)

    async def close(self) -> None:
        """Ends the thread, which may still wait for a moment, and its connection."""
        await asyncio.to_thread(self._thread.shutdown, cancel_futures=True)
        await asyncio.to_thread(self._changes.close)
