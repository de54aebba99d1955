"""What a candidate's memory grew to by the rows of a call, and how many rows a call may have under a cap. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MemoryUse:
    """The peak once calls with up to `rows` rows were made."""

    rows: int
    mb: float
    """Growth of resident memory since before it was opened."""
    gpu_mb: float | None = None
    """Growth of the memory in use on NVIDIA GPUs; None off them, and where nothing tells."""

    def excess(self, cap_mb: float) -> str | None:
        """What is above the cap, in words; None when nothing is."""
        rows = "1 row" if self.rows == 1 else f"{self.rows} rows"
        if self.mb > cap_mb:
            return f"{self.mb:.1f} MB with {rows}, the cap is {cap_mb:.1f} MB"
        if self.gpu_mb is not None and self.gpu_mb > cap_mb:
            return f"{self.gpu_mb:.1f} MB of GPU memory with {rows}, the cap is {cap_mb:.1f} MB"
        return None


def use_at(uses: Sequence[MemoryUse], rows: int) -> MemoryUse | None:
    """The use with the most rows up to `rows`, or the first one; None when none was measured. `uses` ascend by rows."""
    fitting = [use for use in uses if use.rows <= rows]
    return fitting[-1] if fitting else next(iter(uses), None)


def most_rows(uses: Sequence[MemoryUse], cap_mb: float | None) -> int | None:
    """The most rows of a call that were seen to stay under the cap; None where there is no cap or nothing was measured."""
    if cap_mb is None or not uses:
        return None
    return max((use.rows for use in uses if use.excess(cap_mb) is None), default=1)
