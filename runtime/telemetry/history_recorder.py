"""Looks at every metric once a second, keeps the history, and has it stored on a thread: no request waits for a disk."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Final

from runtime.errors import StorageError
from runtime.telemetry.exposition import Family, Kind
from runtime.telemetry.history import History, Point
from runtime.telemetry.series import Sampler

if TYPE_CHECKING:  # it imports SQLAlchemy, which would make every program's start slower
    from runtime.telemetry.history_store import HistoryStore

log = logging.getLogger(__name__)

STEP_S: Final = 1.0
# One transaction for so many seconds: a disk is woken six times a minute, and a crash costs as much of the charts.
SAVE_EVERY_S: Final = 10.0
# A store that takes nothing is not worth more memory than an hour of seconds; less than `history.GONE_S`.
MAX_UNSAVED: Final = 4000

Read = Callable[[], Awaitable[Sequence[Family]]]


class HistoryRecorder:
    """The history of one program. `run` on the event loop.

    `open_store` is called once, on a thread, when the program serves already; None: in memory alone.
    """

    def __init__(
        self, open_store: Callable[[], HistoryStore] | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        self.history = History()
        self.newest: tuple[int, dict[str, float]] = (0, {})
        """The last second and its numbers."""
        self.stepped = asyncio.Condition()
        """Notified after each second."""
        self._open_store = open_store
        self._store: HistoryStore | None = None
        self._clock = clock
        self._sampler = Sampler()
        self._unsaved: list[tuple[int, Point]] = []
        self._saved_at = time.monotonic()
        self._failures = 0
        self._dropped = 0
        self._has_failed = False

    async def families(self) -> Sequence[Family]:
        """How the history itself fares."""
        return [
            Family("edgeward_history_series", Kind.GAUGE, "Series that are kept.", [({}, len(self.history.names))]),
            Family(
                "edgeward_history_failures_total",
                Kind.COUNTER,
                "Times that the history could not be read, recorded or stored.",
                [({}, self._failures)],
            ),
            Family(
                "edgeward_history_dropped_total",
                Kind.COUNTER,
                "Points and numbers that found no place.",
                [({}, self._dropped + self.history.left_out)],
            ),
        ]

    async def run(self, read: Read) -> None:
        """Until cancelled; then what is not stored yet is."""
        try:
            await self._load()
            while True:
                try:
                    await self.step(await read())
                except Exception:  # the outermost loop: one part's mistake must not end the charts of all
                    self._failures += 1
                    if not self._has_failed:
                        self._has_failed = True
                        log.exception("a second of the history was lost")
                # To the next whole second, so that points lie evenly and stops of the loop do not add up.
                await asyncio.sleep(STEP_S - self._clock() % STEP_S)
        finally:
            await asyncio.shield(self._save())
            if self._store is not None:
                self._store.close()

    async def step(self, families: Sequence[Family]) -> None:
        """Takes the numbers of now."""
        at = int(self._clock())
        values = self._sampler.sample(families, time.monotonic())
        complete = self.history.add(values, at)
        self._unsaved += complete
        if complete:
            self.newest = (at, values)
        async with self.stepped:
            self.stepped.notify_all()
        if time.monotonic() - self._saved_at >= SAVE_EVERY_S:
            await self._save()

    async def _load(self) -> None:
        if self._open_store is not None:
            loaded = History()  # filled on a thread, seen by nobody until it is whole
            try:
                self._store = await asyncio.to_thread(self._open_store)
                await asyncio.to_thread(self._store.load, loaded, int(self._clock()))
            except StorageError as error:
                self._note_failure(error)
            self.history = loaded

    async def _save(self) -> None:
        self._saved_at = time.monotonic()
        unsaved, self._unsaved = self._unsaved, []
        if self._store is None or not unsaved:
            return
        try:
            await asyncio.to_thread(self._store.save, self.history.names, unsaved)
        except StorageError as error:
            self._note_failure(error)
            kept = [*unsaved, *self._unsaved]
            self._unsaved = kept[-MAX_UNSAVED:]
            self._dropped += len(kept) - len(self._unsaved)
        else:
            if self._has_failed:
                log.warning("the history is stored again")
            self._has_failed = False

    def _note_failure(self, error: StorageError) -> None:
        self._failures += 1
        if not self._has_failed:
            self._has_failed = True
            log.warning("the history is kept in memory alone until its store takes it: %s", error)
