"""Whether this device is short of memory: a floor under what is available, looked at once a second at most."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

# Below this the system begins to swap or to kill: the model's arena is committed already, but a large request's arrays are
# not, and the process that the kernel ends first is usually this one.
DEFAULT_FLOOR_MB: Final = 64
# Reading /proc and the control group's files takes 1.4 ms (own measurement, 2-core VM, November 2026).
LOOK_EVERY_S: Final = 1.0


class MemoryGauge:
    """Says when less than `floor_bytes` are available. `read` gives the available bytes, None where that is unknown."""

    def __init__(self, floor_bytes: int, read: Callable[[], int | None]) -> None:
        self._floor_bytes = floor_bytes
        self._read = read
        self._looked_at = -math.inf
        self._available: int | None = None

    def pressure(self, now: float) -> str:
        """Why nothing more should run here; empty when memory suffices or cannot be told."""
        if now - self._looked_at >= LOOK_EVERY_S:
            self._looked_at, self._available = now, self._read()
        if self._available is None or self._available >= self._floor_bytes:
            return ""
        return (
            f"memory is short: {self._available >> 20} MB are available, {self._floor_bytes >> 20} MB are to stay free; "
            "end other programs or lower min_available_memory_mb"
        )


def available_bytes() -> int | None:
    """Memory that this process may still take: of the machine, and under its control group's limit."""
    from runtime.hardware.cgroup import read_limits
    from runtime.hardware.host import Host
    from runtime.hardware.memory import read_memory

    host = Host.this_machine()
    return read_memory(host, read_limits(host)).available_bytes
