"""Results as one table for people, and as JSON for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from rich.markup import escape
from rich.table import Table

from benchmarks.breakdown import PARTS, Breakdown, breakdown_of
from benchmarks.samples import Recording
from benchmarks.settings import TargetName
from benchmarks.statistics import Percentile, Summary, percentile_name

if TYPE_CHECKING:
    from benchmarks.compare import Comparison

_MIB = 1024 * 1024
UNKNOWN = "–"


@dataclass(frozen=True, slots=True)
class Row:
    """One measurement in figures."""

    model: str
    target: str
    scenario: str
    backend: str
    """Actually used, as the answers said; several where it changed."""
    summary: Summary
    cpu_s_per_1000: float | None
    """CPU seconds of the serving process by 1,000 requests; None where it is not on this machine."""
    peak_memory_bytes: int | None
    joules_per_1000: float | None
    """Of the whole machine; None where it has no meter that can be read."""
    no_energy_reason: str | None
    breakdown: Breakdown | None
    invalid_reason: str | None
    doubts: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The figures in types that `json` writes."""
        return {
            "model": self.model,
            "target": self.target,
            "scenario": self.scenario,
            "backend": self.backend,
            **self.summary.to_dict(),
            "cpu_s_per_1000": self.cpu_s_per_1000,
            "peak_memory_bytes": self.peak_memory_bytes,
            "joules_per_1000": self.joules_per_1000,
            "no_energy_reason": self.no_energy_reason,
            "time_went_ms": None if self.breakdown is None else self.breakdown.to_dict(),
            "invalid_reason": self.invalid_reason,
            "doubts": list(self.doubts),
        }


def row_of(recording: Recording, slo_ms: float | None = None) -> Row:
    """The figures of one recording."""
    header = recording.header
    energy = header.get("energy", {})
    return Row(
        model=header["target"]["model"],
        target=TargetName.parse(header["setting"]["target"]).label,
        scenario=header["scenario_text"],
        backend=backend_used(header),
        summary=recording.summary(slo_ms),
        cpu_s_per_1000=header["cpu_s_per_1000"],
        peak_memory_bytes=header["peak_memory_bytes"],
        joules_per_1000=energy.get("joules_per_1000"),
        no_energy_reason=energy.get("reason"),
        breakdown=breakdown_of(recording),
        invalid_reason=header["invalid_reason"],
        doubts=tuple(header["doubts"]),
    )


def backend_used(header: Mapping[str, Any]) -> str:
    """What the answers named as their backend, with `edge` or `cloud` where a server says it; else the platform."""
    is_inproc = TargetName.parse(header["setting"]["target"]).is_inproc
    names = []
    for origin in header["origins"]:
        served_by = "" if is_inproc else origin["served_by"]
        names.append(": ".join(word for word in (served_by, origin["backend"]) if word))
    return "; ".join(filter(None, names)) or header["target"]["platform"] or UNKNOWN


