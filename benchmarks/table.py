"""Results as tables for people, as wide as the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from rich.cells import cell_len
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from benchmarks.columns import COST, SPEED, TIME_WENT, Column, known, number, rate, who
from benchmarks.row import UNKNOWN, Row
from benchmarks.settings import TargetName
from benchmarks.statistics import percentile_name

if TYPE_CHECKING:
    from benchmarks.compare import Comparison

# Names fold; narrower than this they are hard to read.
LEAST_NAMES = 24
_GAP = 2


def tables_of(rows: Sequence[Row], width: int) -> list[Table]:
    """Every figure of every row, in one table where `width` allows it and in several below each other where not.

    Names fold at the left; figures are whole. Latencies are in milliseconds from the planned send time.
    """
    speed = _stacked(rows, known([*SPEED, *COST], rows), width)
    told = [row for row in rows if row.breakdown is not None]
    where = _stacked(told, TIME_WENT, width) if told else []
    if where:
        where[0].title = "where the time went (mean of a request)"
    return speed + where


def _stacked(rows: Sequence[Row], columns: Sequence[Column], width: int) -> list[Table]:
    """As many columns to a table as fit beside the names."""
    groups: list[list[Column]] = [[]]
    used = 0
    for column in columns:
        wanted = max(cell_len(text) for text in (column.name, *map(column.cell, rows))) + _GAP
        if groups[-1] and used + wanted > width - LEAST_NAMES:
            groups.append([])
            used = 0
        groups[-1].append(column)
        used += wanted
    return [_table(rows, group) for group in groups]


def _table(rows: Sequence[Row], columns: Sequence[Column]) -> Table:
    table = Table(title_justify="left", box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
    names = who(rows)
    table.add_column(names.name, overflow="fold")
    for column in columns:
        table.add_column(column.name, justify="right", no_wrap=True)
    for row in rows:
        style = None if row.invalid_reason is None else "red"
        texts = (column.cell(row) for column in (names, *columns))
        table.add_row(*(Text(text) for text in texts), style=style)
    return table


def found_table(searches: Sequence[Mapping[str, Any]], slo: str) -> Table:
    """The highest rate of each search that kept the promise, and the figures there; from `Search.to_dict`."""
    table = Table(title=f"highest rate with {slo}", title_justify="left")
    for name in ("target", "backend"):
        table.add_column(name, overflow="fold")
    for name in ("max/s", "n", "p50 ms", "p99 ms", "achieved/s", "goodput/s", "probes"):
        table.add_column(name, justify="right")
    for search in searches:
        best = search["at_max"] or {}
        figures = [number(best.get(key), ".3f") for key in ("p50_ms", "p99_ms")]
        least = ">= " if search["is_lower_bound"] else ""
        table.add_row(
            TargetName.parse(search["target"]).label,
            search["backend_used"] or search["backend"],
            UNKNOWN if search["max_qps"] is None else f"{least}{search['max_qps']:g}",
            f"{best['n']:,}" if best else UNKNOWN,
            *figures,
            rate(best.get("achieved_qps")),
            rate(best.get("goodput_qps")),
            str(len(search["probes"])),
        )
    return table


def notes_of(rows: Sequence[Row]) -> list[str]:
    """The sentences below the table: what is invalid, what to doubt, which percentiles want more samples."""
    notes = []
    doubted: dict[str, list[str]] = {}
    for row in rows:
        where = f"{row.target} {row.scenario}"
        if row.invalid_reason is not None:
            notes.append(f"INVALID: {where}, {row.backend}: {row.invalid_reason}")
        for doubt in row.doubts:
            doubted.setdefault(doubt, []).append(where)
    notes += [f"{'; '.join(dict.fromkeys(places))}: {doubt}" for doubt, places in doubted.items()]
    notes += sorted({f"energy not known: {row.no_energy_reason}" for row in rows if row.no_energy_reason})
    if any(row.breakdown is not None and row.breakdown.wire is None for row in rows):
        notes.append(
            "a server that does not know the parameter edgeward_timing says nothing of queue, batch and execution"
        )
    missing = sorted({str(p) for row in rows for p in row.summary.percentiles if p.ms is None and p.share != 0.999})
    return notes + [f"{text}; measure longer (--duration) or more (--requests)" for text in missing]


def comparison_table(comparisons: Sequence[Comparison], unit: Literal["ms", "µs"] = "ms") -> Table:
    """One row a quantile of B against A."""
    scale, digits = (1, 3) if unit == "ms" else (1000, 2)
    table = Table("what", "quantile", f"A {unit}", f"B {unit}", "B / A [95 %]", "p", "verdict")
    for c in comparisons:
        times = (f"{ms * scale:.{digits}f}" for ms in (c.a_ms, c.b_ms))
        ratio = str(c.ratio).replace("[", r"\[")
        table.add_row(
            escape(c.what), percentile_name(c.share), *times, ratio, number(c.p_value, ".2g"), c.judgement.verdict.value
        )
    return table
