"""How many calls of one model run at the same time: of what is wished for, as many as engine and memory allow. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from runtime.backends.base import Overlap
from runtime.selection.memory_use import MemoryUse, most_rows


@dataclass(frozen=True, slots=True)
class Granted:
    """How many run at the same time."""

    count: int
    max_rows: int | None = None
    """The most rows of each, so that all of them together stay under the memory cap; None where that says nothing."""
    why_fewer: str = ""
    """Than wished for; empty where they are as many."""


def grant(wanted: int, overlap: Overlap, uses: Sequence[MemoryUse], cap_mb: float | None) -> Granted:
    """As many of `wanted` as calls may overlap and the cap has room for.

    `uses`: what one call was seen to take by its rows, with its session. Where a session is shared its weights are
    counted with every call: the cap holds for certain, and is not used up.
    """
    if wanted > 1 and overlap is Overlap.NEVER:
        return Granted(1, most_rows(uses, cap_mb), "its engine makes one call at a time on this device")
    count = wanted
    while count > 1 and cap_mb is not None and uses and uses[0].excess(cap_mb / count) is not None:
        count -= 1
    why_fewer = ""
    if count < wanted:
        why_fewer = (
            f"each takes {max(uses[0].mb, uses[0].gpu_mb or 0):.1f} MB, the memory cap is {cap_mb:.1f} MB for all"
        )
    return Granted(count, most_rows(uses, None if cap_mb is None else cap_mb / count), why_fewer)
