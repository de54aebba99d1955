"""The windows of statistics that devices sent, in the gateway's database: each once, the newest of a bounded number and size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from operator import sub
from typing import Final

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Engine,
    Float,
    ForeignKey,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    delete,
    func,
    insert,
    select,
)

from runtime.store import reading, setting_up, writing

MAX_WINDOWS: Final = 20_000
MAX_BYTES: Final = 512 << 20
_PAGE: Final = 200

TABLES: Final = MetaData()
WINDOWS: Final = Table(
    "drift_windows",
    TABLES,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("device", String(128), nullable=False),
    Column("window", String(32), nullable=False),
    Column("received_unix", Float, nullable=False),
    Column("began_unix", Float, nullable=False),
    Column("ended_unix", Float, nullable=False),
    Column("size_bytes", Integer, nullable=False),
    Column("blob", LargeBinary, nullable=False),
    UniqueConstraint("device", "window"),
)
# Of the few windows that say that something drifts on their device.
DRIFTING: Final = Table(
    "drift_windows_drifting",
    TABLES,
    Column("window", Integer, ForeignKey("drift_windows.id"), primary_key=True),
    Column("features", JSON, nullable=False),
)


# Of those that say that there were rows beside them which nobody else may look at.
PRIVATE: Final = Table(
    "drift_windows_private",
    TABLES,
    Column("window", Integer, ForeignKey("drift_windows.id"), primary_key=True),
    Column("rows", BigInteger, nullable=False),
)


@dataclass(frozen=True, slots=True)
class Kept:
    """A window as it came, its times those of the gateway's calendar then."""

    device: str
    window: str
    began: float
    ended: float
    blob: bytes
    drifting: tuple[str, ...] = ()
    """Features that drift on the device, as it said with the window."""
    private_rows: int = 0
    """Rows that the device counted meanwhile for itself alone."""


class Windows:
    """Blocking; threads may share it. `StorageError` when the database takes no more or cannot be read."""

    def __init__(self, engine: Engine, max_windows: int = MAX_WINDOWS, max_bytes: int = MAX_BYTES) -> None:
        self._engine = engine
        self._max_windows, self._max_bytes = max_windows, max_bytes
        with setting_up(engine) as connection:
            TABLES.create_all(connection)

    def close(self) -> None:
        """Closes the connections."""
        self._engine.dispose()

    def add(self, kept: Kept, received_unix: float) -> bool:
        """Keeps a window and forgets the oldest beyond the bounds; False when that window is there already."""
        row = {
            "device": kept.device,
            "window": kept.window,
            "received_unix": received_unix,
            "began_unix": kept.began,
            "ended_unix": kept.ended,
            "size_bytes": len(kept.blob),
            "blob": kept.blob,
        }
        with writing(self._engine) as connection:
            same = (WINDOWS.c.device == kept.device) & (WINDOWS.c.window == kept.window)
            if connection.execute(select(WINDOWS.c.id).where(same)).first() is not None:
                return False
            number = connection.execute(insert(WINDOWS).values(**row).returning(WINDOWS.c.id)).scalar_one()
            if kept.drifting:
                connection.execute(insert(DRIFTING).values(window=number, features=list(kept.drifting)))
            if kept.private_rows:
                connection.execute(insert(PRIVATE).values(window=number, rows=kept.private_rows))
            count, size = connection.execute(
                select(func.count(), func.coalesce(func.sum(WINDOWS.c.size_bytes), 0))
            ).one()
            if count > self._max_windows or size > self._max_bytes:
                # A tenth at once, so that not every window pays for it.
                few = max(count - self._max_windows, count // 10, 1)
                oldest = select(WINDOWS.c.id).order_by(WINDOWS.c.id).limit(few)
                for beside in (DRIFTING, PRIVATE):
                    connection.execute(delete(beside).where(beside.c.window.in_(oldest)))
                connection.execute(delete(WINDOWS).where(WINDOWS.c.id.in_(oldest)))
        return True

    def all(self, now_unix: float) -> Iterator[Kept]:
        """Every window in the order they came, dated as if the clock that is right `now_unix` had always been (`set_right`)."""
        with reading(self._engine) as connection:
            arrivals = connection.execute(select(WINDOWS.c.id, WINDOWS.c.received_unix).order_by(WINDOWS.c.id)).all()
        numbers, received = zip(*arrivals, strict=True) if arrivals else ((), ())
        ahead_s = dict(zip(numbers, map(sub, received, set_right(received, now_unix)), strict=True))
        last = 0
        whole = select(WINDOWS, DRIFTING.c.features, PRIVATE.c.rows.label("private_rows"))
        for beside in (DRIFTING, PRIVATE):
            whole = whole.join(beside, beside.c.window == WINDOWS.c.id, isouter=True)
        while True:
            with reading(self._engine) as connection:
                page = whole.where(WINDOWS.c.id > last).order_by(WINDOWS.c.id).limit(_PAGE)
                rows = connection.execute(page).all()
            for row in rows:
                off_s = ahead_s.get(row.id, 0.0)
                times = row.began_unix - off_s, row.ended_unix - off_s
                told = tuple(row.features or ()), row.private_rows or 0
                yield Kept(row.device, row.window, *times, bytes(row.blob), *told)
            if len(rows) < _PAGE:
                return
            last = rows[-1].id


def set_right(received: Sequence[float], now: float) -> list[float]:
    """When things came that came in this order, by a clock that may have been set back: none after the next one or after now."""
    return list(accumulate(reversed([*received, now]), min))[:0:-1]
