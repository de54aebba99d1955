"""What gateways that do not lead see of a release's traffic, written down once a second for the one that does: a `LateSource`.

A row is a slice of it, and goes once the guards that know it are saved. A gateway that is killed forgets its last second; the one
that leads forgets of its own what came since it last saved its guards (`leading.SAVE_S`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from sqlalchemy import Engine, func, select

from cloud_gateway.release.active import ActiveRelease
from cloud_gateway.release.late import SLICE, LateRow
from cloud_gateway.release.seen import Seen, from_text, to_text
from cloud_gateway.release.store import TRAFFIC_SOURCE, Release
from cloud_gateway.release.tables import IS_ALIVE, RELEASES, TRAFFIC
from runtime.store import insert_new, reading, writing


class SeenTraffic:
    """The table, for one gateway. Blocking; threads may share it."""

    name = TRAFFIC_SOURCE

    def __init__(self, engine: Engine, me: str) -> None:
        """`engine`: of a `ReleaseStore`, which makes the table. `me`: the gateway's name, unlike any other's."""
        self._engine = engine
        self._me = me

    def hand_in(self, release: Release, first: int, seen: Sequence[Seen]) -> None:
        """Writes down what was seen here, `first` being the number of the first one; nothing where the release has ended."""
        rows = [
            {"release": release.id, "gateway": self._me, "first": first + at, "seen": to_text(seen[at : at + SLICE])}
            for at in range(0, len(seen), SLICE)
        ]
        with writing(self._engine) as connection:
            is_alive = select(RELEASES.c.id).where(RELEASES.c.id == release.id, IS_ALIVE)
            if rows and connection.execute(is_alive).first() is not None:
                connection.execute(insert_new(connection, TRAFFIC), rows)

    def newest(self) -> int:
        """The number of the newest row; 0: there is none."""
        with reading(self._engine) as connection:
            return int(connection.execute(select(func.max(TRAFFIC.c.number))).scalar() or 0)

    def read(self, release: Release, after: int, until: int, at_most: int) -> list[LateRow]:
        """Rows of the release behind `after` up to and with `until`, in order."""
        query = (
            select(TRAFFIC.c.number, TRAFFIC.c.seen)
            .where(TRAFFIC.c.release == release.id, TRAFFIC.c.number > after, TRAFFIC.c.number <= until)
            .order_by(TRAFFIC.c.number)
            .limit(at_most)
        )
        with reading(self._engine) as connection:
            return [LateRow(row.number, seen=from_text(row.seen)) for row in connection.execute(query)]


async def hand_in(table: SeenTraffic, active: ActiveRelease) -> None:
    """What was seen here of a release and no database knows yet, to the gateway that leads."""
    first, seen = active.evidence.unkept()
    if seen:
        await asyncio.to_thread(table.hand_in, active.release, first, seen)
        active.evidence.forget(len(seen))
