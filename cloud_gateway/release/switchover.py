"""When a switch holds everywhere: gateways say what they have carried out, whoever leads waits, and a deaf one fences itself.

A change of a split is stored, each gateway that hears of it switches and says so, and the one that leads counts the switch as
decided once all have, or once those that have not answer with stable by themselves (`roll`): `FENCE_S` at most.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Final

from sqlalchemy import delete, insert, select, update

from cloud_gateway.release.active import ActiveRelease
from cloud_gateway.release.answering import Traffic
from cloud_gateway.release.roll import FENCE_S, GatewayRow, Roll
from cloud_gateway.release.store import DECIDED, Release, ReleaseStore
from cloud_gateway.release.tables import GATEWAYS
from runtime.errors import StorageError
from runtime.store import reading, writing

log = logging.getLogger(__name__)

SWITCHED: Final = "switched"
"""In the log, where several gateways run releases: a change of a split holds for callers of all of them."""
LOOK_S: Final = 0.01
# Of a gateway that beats and never carries the change out: it is named in the log, and the switch does not wait for it any longer.
MOST_WAIT_S: Final = 10.0


class Presence:
    """The table of gateways, for one of them. Blocking."""

    def __init__(self, store: ReleaseStore) -> None:
        self._engine, self._me = store.engine, store.me

    def beat(self, line: int) -> None:
        """Says that this gateway is there, and has carried out everything up to `line`."""
        with writing(self._engine) as connection:
            mine = GATEWAYS.c.name == self._me
            changed = connection.execute(update(GATEWAYS).where(mine).values(beat=GATEWAYS.c.beat + 1, line=line))
            if not changed.rowcount:
                connection.execute(insert(GATEWAYS).values(name=self._me, beat=1, line=line))

    def others(self) -> list[GatewayRow]:
        """Everyone else's rows."""
        with reading(self._engine) as connection:
            found = connection.execute(select(GATEWAYS).where(GATEWAYS.c.name != self._me)).all()
        return [GatewayRow(row.name, row.beat, row.line) for row in found]

    def forget(self, names: Sequence[str]) -> None:
        """Drops rows."""
        with writing(self._engine) as connection:
            connection.execute(delete(GATEWAYS).where(GATEWAYS.c.name.in_(names)))

    def leave(self) -> None:
        """Says that this gateway runs no release any more."""
        self.forget([self._me])


@dataclass(frozen=True, slots=True)
class Switched:
    """A switch that holds everywhere."""

    gateways: int
    """Others that run releases."""
    fenced: list[str]
    """Those that did not say that they carried it out, and answer with stable by themselves or are gone."""
    unheard: list[str]
    """Those that are there and did not carry it out in time: expected to be none."""


