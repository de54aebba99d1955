"""Main memory, with and without limits."""

from __future__ import annotations

import pytest

from runtime.hardware.cgroup import CgroupLimits, MemoryLimit
from runtime.hardware.host import MemoryReading
from runtime.hardware.memory import combine, parse_meminfo, read_memory
from runtime.hardware.missing import reason_for

GIB = 2**30


@pytest.mark.parametrize(
    ("text", "reading"),
    [
        ("MemTotal:  1000 kB\nMemFree: 100 kB\nMemAvailable:  600 kB\n", MemoryReading(1_024_000, 614_400)),
        ("MemTotal: 1000 kB\nMemFree: 100 kB\nBuffers: 10 kB\nCached: 20 kB\n", MemoryReading(1_024_000, 133_120)),
        ("MemTotal: 1000 kB\nMemAvailable: 2000 kB\n", MemoryReading(1_024_000, 1_024_000)),
        ("MemTotal: 1000 kB\n", None),
        ("MemAvailable: 1000 kB\n", None),
        ("MemTotal: 0 kB\nMemAvailable: 0 kB\n", None),
        ("MemTotal: many kB\nMemAvailable: 1 kB\n", None),
        ("MemTotal: 1000\nMemAvailable: 10\n", None),
        ("MemTotal: -5 kB\nMemAvailable: 10 kB\n", None),
        ("", None),
        ("\x00\xff:::", None),
    ],
)
def test_meminfo(text: str, reading: MemoryReading | None) -> None:
    assert parse_meminfo(text) == reading


def test_a_limit_below_the_machine_is_what_is_allowed() -> None:
    limits = CgroupLimits(memory=(MemoryLimit(2 * GIB, GIB, "/memory.max"),))
    memory = combine(MemoryReading(16 * GIB, 8 * GIB), limits, "linux")
    assert memory.total_bytes == 16 * GIB
    assert memory.allowed_bytes == memory.limit_bytes == 2 * GIB
    assert memory.available_bytes == GIB
    assert memory.limit_source == "/memory.max"
    assert memory.missing == ()


def test_a_limit_above_the_machine_takes_nothing_away() -> None:
    limits = CgroupLimits(memory=(MemoryLimit(64 * GIB, 0, "/memory.max"),))
    memory = combine(MemoryReading(16 * GIB, 8 * GIB), limits, "linux")
    assert memory.limit_bytes == 64 * GIB
    assert memory.allowed_bytes == 16 * GIB
    assert memory.available_bytes == 8 * GIB


def test_no_limit_is_not_the_same_as_not_known() -> None:
    reading = MemoryReading(16 * GIB, 8 * GIB)
    assert combine(reading, CgroupLimits(), "linux").missing == ()
    assert reason_for(combine(reading, None, "linux").missing, "memory limit") == (
        "the memory limit is unknown: /proc/self/cgroup cannot be read"
    )
    assert combine(reading, None, "win32").allowed_bytes == 16 * GIB


def test_unknown_memory_under_a_known_limit() -> None:
    memory = combine(None, CgroupLimits(memory=(MemoryLimit(GIB, 0, "/memory.max"),)), "linux")
    assert memory.total_bytes is None
    assert memory.allowed_bytes == memory.available_bytes == GIB
    assert reason_for(memory.missing, "memory") == "the size of memory is unknown: linux does not tell it"


def test_other_systems_are_asked(record) -> None:
    host = record(
        {"/proc/meminfo": "MemTotal: 1 kB\nMemAvailable: 1 kB\n"},
        system="darwin",
        memory=lambda: MemoryReading(8 * GIB, 4 * GIB),
    )
    assert read_memory(host, None).total_bytes == 8 * GIB
