"""The most frequent values of a stream in bounded memory: datasketches' frequent items where installed, a fixed table otherwise.

What goes to another process is a short list of names with bounds of their counts, never a library's own bytes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

MAX_TOLD: Final = 64
"""Items that cross to another process."""
MAX_NAME: Final = 64
"""Characters of one: enough to recognise it."""
_LG_SIZE: Final = 8
MAX_HELD: Final = 192
"""Distinct items that are held, whatever comes: 4 to 12 KB."""


@dataclass(frozen=True, slots=True)
class Item:
    """A value and how often it came: at least `low`, at most `high` times."""

    name: str
    low: int
    high: int


class Items(Protocol):
    """What a category keeps to say its most frequent values."""

    def update(self, counts: Mapping[str, int]) -> None:
        """Takes how often each value came in a block."""

    def merge(self, other: Items) -> None:
        """Takes what `other` has seen, of whichever kind."""

    def top(self, most: int) -> list[Item]:
        """The most frequent, most first."""

    @property
    def blind(self) -> int:
        """A value that `top` never names came at most so often."""


class SketchedItems:
    """datasketches' frequent items (Misra-Gries with a purge)."""

    def __init__(self) -> None:
        from datasketches import frequent_strings_sketch

        self._sketch: Any = frequent_strings_sketch(_LG_SIZE)
        self._told_blind = 0

    def update(self, counts: Mapping[str, int]) -> None:
        """Takes how often each value came in a block."""
        for name, count in counts.items():
            self._sketch.update(name, count)

    def merge(self, other: Items) -> None:
        """Takes what `other` has seen; of another kind only what it can name."""
        if isinstance(other, SketchedItems):
            self._sketch.merge(other._sketch)
            self._told_blind += other._told_blind
        else:
            self.update({item.name: item.low for item in other.top(MAX_TOLD) if item.low})
            self._told_blind += other.blind

    def top(self, most: int) -> list[Item]:
        """The most frequent, most first."""
        from datasketches import frequent_items_error_type

        rows = self._sketch.get_frequent_items(frequent_items_error_type.NO_FALSE_NEGATIVES, 0)
        found = [Item(name, int(low), int(high) + self._told_blind) for name, _, low, high in rows]
        return sorted(found, key=lambda item: (-item.high, item.name))[:most]

    @property
    def blind(self) -> int:
        """The sketch's own error, and that of lists it was given."""
        return self._told_blind + int(self._sketch.get_upper_bound("\0never a name"))


class TabledItems:
    """The first distinct values, counted exactly; whatever comes once the table is full is counted together."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._others = 0

    def update(self, counts: Mapping[str, int]) -> None:
        """Takes how often each value came in a block."""
        known = self._counts
        for name, count in counts.items():
            if name in known:
                known[name] += count
            elif len(known) < MAX_HELD:
                known[name] = count
            else:
                self._others += count

    def merge(self, other: Items) -> None:
        """Takes what `other` has seen; of another kind only what it can name."""
        if isinstance(other, TabledItems):
            self.update(other._counts)
            self._others += other._others
        else:
            self.update({item.name: item.low for item in other.top(MAX_TOLD) if item.low})
            self._others += other.blind

    def top(self, most: int) -> list[Item]:
        """The most frequent of those in the table, most first."""
        rows = sorted(self._counts.items(), key=lambda pair: (-pair[1], pair[0]))[:most]
        return [Item(name, count, count + self._others) for name, count in rows]

    @property
    def blind(self) -> int:
        """Everything that came once the table was full."""
        return self._others


def make_items(*, use_sketches: bool) -> Items:
    """An empty one."""
    return SketchedItems() if use_sketches else TabledItems()


def told_items(rows: list[Item], blind: int, *, use_sketches: bool) -> Items:
    """What another process has told of its items, to be merged here."""
    made = make_items(use_sketches=use_sketches)
    made.update({item.name: item.low for item in rows if item.low})
    if isinstance(made, SketchedItems):
        made._told_blind = blind
    elif isinstance(made, TabledItems):
        made._others = blind
    return made


def names_of(values: list[Any]) -> Counter[str]:
    """How often each value came, by a name fit to be shown and kept."""
    counts = Counter(values)
    named: Counter[str] = Counter()
    for value, count in counts.items():
        named[name_of(value)] += count
    return named


def name_of(value: object) -> str:
    """The text of a value; long ones are cut and end in a digest, so that they stay apart."""
    text = value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")  # lone surrogates do not travel
    if len(text) <= MAX_NAME:
        return text
    from hashlib import blake2b

    digest = blake2b(text.encode("utf-8"), digest_size=4).hexdigest()
    return f"{text[: MAX_NAME - 9]}…{digest}"
