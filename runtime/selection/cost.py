"""How long a call takes by its number of rows: measured at a few batch sizes, interpolated between them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any


@dataclass(frozen=True, slots=True)
class CostModel:
    """Milliseconds of one call at measured numbers of rows, ascending; at least one point."""

    points: tuple[tuple[int, float], ...]

    def __post_init__(self) -> None:
        rows = list(self.rows)
        if not rows or rows != sorted(set(rows)) or rows[0] < 1 or any(not ms > 0 for _, ms in self.points):
            raise ValueError(
                f"points {self.points} are no cost model; expected ascending rows from 1 and times above 0"
            )

    def cost_ms(self, rows: int) -> float:
        """Milliseconds of one call with `rows` rows.

        Linear between two points; beyond the last along the last slope (never falling), or, where only one point was
        measured, in proportion to the rows, which overstates rather than understates. Below the first point: the first.
        """
        first_rows, first_ms = self.points[0]
        if rows <= first_rows:
            return first_ms
        for (low, low_ms), (high, high_ms) in pairwise(self.points):
            if rows <= high:
                return low_ms + (high_ms - low_ms) * (rows - low) / (high - low)
        last_rows, last_ms = self.points[-1]
        if len(self.points) == 1:
            return last_ms * rows / last_rows
        before_rows, before_ms = self.points[-2]
        return last_ms + max(0.0, (last_ms - before_ms) / (last_rows - before_rows)) * (rows - last_rows)

    @property
    def rows(self) -> tuple[int, ...]:
        """The numbers of rows that were measured, ascending."""
        return tuple(rows for rows, _ in self.points)

    def best_batch(self) -> int:
        """The measured number of rows with the most rows a second; the smaller of two that are equal."""
        return max(self.points, key=lambda point: (point[0] / point[1], -point[0]))[0]

    def to_dict(self) -> dict[str, float]:
        """Milliseconds by rows, for JSON."""
        return {str(rows): ms for rows, ms in self.points}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> CostModel:
        """The reverse of `to_dict`; `ValueError` when the values are no cost model."""
        return cls(tuple(sorted((int(rows), float(ms)) for rows, ms in values.items())))
