"""What the report draws: latency by percentile, over time and against the rate, as charts made of values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.statistics import Values, needed_samples, order_index, percentile_name
from benchmarks.svg import Chart, line_chart

_SHARES = (0.0, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 0.9999)
_TIMELINE_BINS = 60
KNEE_FACTOR = 2.0
"""The knee is where the tail latency has grown by so much."""


@dataclass(frozen=True, slots=True)
class Series:
    """One measurement as charts see it."""

    name: str
    latency_ms: Values
    """Of answered requests, in the order of time."""
    planned_s: Values


@dataclass(frozen=True, slots=True)
class Curve:
    """Latency against the rate, of one target: (requests a second offered, milliseconds), by rising rate."""

    name: str
    points: Sequence[tuple[float, float]]


def spectrum(series: Sequence[Series]) -> str:
    """Latency against percentile, both logarithmic; a line ends at the last percentile that its samples can tell."""
    lines, known = [], 0.5
    for each in series:
        ascending = np.sort(each.latency_ms)
        shares = [s for s in _SHARES if len(ascending) and (s == 0.0 or len(ascending) >= needed_samples(s))]
        lines.append([(_tail(s), float(ascending[order_index(len(ascending), s)])) for s in shares])
        known = max([known, *shares])
    ticks = [(_tail(s), percentile_name(s) if s else "min") for s in _SHARES if s <= known]
    return line_chart(Chart(lines, [s.name for s in series], ticks, "percentile of requests"))


def timeline(series: Sequence[Series]) -> str:
    """The slowest request of each stretch of time, against the time it was due."""
    lines = []
    longest_s = max((float(each.planned_s.max()) for each in series if len(each.planned_s)), default=0.0) or 1.0
    width_s = longest_s / _TIMELINE_BINS
    for each in series:
        place = np.minimum((each.planned_s / width_s).astype(int), _TIMELINE_BINS - 1)
        lines.append([((b + 0.5) * width_s, float(each.latency_ms[place == b].max())) for b in np.unique(place)])
    ticks = _even_ticks(longest_s)
    names = [s.name for s in series]
    return line_chart(
        Chart(
            lines, names, ticks, "seconds since the start", "slowest of each stretch, ms (log scale)", has_marks=False
        )
    )


def rates(curves: Sequence[Curve], what: str, slo_ms: float | None = None) -> str:
    """Latency against the offered rate; the knee of each curve has a ring."""
    most = max((x for curve in curves for x, _ in curve.points), default=0.0) or 1.0
    flags = [(*knee, f"knee {knee[0]:g}/s") for curve in curves if (knee := knee_of(curve.points)) is not None]
    rules = [] if slo_ms is None else [(slo_ms, f"promised: {slo_ms:g} ms")]
    lines, names = [curve.points for curve in curves], [curve.name for curve in curves]
    return line_chart(
        Chart(lines, names, _even_ticks(most), "requests a second offered", f"{what}, ms (log scale)", rules, flags)
    )


def knee_of(points: Sequence[tuple[float, float]]) -> tuple[float, float] | None:
    """The highest rate before latency first exceeds `KNEE_FACTOR` times its least so far; None while it never does.

    "So far": a lower rate is no harder than a higher one, so what was seen at any of them is what the target can do.
    """
    least, before = math.inf, None
    for x, y in points:
        if before is not None and y > KNEE_FACTOR * least:
            return before
        least, before = min(least, y), (x, y)
    return None


def _even_ticks(most: float) -> list[tuple[float, str]]:
    """Five or so round numbers from 0 up to the first that is not below `most`."""
    step = 10.0 ** math.floor(math.log10(most / 5))
    step *= next(m for m in (1, 2, 5, 10) if most / (step * m) <= 6)
    return [(i * step, f"{i * step:g}") for i in range(math.ceil(most / step - 1e-9) + 1)]


def _tail(share: float) -> float:
    """Where a percentile stands on an axis that gives every further nine the same room."""
    return -math.log10(1 - share)
