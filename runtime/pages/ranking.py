"""Which statistics are worth looking at: those that moved before the system acted. Pure.

Of every action, the five minutes before it are compared with the hour before those: a series has *preceded* the action when its
mean moved by more than three standard deviations of that hour (and by more than 1 % of its level, so that a constant does not
count for its rounding).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from runtime.telemetry.history import Column, Window

_Places = npt.NDArray[np.intp]

BEFORE_S: Final = 300
BASELINE_S: Final = 3600
MIN_POINTS: Final = 10
DEVIATIONS: Final = 3.0
MIN_SHARE: Final = 0.01


@dataclass(frozen=True, slots=True)
class Rank:
    """How often a series preceded an action, of the actions that its history covers."""

    series: str
    preceded: int
    actions: int


def rank(window: Window, actions: Sequence[float]) -> list[Rank]:
    """Every series of `window`, the most telling first; `actions` are the Unix seconds at which the system acted."""
    times = np.array(actions, dtype=np.float64)
    at = [np.searchsorted(window.times, times - before_s) for before_s in (BEFORE_S + BASELINE_S, BEFORE_S, 0)]
    ranks = [_rank(name, means, *at) for name, (means, _) in window.columns.items()]
    return sorted(ranks, key=lambda one: (-one.preceded, one.series))


def action_times(decisions: Sequence[Mapping[str, object]]) -> list[float]:
    """When the system acted, in a decision log whose lines have "at" (Unix seconds) or "unix_ms", and "acted".

    A line that does not say whether it acted did.
    """
    lines = [line for line in decisions if line.get("acted", True)]
    times = [line["at"] if "at" in line else _seconds(line.get("unix_ms")) for line in lines]
    return [float(at) for at in times if isinstance(at, int | float) and not isinstance(at, bool)]


def _seconds(unix_ms: object) -> float | None:
    return unix_ms / 1000 if isinstance(unix_ms, int | float) else None


def _rank(name: str, means: Column, begin: _Places, middle: _Places, end: _Places) -> Rank:
    values = np.nan_to_num(means.astype(np.float64))
    count, total, squares = (_running(of) for of in (np.isfinite(means), values, values**2))
    points, just_before = count[middle] - count[begin], count[end] - count[middle]
    covered = (points >= MIN_POINTS) & (just_before > 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        level = (total[middle] - total[begin]) / points
        variance = np.maximum((squares[middle] - squares[begin]) / points - level**2, 0) * points / (points - 1)
        moved = np.abs((total[end] - total[middle]) / just_before - level)
        has_moved = moved > np.maximum(DEVIATIONS * np.sqrt(variance), MIN_SHARE * np.abs(level))
    return Rank(name, int(np.sum(has_moved & covered)), int(np.sum(covered)))


def _running(values: npt.NDArray[np.generic]) -> npt.NDArray[np.float64]:
    """Sums of the first 0, 1, 2, ... values."""
    return np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
