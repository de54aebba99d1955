"""Which statistics are worth looking at: those that moved before the system acted, more often than they move anyway. Pure.

A series *moves* before a moment when the mean of the five minutes before it is more than three standard deviations away from the
hour before those (and more than 1 % of its level, so that a constant does not count for its rounding). How often it moved before
actions is held against how often it moves before any moment: a series that jumps all day precedes every action, and tells nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from runtime.telemetry.history import Column, Window

BEFORE_S: Final = 300
BASELINE_S: Final = 3600
MIN_POINTS: Final = 10
DEVIATIONS: Final = 3.0
MIN_SHARE: Final = 0.01
SMOOTHED: Final = 0.5
"""Added to what was seen and to what was expected: one move before one action is a chance, eight of ten are none."""


@dataclass(frozen=True, slots=True)
class Rank:
    """How often a series preceded an action, of the actions that its history covers."""

    series: str
    preceded: int
    actions: int
    lift: float
    """How many times as often as before any moment; 1: as often, so it tells nothing."""


def rank(windows: Sequence[Window], actions: Sequence[float]) -> list[Rank]:
    """Every series of `windows`, the most telling first; `actions` are the Unix seconds at which the system acted.

    Of windows of several resolutions, finest first, each action is looked at in the first that reaches back to before it.
    """
    counted: dict[str, tuple[int, int, float]] = {}
    left = np.array(sorted(actions), dtype=np.float64)
    for window in windows:
        is_covered = np.zeros(len(left), bool)
        if len(window.times):
            is_covered = (left >= window.times[0] + BEFORE_S + BASELINE_S) & (
                left <= window.times[-1] + window.step_s + BEFORE_S
            )
        mine, left = left[is_covered], left[~is_covered]
        for name, (means, _) in window.columns.items():
            preceded, covered, expected = counted.get(name, (0, 0, 0.0))
            if len(mine):
                more = _count(window, means, mine)
                preceded, covered, expected = preceded + more[0], covered + more[1], expected + more[2]
            counted[name] = (preceded, covered, expected)
    ranks = [
        Rank(name, preceded, covered, (preceded + SMOOTHED) / (expected + SMOOTHED))
        for name, (preceded, covered, expected) in counted.items()
    ]
    return sorted(ranks, key=lambda one: (-one.lift, -one.preceded, one.series))


def action_times(decisions: Sequence[Mapping[str, object]]) -> list[float]:
    """When the system acted by itself, in a decision log whose lines have "at" (Unix seconds) or "unix_ms", and "is_own".

    What a person did, or what was only noted, is no action of the system's.
    """
    lines = [line for line in decisions if line.get("is_own") is True]
    times = [line["at"] if "at" in line else _seconds(line.get("unix_ms")) for line in lines]
    return [float(at) for at in times if isinstance(at, int | float) and not isinstance(at, bool)]


def _seconds(unix_ms: object) -> float | None:
    return unix_ms / 1000 if isinstance(unix_ms, int | float) else None


def _count(window: Window, means: Column, actions: npt.NDArray[np.float64]) -> tuple[int, int, float]:
    """Actions before which the series moved, those that it covers, and as many as would be expected of any moments."""
    has_moved, is_covered = _moved(window, means, actions)
    at_any, is_any = _moved(window, means, window.times.astype(np.float64))
    base = float(np.sum(at_any)) / max(int(np.sum(is_any)), 1)
    return int(np.sum(has_moved)), int(np.sum(is_covered)), base * int(np.sum(is_covered))


def _moved(
    window: Window, means: Column, moments: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Of each moment, whether the series moved before it, and whether that can be said."""
    begin, middle, end = (
        np.searchsorted(window.times, moments - before_s) for before_s in (BEFORE_S + BASELINE_S, BEFORE_S, 0)
    )
    values = np.nan_to_num(means.astype(np.float64))
    count, total, squares = (_running(of) for of in (np.isfinite(means), values, values**2))
    points, just_before = count[middle] - count[begin], count[end] - count[middle]
    is_covered = (points >= MIN_POINTS) & (just_before > 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        level = (total[middle] - total[begin]) / points
        variance = np.maximum((squares[middle] - squares[begin]) / points - level**2, 0) * points / (points - 1)
        moved = np.abs((total[end] - total[middle]) / just_before - level)
        has_moved = moved > np.maximum(DEVIATIONS * np.sqrt(variance), MIN_SHARE * np.abs(level))
    return has_moved & is_covered, is_covered


def _running(values: npt.NDArray[np.generic]) -> npt.NDArray[np.float64]:
    """Sums of the first 0, 1, 2, ... values."""
    return np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
