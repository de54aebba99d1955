"""Results as tables for people, as wide as the terminal."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from rich.cells import cell_len
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from benchmarks.columns import COST, LATENCY, RATES, TIME_WENT, Column, known, number, rate, who, who_again
from benchmarks.row import UNKNOWN, Row
from benchmarks.settings import TargetName
from benchmarks.significance import show_p
from benchmarks.statistics import percentile_name

if TYPE_CHECKING:
    from benchmarks.comparison import Comparison

# Names fold; narrower than this they are hard to read.
LEAST_NAMES = 24
_GAP = 2
_FIGURES = re.compile(r"\d+(?:\.\d+)?")
# So many names are still read.
_MANY = 3
# Percentiles that a person expects of any run; those further out are asked for by measuring longer.
_ASKED = (0.5, 0.9, 0.99)


def tables_of(rows: Sequence[Row], width: int) -> list[Table]:
    """Every figure of every row, in one table where `width` allows it and in several below each other where not.

    Names fold at the left; figures are whole. Latencies are in milliseconds; see `columns.meaning`.
    """
    figures = _packed(_pieces(rows, [known(part, rows) for part in (LATENCY, RATES, COST)], width), rows, width)
    tables = [_table(rows, who_again(rows) if number else who(rows), group) for number, group in enumerate(figures)]
    told = [row for row in rows if row.breakdown is not None]
    where = [_table(told, who_again(rows), group) for group in _pieces(told, [TIME_WENT], width)] if told else []
    if where:
        where[0].title = "where the time went (mean of a request)"
    return tables + where


def _pieces(rows: Sequence[Row], parts: Sequence[Sequence[Column]], width: int) -> list[list[Column]]:
    """The parts; one that alone is too wide is cut."""
    return [piece for part in parts for piece in _packed([[column] for column in part], rows, width)]


def _packed(pieces: Sequence[Sequence[Column]], rows: Sequence[Row], width: int) -> list[list[Column]]:
    """Pieces joined, in their order, while they fit beside the names."""
    groups: list[list[Column]] = []
    for piece in pieces:
        joined = [*(groups[-1] if groups else []), *piece]
        if groups and sum(_width(column, rows) for column in joined) <= width - LEAST_NAMES:
            groups[-1] = joined
        else:
            groups.append(list(piece))
    return groups


def _width(column: Column, rows: Sequence[Row]) -> int:
    """What its texts need; words may fold."""
    texts = [column.name, *map(column.cell, rows)]
    pieces = [piece for text in texts for piece in (text.split() if column.is_words else [text])]
    return max(map(cell_len, pieces)) + _GAP


def _table(rows: Sequence[Row], names: Column, columns: Sequence[Column]) -> Table:
    table = Table(title_justify="left", box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
    table.add_column(names.name, overflow="fold")
    for column in columns:
        least = _width(column, rows) - _GAP
        table.add_column(
            column.name, justify="left" if column.is_words else "right", no_wrap=not column.is_words, min_width=least
        )
    for row in rows:
        style = None if row.invalid_reason is None else "red"
        texts = (column.cell(row) for column in (names, *columns))
        table.add_row(*(Text(text) for text in texts), style=style)
    return table


def found_table(searches: Sequence[Mapping[str, Any]], slo: str) -> Table:
    """The highest rate of each search that kept the promise, and the figures there; from `Search.to_dict`."""
    table = Table(
        title=f"highest rate with {slo}", title_justify="left", box=None, pad_edge=False, padding=(0, _GAP, 0, 0)
    )
    places = [
        f"{TargetName.parse(search['target']).label}, {search['backend_used'] or search['backend']}"
        for search in searches
    ]
    # No narrower than the longest name of an engine, as litert-cpu: a target that is an address may fold.
    widest = max((cell_len(word) for place in places for word in place.split()[1:]), default=0)
    table.add_column("target, backend", overflow="fold", min_width=min(widest, LEAST_NAMES))
    for name in ("max/s", "n", "p50 ms", "p99 ms", "achieved/s", "goodput/s"):
        table.add_column(name, justify="right", no_wrap=True)
    for place, search in zip(places, searches, strict=True):
        best = search["at_max"] or {}
        figures = [number(best.get(key), ".3f") for key in ("p50_ms", "p99_ms")]
        least = ">= " if search["is_lower_bound"] else ""
        table.add_row(
            place,
            UNKNOWN if search["max_qps"] is None else f"{least}{search['max_qps']:g}",
            f"{best['n']:,}" if best else UNKNOWN,
            *figures,
            rate(best.get("achieved_qps")),
            rate(best.get("goodput_qps")),
        )
    return table


def notes_of(rows: Sequence[Row]) -> list[str]:
    """The sentences below the table: what is invalid, what to doubt, what errors said, which percentiles want more samples."""
    notes = []
    doubted: dict[str, list[tuple[str, str]]] = {}
    said: dict[str, list[str]] = {}
    for row, where in zip(rows, _where(rows), strict=True):
        if row.invalid_reason is not None:
            notes.append(f"INVALID: {where}: {row.invalid_reason}")
        if row.was_stopped:
            notes.append(f"stopped: {where}: the figures are of what was measured until then")
        for doubt in row.doubts:
            doubted.setdefault(_FIGURES.sub("", doubt), []).append((where, doubt))
        for code, text in row.error_texts.items():
            said.setdefault(f"{code}: {text}", []).append(where)
    for found in doubted.values():
        _, worst = max(found, key=lambda one: [float(figure) for figure in _FIGURES.findall(one[1])])
        is_one = len({doubt for _, doubt in found}) == 1
        places = _places([where for where, _ in found], len(rows))
        notes.append(f"{places}: {'' if is_one else 'at worst, '}{worst}")
    notes += [f"{_places(places, len(rows))}: the first {text}" for text, places in said.items()]
    notes += sorted({f"energy not known: {row.no_energy_reason}" for row in rows if row.no_energy_reason})
    if any(row.breakdown is not None and row.breakdown.wire is None for row in rows):
        notes.append(
            "a server that does not know the parameter edgeward_timing says nothing of queue, batch and execution"
        )
    answered = [row for row in rows if row.summary.mean_ms is not None]
    missing = {
        str(p): p.share for row in answered for p in row.summary.percentiles if p.ms is None and p.share in _ASKED
    }
    if missing:
        notes.append(
            f"{'; '.join(sorted(missing, key=missing.__getitem__))}; measure longer (--duration) or more (--requests)"
        )
    return notes


def _where(rows: Sequence[Row]) -> list[str]:
    """Which measurement each row is: target and scenario, with the model where there are several, and the backend where needed."""
    has_models = len({row.model for row in rows}) > 1
    plain = [f"{row.model + ' on ' if has_models else ''}{row.target} {row.scenario}" for row in rows]
    has_backends = len(set(plain)) < len(plain)
    return [f"{name}, {row.backend}" if has_backends else name for name, row in zip(plain, rows, strict=True)]


def _places(places: Sequence[str], count: int) -> str:
    """Which measurements of `count`, by name where there are few."""
    names = list(dict.fromkeys(places))
    return "; ".join(names) if len(names) <= _MANY else f"{len(places)} of {count} measurements"


def comparison_table(comparisons: Sequence[Comparison], unit: Literal["ms", "µs"] = "ms") -> Table:
    """One row a quantile of B against A; with how many requests failed on either where any did."""
    scale, digits = (1, 3) if unit == "ms" else (1000, 2)
    table = Table(box=None, pad_edge=False)
    table.add_column("what", overflow="fold")
    have_failed = any(any(side.values()) for c in comparisons for side in c.errors)
    for name in ("quantile", f"A {unit}", f"B {unit}", "B / A [95 %]", "p", *["failed A / B"] * have_failed, "verdict"):
        table.add_column(name, no_wrap=True)
    for c in comparisons:
        times = (f"{ms * scale:.{digits}f}" for ms in (c.a_ms, c.b_ms))
        p_value = UNKNOWN if c.p_value is None else show_p(c.p_value).removeprefix("= ")
        ratio = str(c.ratio).replace("[", r"\[")
        failed = [" / ".join(f"{sum(side.values()):,}" for side in c.errors)] * have_failed
        verdict = c.judgement.verdict.value
        table.add_row(escape(c.what), percentile_name(c.share), *times, ratio, p_value, *failed, verdict)
    return table
