"""Drawing: a line chart on a logarithmic axis, and bars, as inline SVG that reads on paper, without colour, and on a phone.

Every chart is drawn twice, for a wide and for a narrow page, so that its letters are never scaled; the page's style shows one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape


@dataclass(frozen=True, slots=True)
class Frame:
    """The size of a drawing in pixels, and its margins."""

    width: int
    height: int
    left: int = 62
    right: int = 18
    top: int = 14
    bottom: int = 48


WIDE = Frame(760, 380)
NARROW = Frame(350, 320)

Point = tuple[float, float]
Tick = tuple[float, str]

# Okabe and Ito's colours that people with any colour vision tell apart, darkest first, the second for a dark page; each with a
# dash and a mark of its own.
_LINES = (
    ("#000000", "#ffffff", "", "circle"),
    ("#0072b2", "#4da6e0", "8 4", "square"),
    ("#d55e00", "#f0762a", "2 3", "triangle"),
    ("#009e73", "#2fc79b", "10 3 2 3", "diamond"),
    ("#cc79a7", "#dd95bd", "5 2", "circle"),
    ("#56b4e9", "#8fd0f5", "1 2", "square"),
    ("#e69f00", "#ffc24d", "12 6", "triangle"),
)
# From light to dark, so that neighbours differ on a grey page as well.
FILLS = ("#ffffff", "#c6dbef", "#f0a050", "#7a7a7a", "#08306b")


def _colours(place: int) -> str:
    return "".join(f".c{n} {{ --c: {line[place]}; }} " for n, line in enumerate(_LINES))


STYLE = (
    "svg[role=img] { display: block; max-width: 100%; height: auto; } svg text { fill: var(--ink); } "
    ".grid { stroke: var(--grid); } .edge { stroke: var(--ink); } "
    ".axis { stroke: var(--ink); fill: none; } .line { stroke: var(--c); fill: none; } "
    f".mark {{ fill: var(--c); }} {_colours(0)}"
    f"@media screen and (prefers-color-scheme: dark) {{ {_colours(1)}}} "
    ".narrow { display: none; } @media (max-width: 50rem) { .wide { display: none; } .narrow { display: block; } } "
    "@media print { .wide { display: block; } .narrow { display: none; } }"
)
"""Of the page that a drawing is in; the page says what `--ink` and `--grid` are."""
# Letters of 12 pixels are about so wide.
_LETTER = 6.3


@dataclass(frozen=True, slots=True)
class Chart:
    """A line chart: values in milliseconds, logarithmic, against what `x_label` says."""

    lines: Sequence[Sequence[Point]]
    names: Sequence[str]
    x_ticks: Sequence[Tick]
    x_label: str
    y_label: str = "latency, ms (log scale)"
    rules: Sequence[Tick] = ()
    """Horizontal lines with a name: a promised latency."""
    flags: Sequence[tuple[float, float, str]] = ()
    """Points with a name: x, y, text."""
    has_marks: bool = True


def in_both(draw: Callable[[Frame], str]) -> str:
    """The drawing for wide pages and for narrow ones."""
    return f'<div class="wide">{draw(WIDE)}</div><div class="narrow">{draw(NARROW)}</div>'


def line_chart(chart: Chart) -> str:
    """The chart and its legend; a sentence where there is nothing to draw."""
    if not any(y > 0 for line in chart.lines for _, y in line):
        return "<p>No request was answered.</p>"
    return in_both(lambda frame: _lines(chart, frame)) + _legend(chart.names, has_marks=chart.has_marks)


def bars(values: Sequence[tuple[str, float]], unit: str) -> str:
    """One horizontal bar a row, its value written behind it; linear from 0."""
    most = max((value for _, value in values), default=0.0) or 1.0

    def draw(frame: Frame) -> str:
        parts, y = [], 6
        for name, value in values:
            text = f"{value:,.0f} {unit}" if value >= 10 else f"{value:.3g} {unit}"
            room = frame.width - 14 - _LETTER * len(text)
            for line in _wrapped(name, frame.width):
                parts.append(_text(2, y + 12, line))
                y += 15
            length = max(room * value / most, 1.0)
            parts.append(f'<rect x="2" y="{y + 3}" width="{length:.1f}" height="14" fill="#0072b2" class="edge"/>')
            parts.append(_text(length + 8, y + 15, text))
            y += 30
        return _svg(frame.width, y, parts, f"bars, {unit}, from 0")

    return in_both(draw)


def stacks(rows: Sequence[tuple[str, Sequence[float]]], parts_names: Sequence[str], unit: str) -> str:
    """One bar a row, as long as all others, made of the parts' shares; what the whole is stands behind it."""

    def draw(frame: Frame) -> str:
        drawn, y = [], 6
        for name, values in rows:
            total = f"{sum(values):.3g} {unit}"
            room = frame.width - 14 - _LETTER * len(total)
            for line in _wrapped(name, frame.width):
                drawn.append(_text(2, y + 12, line))
                y += 15
            x, whole = 2.0, sum(values) or 1.0
            for fill, value in zip(FILLS, values, strict=False):
                length = room * value / whole
                drawn.append(
                    f'<rect x="{x:.1f}" y="{y + 3}" width="{length:.2f}" height="14" fill="{fill}" class="edge" '
                    'stroke-width="0.7"/>'
                )
                x += length
            drawn.append(_text(x + 8, y + 15, total))
            y += 30
        return _svg(frame.width, y, drawn, f"shares of {', '.join(parts_names)} in the {unit} of each row")

    items = "".join(
        f'<li><svg width="22" height="14" aria-hidden="true"><rect x="1" y="1" width="20" height="12" fill="{fill}" '
        f'class="edge"/></svg> {escape(name)}</li>'
        for fill, name in zip(FILLS, parts_names, strict=False)
    )
    return in_both(draw) + f'<ul class="legend">{items}</ul>'


