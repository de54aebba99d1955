"""Figures of a run: every turn as JSON, a table for each model as Markdown, and the ratios that decide as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any, Final

BATCHES: Final = (1, 8, 32, 128)
BASE: Final = "CUDA fp32"
"""What the other ways on the GPU are compared with: tensors from the host's memory and back, no option."""


@dataclass(slots=True)
class Cell:
    """One way with one number of rows."""

    first_ms: float
    """The very first call with so many rows, in which engines choose kernels and take memory."""
    turns_ms: list[float] = field(default_factory=list)
    """The median call of every turn."""

    @property
    def ms(self) -> float | None:
        """Of a call; None when there was no turn."""
        return median(self.turns_ms) if self.turns_ms else None


@dataclass(slots=True)
class Line:
    """One way of calling a model."""

    open_s: float | None = None
    """None where it shares the session of a line above."""
    gpu_mb: float | None = None
    """Growth of the memory in use on the GPU, with all numbers of rows; None where nothing tells."""
    error: float | None = None
    """The largest difference from the processor's fp32 answers, over the largest of these."""
    cells: dict[int, Cell] = field(default_factory=dict)
    skipped: dict[int, str] = field(default_factory=dict)
    """Reasons by number of rows."""
    switch_ms: float | None = None
    """A call right after one with another number of rows, of 1 and 8 in turn."""
    row_s: float = 0.0
    """Of the last call, for each row: what the next number of rows may take."""


@dataclass(slots=True)
class Sheet:
    """One model: what was measured, and why the rest was not."""

    lines: dict[str, Line] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    rounds: dict[int, int] = field(default_factory=dict)
    """By number of rows."""
    doing: str = ""
    """The way that is being opened: the one to blame when the process dies."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Sheet:
        """What `to_dict` gave, after a way through JSON."""
        lines = {}
        for name, line in raw["lines"].items():
            cells = {int(rows): Cell(**cell) for rows, cell in line["cells"].items()}
            skipped = {int(rows): reason for rows, reason in line["skipped"].items()}
            lines[name] = Line(**{**line, "cells": cells, "skipped": skipped})
        rounds = {int(rows): count for rows, count in raw["rounds"].items()}
        return cls(lines, dict(raw["skipped"]), rounds, raw["doing"])

    def ms(self, way: str, rows: int) -> float | None:
        """Of a call; None when it was not measured."""
        line = self.lines.get(way)
        cell = line.cells.get(rows) if line is not None else None
        return cell.ms if cell is not None else None

    def best_cpu_ms(self, rows: int) -> float | None:
        """Of the processor's thread counts, the fastest."""
        found = [ms for way in self.lines if way.startswith("CPU") and (ms := self.ms(way, rows)) is not None]
        return min(found, default=None)


def markdown(sheets: Mapping[str, Sheet], environment: Mapping[str, Any], started: str) -> str:
    """The whole page."""
    libraries = ", ".join(f"{name} {version}" for name, version in environment["libraries"].items())
    facts = [f"- {name}: {text}" for name, text in environment["hardware_text"].items()]
    page = [
        f"# Models on an NVIDIA GPU, {started}",
        "",
        *facts,
        f"- versions: Python {environment['python']}, {libraries}",
        f"- commit: {environment['commit']}",
        "",
        "Milliseconds of a call, the median of the turns' medians; in brackets rows a second. Every way had its turns between "
        "those of the others. *Copies* (no word) start and end in the host's memory; *bound*: the same through a binding that "
        "is kept; *on device*: the tensors stay on the GPU. *First*: the first call with 8 rows. *Switching*: a call right "
        "after one with another number of rows, 1 and 8 in turn, as dynamic batching makes them. *Error*: the largest "
        "difference from the processor's fp32 answers, over the largest of these.",
    ]
    for name, sheet in sheets.items():
        page += ["", f"## {name}", "", *_table(sheet)]
        page += ["", *[f"- {'; '.join(ways)}: skipped: {reason}" for reason, ways in _by_reason(sheet.skipped).items()]]
        for way, line in sheet.lines.items():
            page += [f"- {way}, {rows} rows: skipped: {reason}" for rows, reason in line.skipped.items()]
    return "\n".join(page) + "\n"


def _table(sheet: Sheet) -> list[str]:
    if not sheet.lines:
        return ["Nothing was measured."]
    heads = ["way", *(f"{rows} rows" for rows in BATCHES), "error", "GPU MB", "open s", "first ms", "switching ms"]
    rows = [f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}"]
    for way, line in sheet.lines.items():
        first = line.cells.get(8)
        fields = [
            way,
            *(_figure(sheet.ms(way, count), count) for count in BATCHES),
            "" if line.error is None else f"{line.error:.1e}",
            "" if line.gpu_mb is None else f"{line.gpu_mb:.0f}",
            "" if line.open_s is None else f"{line.open_s:.2f}",
            "" if first is None else f"{first.first_ms:.0f}",
            "" if line.switch_ms is None else f"{line.switch_ms:.2f}",
        ]
        rows.append(f"| {' | '.join(fields)} |")
    return rows


def _figure(ms: float | None, rows: int) -> str:
    return "" if ms is None else f"{ms:.3f} ({1000 * rows / ms:,.0f})"


_RATIOS: Final[Sequence[tuple[str, str, str]]] = (
    ("graph", "CUDA fp32, graph", BASE),
    ("nhwc", "CUDA fp32, nhwc", BASE),
    ("both", "CUDA fp32, nhwc, graph", BASE),
    ("bound", "CUDA fp32, bound", BASE),
    ("device", "CUDA fp32, on device", BASE),
    ("exh", "CUDA fp32, exhaustive", BASE),
    ("fp16", "CUDA fp16", BASE),
    ("16graph", "CUDA fp16, graph", "CUDA fp16"),
    ("16nhwc", "CUDA fp16, nhwc", "CUDA fp16"),
    ("16both", "CUDA fp16, nhwc, graph", "CUDA fp16"),
    ("torch", "torch fp32", BASE),
    ("t16", "torch fp16", "torch fp32"),
)


def summary(name: str, sheet: Sheet) -> str:
    """A few lines: milliseconds of the processor's best and of the GPU's plain way, and times as fast the others are."""
    rounds = "/".join(str(sheet.rounds.get(rows, 0)) for rows in BATCHES)
    lines = [f"{name}: {rounds} rounds; times as fast as CUDA fp32 (16…: as CUDA fp16; t16: as torch fp32)"]
    for rows in BATCHES:
        cpu, base = sheet.best_cpu_ms(rows), sheet.ms(BASE, rows)
        words = [f"  {rows:>3} rows: CPU {_ms(cpu)}, CUDA {_ms(base)}"]
        for label, way, against in _RATIOS:
            ms, other = sheet.ms(way, rows), sheet.ms(against, rows)
            if ms is not None and other is not None:
                words.append(f"{label} {other / ms:.2f}")
        lines.append("  ".join(words))
    switching = [f"{way} {line.switch_ms:.2f}" for way, line in sheet.lines.items() if line.switch_ms is not None]
    lines.append(f"  switching ms: {', '.join(switching)}")
    for reason, ways in _by_reason(sheet.skipped).items():
        lines.append(f"  skipped ({len(ways)}: {ways[0]}{', …' * (len(ways) > 1)}): {reason[:250]}")
    return "\n".join(lines)


def _by_reason(skipped: Mapping[str, str]) -> dict[str, list[str]]:
    reasons: dict[str, list[str]] = {}
    for way, reason in skipped.items():
        reasons.setdefault(reason, []).append(way)
    return reasons


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f} ms"