def table_of(rows: Sequence[Row], title: str | None = None) -> Table:
    """Every figure of every row; latencies in milliseconds from the planned send time."""
    table = Table(title=title, title_justify="left")
    has_goodput = any(row.summary.goodput_qps is not None for row in rows)
    models = {row.model for row in rows}
    if len(models) > 1:
        table.add_column("model")
    for name in ("target", "scenario", "backend"):
        table.add_column(name, overflow="fold")
    for name in ("n", "p50 ms", "p90 ms", "p99 ms", "p99.9 ms", "offered/s", "achieved/s", "rows/s"):
        table.add_column(name, justify="right")
    if has_goodput:
        table.add_column("goodput/s", justify="right")
    for name in ("errors", "CPU s / 1,000", "peak MiB"):
        table.add_column(name, justify="right")
    has_energy = any(row.joules_per_1000 is not None for row in rows)
    if has_energy:
        table.add_column("J / 1,000", justify="right")
    for row in rows:
        summary = row.summary
        cells = [row.model] if len(models) > 1 else []
        cells += [
            row.target,
            row.scenario if row.invalid_reason is None else f"[red]INVALID[/] {row.scenario}",
            row.backend,
        ]
        cells.append(f"{summary.n:,}")
        cells += [_latency(summary.of(share)) for share in (0.5, 0.9, 0.99, 0.999)]
        cells += [_rate(summary.offered_qps), _rate(summary.achieved_qps), _rate(summary.rows_per_s)]
        if has_goodput:
            cells.append(_rate(summary.goodput_qps))
        cells.append(", ".join(f"{name} {count:,}" for name, count in summary.errors) or "0")
        cells.append(UNKNOWN if row.cpu_s_per_1000 is None else f"{row.cpu_s_per_1000:.3f}")
        cells.append(UNKNOWN if row.peak_memory_bytes is None else f"{row.peak_memory_bytes / _MIB:,.0f}")
        if has_energy:
            cells.append(UNKNOWN if row.joules_per_1000 is None else f"{row.joules_per_1000:.2f}")
        table.add_row(*cells)
    return table


def breakdown_table(rows: Sequence[Row]) -> Table:
    """Where the time went: a row of means, in milliseconds, for each measurement that was answered."""
    table = Table(title="where the time went (mean ms of a request)", title_justify="left")
    for name in ("target", "scenario", "backend"):
        table.add_column(name, overflow="fold")
    for name in PARTS:
        table.add_column(name, justify="right")
    for row in rows:
        if row.breakdown is not None:
            table.add_row(row.target, row.scenario, row.backend, *breakdown_cells(row.breakdown))
    return table


def breakdown_cells(breakdown: Breakdown | None) -> list[str]:
    """One text for each of `PARTS`."""
    parts: Mapping[str, float | None] = {} if breakdown is None else breakdown.to_dict()
    return [UNKNOWN if (value := parts.get(name)) is None else f"{value:.3f}" for name in PARTS]


def found_table(searches: Sequence[Mapping[str, Any]], slo: str) -> Table:
    """The highest rate of each search that kept the promise, and the figures there; from `Search.to_dict`."""
    table = Table(title=f"highest rate with {slo}", title_justify="left")
    for name in ("target", "backend"):
        table.add_column(name, overflow="fold")
    for name in ("max/s", "n", "p50 ms", "p99 ms", "achieved/s", "goodput/s", "probes"):
        table.add_column(name, justify="right")
    for search in searches:
        best = search["at_max"] or {}
        figures = [f"{best[key]:.3f}" if best.get(key) is not None else UNKNOWN for key in ("p50_ms", "p99_ms")]
        rate = (
            UNKNOWN
            if search["max_qps"] is None
            else f"{'>= ' if search['is_lower_bound'] else ''}{search['max_qps']:g}"
        )
        table.add_row(
            TargetName.parse(search["target"]).label,
            search["backend_used"] or search["backend"],
            rate,
            f"{best['n']:,}" if best else UNKNOWN,
            *figures,
            _rate(best.get("achieved_qps")),
            _rate(best.get("goodput_qps")),
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


def _latency(percentile: Percentile) -> str:
    return f"n < {percentile.needed:,}" if percentile.ms is None else f"{percentile.ms:.3f}"


def _rate(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def comparison_table(comparisons: Sequence[Comparison], unit: Literal["ms", "µs"] = "ms") -> Table:
    """One row a quantile of B against A."""
    scale, digits = (1, 3) if unit == "ms" else (1000, 2)
    table = Table("what", "quantile", f"A {unit}", f"B {unit}", "B / A [95 %]", "p", "verdict")
    for c in comparisons:
        times = (f"{ms * scale:.{digits}f}" for ms in (c.a_ms, c.b_ms))
        ratio = str(c.ratio).replace("[", r"\[")
        table.add_row(
            escape(c.what), percentile_name(c.share), *times, ratio, f"{c.p_value:.2g}", c.judgement.verdict.value
        )
    return table