class Switchover:
    """One gateway's part in it. Used on its event loop; `clock` is the one that requests are timed by."""

    def __init__(self, store: ReleaseStore, traffic: Traffic, clock: Callable[[], float] = time.perf_counter) -> None:
        self.trusted_until = 0.0
        """Until then this gateway may answer by the splits that it has."""
        self.clock = clock
        self._presence = Presence(store)
        self._traffic = traffic
        self._roll = Roll()
        self._looked_at = 0.0
        """When the last look at the others began."""
        self._is_there = False
        """Surely: whoever leads sees this gateway's row, and waits for it."""
        self._said_at = 0.0
        """When the last write of that row began: whoever leads waits for this gateway `FENCE_S` from then on, at least."""
        self._has_row = False
        """Perhaps: the row was written, or that was tried, and it is not known to be gone."""

    def trust(self, began: float) -> None:
        """What was looked up from `began` on is carried out here."""
        self.trusted_until = max(self.trusted_until, began + FENCE_S)
        for active in self._traffic.active.values():
            active.fence.trust(self.trusted_until)

    async def join(self) -> None:
        """Whoever leads waits for this gateway from now on: before the first look by which it answers."""
        is_there = self._is_there and self.clock() - self._said_at < FENCE_S
        if self._traffic.active and not is_there:
            self._has_row, self._is_there, self._said_at = True, False, self.clock()
            await asyncio.to_thread(self._presence.beat, 0)
            self._is_there = True

    async def acknowledge(self, line: int, began: float) -> None:
        """Says that everything up to `line`, as looked up from `began` on, holds for callers here; nothing before `join`."""
        if self._traffic.active:
            if not self._is_there:
                return  # nobody waited for this gateway at that look: the split may be over by now
            waited_until, said_at = self._said_at + FENCE_S, self.clock()
            await asyncio.to_thread(self._presence.beat, line)
            self._said_at = said_at
            if self.clock() >= waited_until:
                return  # written too late: whoever leads may have counted on the fence, and switched after that look
        self.trust(began)

    async def look(self) -> None:
        """Who else is there; once a second by the gateway that leads."""
        looked_at = self.clock()
        self._roll.see(await asyncio.to_thread(self._presence.others), self.clock())
        self._looked_at = looked_at
        if gone := self._roll.gone(self.clock()):
            await asyncio.to_thread(self._presence.forget, gone)

    async def everywhere(self, line: int) -> Switched:
        """Waits until the change in `line` holds for callers of every gateway; `StorageError` where that cannot be looked up."""
        until = self.clock() + MOST_WAIT_S
        others = self._roll.names  # also one that carries out an end, and is gone, before the first look
        await self.look()
        # By the time before the look: a row that was written while the answer was on its way is no row that stands still.
        while (behind := self._roll.behind(line, self._looked_at)) and self.clock() < until:
            await asyncio.sleep(LOOK_S)
            await self.look()
        return Switched(len(others | self._roll.names), self._roll.fenced(line, self._looked_at), behind)

    async def leave(self) -> None:
        """Nobody needs to wait for this gateway any more; after a `StorageError` the next call tries again."""
        if self._has_row:
            self._is_there = False  # whatever becomes of the row: before it answers by a split again, it joins
            await asyncio.to_thread(self._presence.leave)
            self._has_row = False


class Switches:
    """Beside everything else: for each model, when its newest switch holds everywhere, with the line of the log that says so."""

    def __init__(self, switchover: Switchover, store: ReleaseStore) -> None:
        self._switchover = switchover
        self._store = store
        self._waiting: dict[str, asyncio.Task[None]] = {}

    def begin(self, active: ActiveRelease, event: str) -> None:
        """`active` has just switched here, and that is stored."""
        model = active.split.model
        if (before := self._waiting.get(model)) is not None:
            before.cancel()  # what it waited for is over
        self._waiting[model] = asyncio.create_task(self._note(active, active.release, event))

    async def wait(self, model: str) -> None:
        """Until the newest switch of a model holds everywhere, or it cannot be known."""
        if (waiting := self._waiting.get(model)) is not None:
            await asyncio.wait([waiting])

    async def close(self) -> None:
        """Waits for nobody any more."""
        for task in self._waiting.values():
            task.cancel()
        await asyncio.gather(*self._waiting.values(), return_exceptions=True)

    async def _note(self, active: ActiveRelease, release: Release, event: str) -> None:
        model = active.split.model
        try:
            switched = await self._switchover.everywhere(release.line)
            decided = self._store.unix_us()
            if active.release.id == release.id and active.state.share == release.state.share:
                active.decided_unix_us = decided
            if not switched.gateways:
                return
            if switched.fenced or switched.unheard:
                log.warning(
                    "release of %s: of %d other gateways these did not say that they carried out %s: %s (they answer with "
                    "stable, or are gone)%s",
                    model,
                    switched.gateways,
                    event,
                    ", ".join(switched.fenced) or "none",
                    f"; beating, and still behind: {', '.join(switched.unheard)}" if switched.unheard else "",
                )
            told = {"release": release.id, "of": event, "line": release.line, DECIDED: decided, **asdict(switched)}
            await asyncio.to_thread(self._store.note, SWITCHED, model, told)
        except StorageError as error:
            log.error("release of %s: whether %s holds on other gateways cannot be looked up: %s", model, event, error)
