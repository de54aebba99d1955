"""How far this process's resident memory, or the memory in use on GPUs, rose over a stretch of work."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import sys
from collections.abc import Callable
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


class GpuMemoryGrowth:
    """Growth in megabytes since it was made, of what is in use on the GPUs: engines keep what they took, so this is the peak."""

    def __init__(self, used_bytes: Callable[[], int | None]) -> None:
        self._used_bytes = used_bytes
        self._before_bytes = used_bytes()

    def now_mb(self) -> float | None:
        """Megabytes above the use at the start, never negative; None where nothing tells it."""
        now_bytes = self._used_bytes()
        if now_bytes is None or self._before_bytes is None:
            return None
        return max(0.0, (now_bytes - self._before_bytes) / _MB)


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
