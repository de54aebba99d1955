"""Results as tables for people, as wide as the terminal."""

from __future__ import annotations

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
