"""Devices that send statistics: what each may send, what it sent, and what drifts there. Pure; times are the caller's."""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any, Final

WINDOWS_PER_HOUR: Final = 240
"""Of one device: one every 15 s. Twice as many may come at once, after a time offline."""
BYTES_PER_HOUR: Final = 16 << 20
MAX_DEVICES: Final = 10_000
"""Beyond it those are forgotten that were not heard of for longest."""
MAX_DESCRIBED: Final = 100
MAX_NAMED: Final = 20
"""Of the devices on which a model's features drift."""
DAY_S: Final = 86_400.0

Place = tuple[str, int]
"""A model and its version."""


@dataclass(frozen=True, slots=True)
class _Told:
    ended: float
    drifting: tuple[str, ...]
    since: float
    """When the first window ended that said that something drifts there; of one that says nothing drifts, its own end."""


@dataclass(frozen=True, slots=True)
class _Private:
    """Rows that a device keeps to itself, of one model, for as long as no day passed without one."""

    rows: int
    last: float
    """When the window ended with which the newest were told."""


@dataclass(slots=True)
class Device:
    """One of them."""

    refilled: float
    windows_left: float = 2.0 * WINDOWS_PER_HOUR
    bytes_left: float = 2.0 * BYTES_PER_HOUR
    rows: int = 0
    accepted: int = 0
    dropped: int = 0
    last: float = -math.inf
    """When its newest window ended."""
    _told: dict[Place, _Told] = field(default_factory=dict)
    """By model and version what drifts there, by that device's own test, as its newest window said."""
    _private: dict[Place, _Private] = field(default_factory=dict)

    def refill(self, now: float) -> None:
        """Gives it what it may send by now."""
        passed_s = max(now - self.refilled, 0.0)
        self.refilled = now
        self.windows_left = min(self.windows_left + passed_s * WINDOWS_PER_HOUR / 3600, 2.0 * WINDOWS_PER_HOUR)
        self.bytes_left = min(self.bytes_left + passed_s * BYTES_PER_HOUR / 3600, 2.0 * BYTES_PER_HOUR)

    def may_send(self, size_bytes: int) -> bool:
        """Whether one more window of this size is within its share."""
        return self.windows_left >= 1 and self.bytes_left >= size_bytes

    def spend(self, size_bytes: int) -> None:
        """Takes a window off its share."""
        self.windows_left -= 1
        self.bytes_left -= size_bytes

    def count(self, rows: int, ended: float) -> None:
        """Notes a window that was taken."""
        self.rows += rows
        self.accepted += 1
        self.last = max(self.last, ended)

    def tell(self, place: Place, ended: float, drifting: tuple[str, ...]) -> None:
        """Notes which features of a model drift there, unless a later window has said so already."""
        known = self._told.get(place)
        if known is None or known.ended <= ended:
            goes_on = known is not None and known.drifting and drifting
            self._told[place] = _Told(ended, drifting, known.since if known is not None and goes_on else ended)

    def tell_private(self, place: Place, ended: float, rows: int) -> None:
        """Notes that beside a window there were rows of a model that nobody else may look at."""
        known = self._private.get(place)
        before = 0 if known is None or known.last < ended - DAY_S else known.rows
        self._private[place] = _Private(before + rows, ended if known is None else max(known.last, ended))

    def private_rows(self, place: Place, after: float) -> int:
        """How many of a model it keeps to itself; 0 where none was told of after that time."""
        found = self._private.get(place)
        return 0 if found is None or found.last < after else found.rows

    def told(self, place: Place, after: float) -> _Told | None:
        """What it told of a model after that time; None: nothing."""
        found = self._told.get(place)
        return None if found is None or found.ended < after else found


class Devices:
    """Those heard of last, at most `MAX_DEVICES`. Not thread-safe."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, Device] = OrderedDict()

    def seen(self, name: str, now: float) -> Device:
        """The device, its share refilled."""
        device = self._known.setdefault(name, Device(now))
        self._known.move_to_end(name)
        while len(self._known) > MAX_DEVICES:
            self._known.popitem(last=False)
        device.refill(now)
        return device

    def described(self, offset_s: float) -> list[dict[str, Any]]:
        """Those heard of last, as JSON; `offset_s` makes dates of times."""
        return [
            {
                "device": name,
                "rows": one.rows,
                "windows": one.accepted,
                "dropped": one.dropped,
                "last_unix": round(one.last + offset_s, 1) if one.accepted else None,
            }
            for name, one in list(self._known.items())[-MAX_DESCRIBED:]
        ]

    def that_tell_of(self, place: Place, now: float) -> dict[str, Any]:
        """How many told of a model within a day, on how many of them features drift, and some of those by name; as JSON.

        A device that drifts alone shows in the rows of a hundred others for moments, and without its name. Those that drift for
        longest come first, so that the same are named from one look to the next. `not_known`: those that told of no drift, and
        have rows that only they may look at; how many those are, `private_rows`.
        """
        told = self._told_of(place, now)
        drifting = sorted((one.since, name, one.drifting) for name, one in told if one.drifting)
        names = [{"device": name, "features": list(features)} for _, name, features in drifting[:MAX_NAMED]]
        private = [self._known[name].private_rows(place, now - DAY_S) for name, one in told if not one.drifting]
        return {
            "devices": len(told),
            "drifting": len(drifting),
            "names": names,
            "not_known": sum(rows > 0 for rows in private),
            "private_rows": sum(private),
        }

    def drifting(self, place: Place, now: float) -> dict[str, list[str]]:
        """Feature of a model → the devices that told within a day that it drifts there, those that drift for longest first."""
        found: dict[str, list[str]] = {}
        for _, name, features in sorted((one.since, name, one.drifting) for name, one in self._told_of(place, now)):
            for feature in features:
                found.setdefault(feature, []).append(name)
        return found

    def _told_of(self, place: Place, now: float) -> list[tuple[str, _Told]]:
        told = ((name, one.told(place, now - DAY_S)) for name, one in self._known.items())
        return [(name, one) for name, one in told if one is not None]
