"""The sentences below a table: what is invalid, what to doubt, what errors said, which percentiles want more samples."""

from __future__ import annotations

import re
from collections.abc import Sequence

from benchmarks.row import Row

_FIGURES = re.compile(r"\d+(?:\.\d+)?")
# So many names are still read.
_MANY = 3
# Percentiles that a person expects of any run; those further out are asked for by measuring longer.
_ASKED = (0.5, 0.9, 0.99)


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