def _lines(chart: Chart, frame: Frame) -> str:
    seen = [y for line in chart.lines for _, y in line if y > 0] + [y for y, _ in chart.rules]
    ticks = _log_ticks(min(seen), max(seen))
    low, high = math.log10(ticks[0]), math.log10(ticks[-1])
    x_low, x_high = chart.x_ticks[0][0], max(chart.x_ticks[-1][0], chart.x_ticks[0][0] + 1e-9)
    floor, end = frame.height - frame.bottom, frame.width - frame.right

    def right(x: float) -> float:
        return frame.left + (end - frame.left) * (x - x_low) / (x_high - x_low)

    def down(y: float) -> float:
        return frame.top + (floor - frame.top) * (high - math.log10(max(y, 10.0**low))) / (high - low)

    parts = []
    for tick in ticks:
        parts.append(f'<line x1="{frame.left}" x2="{end}" y1="{down(tick):.1f}" y2="{down(tick):.1f}" class="grid"/>')
        parts.append(_text(frame.left - 6, down(tick) + 4, f"{tick:g}", "end"))
    free_from = -math.inf
    for x, text in chart.x_ticks:
        half = _LETTER * len(text) / 2
        parts.append(f'<line x1="{right(x):.1f}" x2="{right(x):.1f}" y1="{floor}" y2="{floor + 4}" class="axis"/>')
        if right(x) - half >= free_from:
            at = min(right(x), frame.width - half)
            parts.append(_text(at, floor + 17, text, "middle"))
            free_from = right(x) + half + 4
    parts.append(f'<path d="M{frame.left} {frame.top}V{floor}H{end}" class="axis"/>')
    parts.append(_text((frame.left + end) / 2, frame.height - 8, chart.x_label, "middle"))
    middle = (frame.top + floor) / 2
    parts.append(
        f'<text x="13" y="{middle:.0f}" text-anchor="middle" transform="rotate(-90 13 {middle:.0f})">'
        f"{escape(chart.y_label)}</text>"
    )
    for y, text in chart.rules:
        parts.append(
            f'<line x1="{frame.left}" x2="{end}" y1="{down(y):.1f}" y2="{down(y):.1f}" class="axis" '
            'stroke-dasharray="1 4"/>'
        )
        parts.append(_text(frame.left + 5, down(y) - 4, text))
    for number, line in enumerate(chart.lines):
        *_, dash, mark = _LINES[number % len(_LINES)]
        colour = _colour(number)
        places = [(right(x), down(y)) for x, y in line]
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline points="{points}" class="line {colour}" stroke-width="2" stroke-dasharray="{dash}"/>')
        if chart.has_marks:
            parts += [_mark(mark, x, y, colour) for x, y in places]
    for x, y, text in chart.flags:
        parts.append(f'<circle cx="{right(x):.1f}" cy="{down(y):.1f}" r="9" class="axis" stroke-width="1.5"/>')
        is_late = right(x) > (frame.left + end) / 2
        parts.append(_text(right(x) + (-13 if is_late else 13), down(y) - 8, text, "end" if is_late else "start"))
    return _svg(frame.width, frame.height, parts, f"{chart.y_label} against {chart.x_label}")


def _log_ticks(least: float, most: float) -> list[float]:
    """Round values that enclose both: powers of ten, with 2 and 5 between them where there is room."""
    low, high = math.floor(math.log10(least)), math.ceil(math.log10(most))
    if high - low > 3:
        return [10.0**e for e in range(low, high + 1)]
    every = [m * 10.0**e for e in range(low, high + 1) for m in (1, 2, 5)]
    first = max((i for i, tick in enumerate(every) if tick <= least * (1 + 1e-9)), default=0)
    last = min((i for i, tick in enumerate(every) if tick >= most * (1 - 1e-9)), default=len(every) - 1)
    return every[first : max(last, first + 1) + 1]


def _colour(number: int) -> str:
    """The class that has the colour of a line and its marks."""
    return f"c{number % len(_LINES)}"


def _mark(kind: str, x: float, y: float, colour: str) -> str:
    if kind == "circle":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" class="mark {colour}"/>'
    if kind == "square":
        return f'<rect x="{x - 3.5:.1f}" y="{y - 3.5:.1f}" width="7" height="7" class="mark {colour}"/>'
    corners = {"triangle": ((0, -4.5), (4.5, 3.5), (-4.5, 3.5)), "diamond": ((0, -5), (5, 0), (0, 5), (-5, 0))}[kind]
    return f'<polygon points="{" ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in corners)}" class="mark {colour}"/>'


def _legend(names: Sequence[str], *, has_marks: bool) -> str:
    items = []
    for number, name in enumerate(names):
        *_, dash, mark = _LINES[number % len(_LINES)]
        colour = _colour(number)
        items.append(
            f'<li><svg width="42" height="12" aria-hidden="true"><line x1="0" x2="42" y1="6" y2="6" class="line {colour}" '
            f'stroke-width="2" stroke-dasharray="{dash}"/>{_mark(mark, 21, 6, colour) if has_marks else ""}</svg> '
            f"{escape(name)}</li>"
        )
    return f'<ul class="legend">{"".join(items)}</ul>'


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _wrapped(text: str, width: int) -> list[str]:
    """The words of `text` in lines that fit."""
    lines = [""]
    for word in text.split():
        if lines[-1] and (len(lines[-1]) + 1 + len(word)) * _LETTER > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


def _svg(width: float, height: float, parts: Sequence[str], title: str) -> str:
    return (
        f'<svg width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}" '
        f'font-size="12" font-family="sans-serif">{"".join(parts)}</svg>'
    )
