"""Variants kept open between their turns, as far as memory goes: the machine's and the GPUs' are counted apart."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Final

from runtime.backends.opened import OpenedVariant

KEEP_OPEN_MB: Final = 512.0
"""Of the machine's memory; beyond it the one idle longest is closed."""
KEEP_OPEN_GPU_MB: Final = 1024.0
"""To open one there again loads its weights and searches its kernels anew. A judgement: a quarter of a small GPU's memory."""


@dataclass(frozen=True, slots=True)
class _Kept:
    opened: OpenedVariant
    is_on_gpu: bool
    memory_mb: float


class OpenSessions:
    """By the candidate's key, the one idle longest first."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, _Kept] = OrderedDict()

    def get(self, key: str) -> OpenedVariant | None:
        """The one that is open; it is idle no more."""
        kept = self._kept.get(key)
        if kept is None:
            return None
        self._kept.move_to_end(key)
        return kept.opened

    def make_room(self, memory_mb: float, is_on_gpu: bool) -> None:
        """Closes what is idle longest until one that needs so much fits in beside the rest of its kind."""
        most_mb = KEEP_OPEN_GPU_MB if is_on_gpu else KEEP_OPEN_MB
        same = [key for key, kept in self._kept.items() if kept.is_on_gpu == is_on_gpu]
        while same and memory_mb + sum(self._kept[key].memory_mb for key in same) > most_mb:
            self.close(same.pop(0))

    def keep(self, key: str, opened: OpenedVariant, memory_mb: float, is_on_gpu: bool) -> None:
        """Takes one that was opened; room is made for it, and the one of the same key is closed."""
        self.close(key)
        self.make_room(memory_mb, is_on_gpu)
        self._kept[key] = _Kept(opened, is_on_gpu, memory_mb)

    def weigh(self, key: str, memory_mb: float) -> None:
        """What one takes, once that is measured."""
        kept = self._kept.get(key)
        if kept is not None:
            self._kept[key] = replace(kept, memory_mb=memory_mb)

    def close(self, key: str) -> None:
        """Closes one, if it is open."""
        kept = self._kept.pop(key, None)
        if kept is not None:
            kept.opened.close()

    def close_all(self) -> None:
        """Closes every one."""
        for key in list(self._kept):
            self.close(key)
