"""A clock for ages and stretches of time: nobody sets it, and it goes on while the machine sleeps.

`time.monotonic` stands still on Linux and macOS while a laptop is suspended: rows of the evening would be told in the morning as
minutes old. The wall clock knows, but is set by people and by NTP.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Final


def elapsed_s() -> float:
    """Seconds since some moment before this process began; only differences mean something, and only on this machine."""
    return time.monotonic() if _CLOCK is None else time.clock_gettime(_CLOCK)


def sleepless_clock(platform: str, clocks: Mapping[str, int]) -> int | None:
    """Which of the `clocks` of a platform counts through sleep; None: `time.monotonic` does, or nothing better is there.

    Linux: CLOCK_BOOTTIME (clock_gettime(2)). macOS: CLOCK_MONOTONIC, while Python's `monotonic` is mach_absolute_time, which stops.
    Windows' ticks, which `monotonic` reads, count sleep.
    """
    if platform == "darwin":
        return clocks.get("CLOCK_MONOTONIC")
    return clocks.get("CLOCK_BOOTTIME")


_CLOCK: Final = sleepless_clock(
    sys.platform, {name: at for name, at in vars(time).items() if name.startswith("CLOCK_")}
)
