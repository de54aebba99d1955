"""How far this process's resident memory rose over a stretch of work."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import sys
from pathlib import Path

import psutil

_MB = 1024 * 1024
_CLEAR_REFS = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")


class MemoryGrowth:
    """Peak growth in megabytes since it was made: Linux tells the peak, elsewhere it is the memory held when asked."""

    def __init__(self) -> None:
        _give_back_freed_memory()
        self._has_peak = _reset_peak()
        self._before_bytes = psutil.Process().memory_info().rss

    def peak_mb(self) -> float:
        """Megabytes above the memory at the start; never negative."""
        peak_bytes = (_read_peak_bytes() if self._has_peak else None) or psutil.Process().memory_info().rss
        return max(0.0, (peak_bytes - self._before_bytes) / _MB)


def _give_back_freed_memory() -> None:
    """Without it, memory that one candidate freed is taken again by the next and does not show as growth."""
    gc.collect()
    if sys.platform == "linux":
        with contextlib.suppress(AttributeError, OSError):  # musl has no malloc_trim
            ctypes.CDLL(None).malloc_trim(0)


def _reset_peak() -> bool:
    """Resets VmHWM (proc(5): writing 5 to clear_refs, Linux 4.0); False where that cannot be done."""
    try:
        _CLEAR_REFS.write_text("5")
    except OSError:
        return False
    return True


def _read_peak_bytes() -> int | None:
    try:
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        return None
    return None
