"""How many calls of one model run at the same time: what is wished for, and what engine and memory allow. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from runtime.backends.base import Overlap
from runtime.errors import WrongUseError
from runtime.selection.memory_use import MemoryUse, most_rows

MAX_INSTANCES: Final = 64
"""Each is a thread, and with some engines a session; more than a large machine has cores for."""


@dataclass(frozen=True, slots=True)
class Instances:
    """How many are wished for: of every model, or of some by name."""

    everywhere: int = 1
    """Engines use every allowed core for one call already."""
    by_model: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> Instances:
        """From "2", "digits=4" or "2,digits=4"; `WrongUseError` otherwise."""
        everywhere, by_model = 1, {}
        for part in text.split(","):
            name, _, number = part.strip().rpartition("=")
            count = int(number) if number.isascii() and number.isdigit() and len(number) < 4 else 0
            if not 1 <= count <= MAX_INSTANCES or (not name and "=" in part):
                raise WrongUseError(
                    f"instances {text!r:.80}: {part!r:.40} is not understood; expected a number from 1 to {MAX_INSTANCES}, "
                    'for all models ("2") or for one ("digits=4"), separated by commas'
                )
            if name:
                by_model[name] = count
            else:
                everywhere = count
        return cls(everywhere, by_model)

    def __str__(self) -> str:
        return ",".join([str(self.everywhere), *(f"{name}={count}" for name, count in sorted(self.by_model.items()))])

    def of(self, model: str) -> int:
        """How many of that model."""
        return self.by_model.get(model, self.everywhere)


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
