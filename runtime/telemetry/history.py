"""Numbers over time in bounded memory: a second for ten minutes, ten for three hours, a minute for a day, five for thirty days.

A coarser point is the mean and the peak of the seconds in it. Pure: time comes in as whole Unix seconds. `history_store` keeps it
on disk.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

# A model name is the caller's choice on no path that leads here, but a repository may hold hundreds of models.
MAX_SERIES: Final = 512
MAX_NAME_CHARACTERS: Final = 1000
GONE_S: Final = 4500
"""A series that told nothing for so long gives its place up when another needs one: of a model version that is not served any more,
say. Longer than points wait for a store that takes none (`history_recorder.MAX_UNSAVED`): those name series by their places."""
FREED_AT_ONCE: Final = MAX_SERIES // 4
"""Taking series out goes through every point, so it is done for many together."""
# A clock that was set back further than this begins anew: points of the future would never be passed again.
MAX_STEP_BACK_S: Final = 2


@dataclass(frozen=True, slots=True)
class Level:
    """Points `step_s` apart, `points` of them."""

    step_s: int
    points: int

    @property
    def span_s(self) -> int:
        """How far it reaches back."""
        return self.step_s * self.points


LEVELS: Final = (Level(1, 600), Level(10, 1080), Level(60, 1440), Level(300, 8640))


# Twelve bytes a value, in memory and on disk: a month of sixty series is nine megabytes.
PACKED: Final = np.dtype([("series", "<u4"), ("mean", "<f4"), ("peak", "<f4")])
Values = npt.NDArray[Any]
"""Rows of `PACKED`: a series by its number, the mean and the peak of the seconds in the point."""


@dataclass(frozen=True, slots=True)
class Point:
    """Every series at one time."""

    at: int
    """Unix seconds at which its time begins; a multiple of the level's step."""
    values: Values


