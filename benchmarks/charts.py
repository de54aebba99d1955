"""Charts as inline SVG: latency spectrum, timeline and bars. Lines differ by dash and mark, so they read without colour."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from benchmarks.statistics import Values, needed_samples, order_index, percentile_name

WIDTH, HEIGHT = 720, 380
LEFT, RIGHT, TOP, BOTTOM = 70, 30, 15, 50
# Okabe and Ito's colours that people with any colour vision tell apart, darkest first; with each a dash of its own.
_STYLES = (
    ("#000000", ""),
    ("#0072b2", "8 4"),
    ("#d55e00", "2 3"),
    ("#009e73", "10 3 2 3"),
    ("#cc79a7", "5 2"),
    ("#56b4e9", "1 2"),
    ("#e69f00", "12 6"),
)
_SHARES = (0.0, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 0.9999)
_TIMELINE_BINS = 60


@dataclass(frozen=True, slots=True)
class Series:
    """One measurement as charts see it."""

    name: str
    latency_ms: Values
    """Of answered requests, in the order of time."""
    planned_s: Values


def spectrum(series: Sequence[Series]) -> str:
    """Latency against percentile, both logarithmic; a line ends at the last percentile that its samples can tell."""
    lines = []
    for each in series:
        ascending = np.sort(each.latency_ms)
        shares = [s for s in _SHARES if s == 0.0 or len(ascending) >= needed_samples(s)]
        points = [(_tail(s), float(ascending[order_index(len(ascending), s)])) for s in shares if len(ascending)]
        lines.append(points)
    x_ticks = [(_tail(s), percentile_name(s) if s else "min") for s in _SHARES]
    return _line_chart(lines, [s.name for s in series], x_ticks, "percentile of requests")


def timeline(series: Sequence[Series]) -> str:
    """The slowest request of each stretch of time, against the time it was due."""
    lines = []
    longest_s = max((float(each.planned_s.max()) for each in series if len(each.planned_s)), default=0.0) or 1.0
    width_s = longest_s / _TIMELINE_BINS
    for each in series:
        place = np.minimum((each.planned_s / width_s).astype(int), _TIMELINE_BINS - 1)
        lines.append([((b + 0.5) * width_s, float(each.latency_ms[place == b].max())) for b in np.unique(place)])
    step = longest_s / 5
    ticks = [(i * step, f"{i * step:.3g}") for i in range(6)]
    return _line_chart(
        lines, [s.name for s in series], ticks, "seconds since the start (slowest request of each stretch)"
    )


def bars(values: Sequence[tuple[str, float]], unit: str) -> str:
    """One horizontal bar a row, its value written beside it; linear from 0."""
    row, top = 44, 8
    height = top + row * len(values) + 8
    most = max((value for _, value in values), default=0.0) or 1.0
    parts = []
    for number, (name, value) in enumerate(values):
        y = top + number * row
        length = (WIDTH - 160) * value / most
        parts.append(
            f'<text x="4" y="{y + 13}">{escape(name)}</text>'
            f'<rect x="4" y="{y + 18}" width="{length:.1f}" height="15" fill="#0072b2"/>'
            f'<text x="{length + 10:.1f}" y="{y + 30}">{value:,.0f} {escape(unit)}</text>'
        )
    return _svg(height, "".join(parts), f"bars: {unit}")


def _line_chart(
    lines: Sequence[Sequence[tuple[float, float]]],
    names: Sequence[str],
    x_ticks: Sequence[tuple[float, str]],
    x_label: str,
) -> str:
    seen = [y for line in lines for _, y in line if y > 0]
    if not seen:
        return "<p>No request was answered.</p>"
    low, high = math.floor(math.log10(min(seen))), math.ceil(math.log10(max(seen)))
    high = max(high, low + 1)
    x_low, x_high = x_ticks[0][0], max(x_ticks[-1][0], x_ticks[0][0] + 1e-9)

    def place(x: float, y: float) -> tuple[float, float]:
        right = LEFT + (WIDTH - LEFT - RIGHT) * (x - x_low) / (x_high - x_low)
        down = TOP + (HEIGHT - TOP - BOTTOM) * (high - math.log10(max(y, 10.0**low))) / (high - low)
        return right, down

    parts = []
    for exponent in range(low, high + 1):
        _, y = place(x_low, 10.0**exponent)
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{10.0**exponent:g} ms</text>')
    for x_value, text in x_ticks:
        x, _ = place(x_value, 1)
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{escape(text)}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 8}" text-anchor="middle">{escape(x_label)}</text>')
    for number, line in enumerate(lines):
        colour, dash = _STYLES[number % len(_STYLES)]
        points = " ".join("{:.1f},{:.1f}".format(*place(x, y)) for x, y in line)
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2" stroke-dasharray="{dash}"/>'
        )
    return _svg(HEIGHT, "".join(parts), f"latency in milliseconds (logarithmic) against {x_label}") + _legend(names)


def _legend(names: Sequence[str]) -> str:
    items = []
    for number, name in enumerate(names):
        colour, dash = _STYLES[number % len(_STYLES)]
        items.append(
            f'<li><svg width="42" height="10" aria-hidden="true"><line x1="0" x2="42" y1="5" y2="5" stroke="{colour}" '
            f'stroke-width="2" stroke-dasharray="{dash}"/></svg> {escape(name)}</li>'
        )
    return f'<ul class="legend">{"".join(items)}</ul>'


def _svg(height: float, content: str, title: str) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}" font-size="12" '
        f'font-family="sans-serif">{content}</svg>'
    )


def _tail(share: float) -> float:
    """Where a percentile stands on an axis that gives every further nine the same room."""
    return -math.log10(1 - share)
