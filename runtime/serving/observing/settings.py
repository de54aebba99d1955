"""How much of what a server is asked and answers is counted, and in which windows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

ROWS_PER_S: Final = 100.0
"""The 2,048 rows of the largest window come in 20 s, at about half a per cent of a core; their mean is known to a fiftieth of their
spread."""
WINDOW_S: Final = 30.0
WINDOW_ROWS: Final = 100
"""A window closes after `WINDOW_S` with so many rows, or after ten times as long with fewer."""


@dataclass(frozen=True, slots=True)
class StatisticsSettings:
    """How much is counted, and in which windows."""

    sample: float = 1.0
    rows_per_s: float = ROWS_PER_S
    window_s: float = WINDOW_S
    window_rows: int = WINDOW_ROWS
