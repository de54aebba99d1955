"""A drift report's figures in words and units, for its text and its page alike; programs get the raw numbers with --json."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from runtime.selection.latency import show_ms

HEAD: Final = ("figure", "target", "training", "built", "tried here", "live", "estimated")
_KEYS: Final = ("target", "training", "dev", "test", "live", "estimated")


def _show_share(share: float) -> str:
    return f"{share:.2%}"


def _show_count(count: float) -> str:
    return f"{count:,.0f}"


_SHOWN: Final[Mapping[str, tuple[str, Callable[[float], str]]]] = {
    "accuracy": ("accuracy", _show_share),
    "p95_latency_ms": ("95 % of requests within", show_ms),
    "rows_per_s": ("rows a second", _show_count),
}


def figure_rows(figures: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """A row a figure, cells as in `HEAD`; a dash where nothing is known."""
    rows = []
    for figure in figures:
        name, show = _SHOWN[figure["figure"]]
        cells = (figure.get(key) for key in _KEYS)
        rows.append([name, *("–" if cell is None else show(cell) for cell in cells)])
    return rows
