"""A clock that nobody sets and that goes on while the machine sleeps."""

import sys
import time

import pytest

from runtime.telemetry.elapsed import elapsed_s, sleepless_clock

LINUX = {"CLOCK_REALTIME": 0, "CLOCK_MONOTONIC": 1, "CLOCK_BOOTTIME": 7}
MACOS = {"CLOCK_REALTIME": 0, "CLOCK_MONOTONIC": 6, "CLOCK_UPTIME_RAW": 8}


@pytest.mark.parametrize(
    ("platform", "clocks", "chosen"),
    [
        ("linux", LINUX, 7),
        ("darwin", MACOS, 6),
        ("win32", {}, None),
        ("linux", {"CLOCK_MONOTONIC": 1}, None),
    ],
)
def test_the_clock_that_counts_sleep_is_chosen(platform: str, clocks: dict[str, int], chosen: int | None) -> None:
    assert sleepless_clock(platform, clocks) == chosen


@pytest.mark.skipif(sys.platform != "linux", reason="CLOCK_BOOTTIME is Linux's")
def test_it_is_the_time_since_boot() -> None:
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    assert before <= elapsed_s() <= time.clock_gettime(time.CLOCK_BOOTTIME)