Column = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Window:
    """Series over time: a row of means and one of peaks for each, NaN where there is a gap."""

    step_s: int
    times: npt.NDArray[np.int64]
    columns: Mapping[str, tuple[Column, Column]]

    def thinned(self, max_points: int) -> Window:
        """With neighbours joined until there are at most `max_points`: what a screen has no pixels for."""
        by = -(-len(self.times) // max_points)
        if by <= 1:
            return self
        starts = np.arange(0, len(self.times), by)
        columns = {name: (_mean(mean, starts), _peak(peak, starts)) for name, (mean, peak) in self.columns.items()}
        return Window(self.step_s * by, self.times[starts], columns)


@dataclass(frozen=True, slots=True)
class Excerpt:
    """Points between two times, as they were: taken from a history at once, unfolded by any thread."""

    step_s: int
    points: Sequence[Point]
    names: tuple[str, ...]

    def window(self, wanted: Iterable[str] | None = None) -> Window:
        """The series `wanted`, or all; a name that is not known is left out."""
        numbers = {name: number for number, name in enumerate(self.names)}
        chosen = numbers if wanted is None else {name: numbers[name] for name in wanted if name in numbers}
        times = np.array([point.at for point in self.points], dtype=np.int64)
        rows = np.concatenate([np.empty(0, PACKED), *(point.values for point in self.points)])
        place = np.repeat(np.arange(len(times)), [len(point.values) for point in self.points])
        # All at once: a month of five hundred series is four million values, and each would be looked for in all of them.
        line = np.full(MAX_SERIES, -1, np.int64)
        line[list(chosen.values())] = np.arange(len(chosen))
        lines = line[rows["series"]]
        is_wanted = lines >= 0
        means, peaks = (np.full((len(chosen), len(times)), np.nan, dtype=np.float32) for _ in range(2))
        at = lines[is_wanted], place[is_wanted]
        means[at], peaks[at] = rows["mean"][is_wanted], rows["peak"][is_wanted]
        return Window(self.step_s, times, {name: (means[n], peaks[n]) for n, name in enumerate(chosen)})


class _Growing:
    """A point of a coarser level before its time is over."""

    def __init__(self, at: int) -> None:
        self.at = at
        self._totals = np.zeros(MAX_SERIES, np.float64)
        self._counts = np.zeros(MAX_SERIES, np.int64)
        self._peaks = np.full(MAX_SERIES, -np.inf, np.float32)

    def add(self, point: Point) -> None:
        series = point.values["series"]  # each once
        self._totals[series] += point.values["mean"]
        self._counts[series] += 1
        self._peaks[series] = np.maximum(self._peaks[series], point.values["peak"])

    def forget(self, series: Sequence[int]) -> None:
        self._totals[series], self._counts[series], self._peaks[series] = 0.0, 0, -np.inf

    def point(self) -> Point:
        seen = np.flatnonzero(self._counts)
        values = np.empty(len(seen), PACKED)
        values["series"], values["mean"] = seen, self._totals[seen] / self._counts[seen]
        values["peak"] = self._peaks[seen]
        return Point(self.at, values)


def pack(rows: Iterable[tuple[int, float, float]]) -> Values:
    """Series numbers, means and peaks as `Values`."""
    return np.array(list(rows), dtype=PACKED)


class History:
    """All levels of all series. Used from one thread; what `add` returns is what a store has to keep."""

    def __init__(self, levels: tuple[Level, ...] = LEVELS) -> None:
        self.levels = levels
        self._points: list[deque[Point]] = [deque(maxlen=level.points) for level in levels]
        self._growing: list[_Growing | None] = [None] * len(levels)
        self._names: list[str] = []
        self._numbers: dict[str, int] = {}
        self._free: dict[int, None] = {}
        """Places whose series are gone, those gone longest first; a name stays until another takes its place."""
        self._seen = np.zeros(MAX_SERIES, np.int64)
        """By place, the second that last had a number."""
        self._free_again = 0
        self.left_out = 0
        """Numbers that found no place: series over `MAX_SERIES`, or with too long a name; counted each second."""

    @property
    def names(self) -> tuple[str, ...]:
        """Every series; its place is its number."""
        return tuple(self._names)

    def number(self, name: str) -> int | None:
        """The number of a series, a new one or one of a series that is gone where it is new; None where there are too many."""
        known = self._numbers.get(name)
        if known is not None:
            self._free.pop(known, None)
            return known
        if len(name) > MAX_NAME_CHARACTERS:
            return None
        if len(self._names) < MAX_SERIES:
            self._names.append(name)
            known = len(self._names) - 1
        elif self._free:
            known = next(iter(self._free))
            del self._free[known], self._numbers[self._names[known]]
            self._names[known] = name
        else:
            return None
        self._numbers[name] = known
        return known

    def free(self, at: int) -> None:
        """Takes the series out that told nothing for `GONE_S`, at most `FREED_AT_ONCE` of them, so that others have places."""
        since = self._seen[: len(self._names)]
        gone = [place for place in np.argsort(since, kind="stable").tolist() if since[place] <= at - GONE_S]
        gone = [place for place in gone if place not in self._free][:FREED_AT_ONCE]
        if not gone:
            return
        for level, points in enumerate(self._points):
            for place, point in enumerate(points):
                is_gone = np.isin(point.values["series"], gone)
                if is_gone.any():
                    points[place] = Point(point.at, point.values[~is_gone])
            growing = self._growing[level]
            if growing is not None:
                growing.forget(gone)
        self._free.update(dict.fromkeys(gone))

    def add(self, values: Mapping[str, float], at: int) -> list[tuple[int, Point]]:
        """Takes the numbers of the second `at`; every point that is complete now, with its level, finest first.

        A second that was told already is replaced nowhere and told no more; after a clock was set back, points of the time that
        is still to come are forgotten.
        """
        finest = self._points[0]
        if finest and at <= finest[-1].at:
            if finest[-1].at - at <= MAX_STEP_BACK_S:
                return []
            self._forget_from(at)
        self._make_room(values, at)
        rows: list[tuple[int, float, float]] = []
        for name, value in values.items():
            number = self.number(name)
            if number is None:
                self.left_out += 1
            elif math.isfinite(value):
                rows.append((number, value, value))
        point = Point(at, pack(rows))
        self._seen[point.values["series"]] = at
        finest.append(point)
        return [(0, point), *self._grow(point)]

    def restore(self, level: int, points: Iterable[Point]) -> None:
        """Takes points from a store, oldest first; what is not newer than those it has is left out."""
        kept = self._points[level]
        for point in points:
            if not kept or point.at > kept[-1].at:
                kept.append(point)
                numbers = point.values["series"]
                self._seen[numbers] = np.maximum(self._seen[numbers], point.at)

    def resume(self) -> None:
        """After `restore`: goes on with the coarser points whose time was not over, from the seconds that are in them."""
        if not self._points[0]:
            return
        newest = self._points[0][-1].at
        for at, level in enumerate(self.levels[1:], 1):
            begins = newest - newest % level.step_s
            if not self._points[at] or self._points[at][-1].at < begins:
                growing = self._growing[at] = _Growing(begins)
                for point in self._points[0]:
                    if point.at >= begins:
                        growing.add(point)

    def read(self, since: int, until: int) -> Excerpt:
        """All series between two times, of the finest level that is long enough."""
        chosen = next(
            (at for at, level in enumerate(self.levels) if until - since <= level.span_s), len(self.levels) - 1
        )
        points = [point for point in self._points[chosen] if since <= point.at <= until]
        growing = self._growing[chosen]
        if growing is not None and since <= growing.at <= until:
            points.append(growing.point())
        return Excerpt(self.levels[chosen].step_s, points, self.names)

    def _make_room(self, values: Mapping[str, float], at: int) -> None:
        """Frees places where new series have none, once a minute at most while nothing is gone."""
        places = MAX_SERIES - len(self._names) + len(self._free)
        if len(self._names) + len(values) <= MAX_SERIES or at < self._free_again:
            return
        if sum(name not in self._numbers for name in values) > places:
            self._free_again = at + 60
            self.free(at)

    def _grow(self, point: Point) -> list[tuple[int, Point]]:
        complete = []
        for at, level in enumerate(self.levels[1:], 1):
            begins = point.at - point.at % level.step_s
            growing = self._growing[at]
            if growing is not None and growing.at != begins:
                done = growing.point()
                self._points[at].append(done)
                complete.append((at, done))
                growing = None
            if growing is None:
                growing = self._growing[at] = _Growing(begins)
            growing.add(point)
        return complete

    def _forget_from(self, at: int) -> None:
        self._seen = np.minimum(self._seen, at)
        self._free_again = 0
        for level, points in enumerate(self._points):
            while points and points[-1].at >= at:
                points.pop()
            self._growing[level] = None


def _mean(values: Column, starts: npt.NDArray[np.int64]) -> Column:
    is_there = np.isfinite(values)
    count = np.add.reduceat(is_there, starts, dtype=np.float32)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.add.reduceat(np.where(is_there, values, 0), starts) / count, dtype=np.float32)


def _peak(values: Column, starts: npt.NDArray[np.int64]) -> Column:
    return np.asarray(np.fmax.reduceat(values, starts), dtype=np.float32)
