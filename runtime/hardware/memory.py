"""Main memory: what there is, what is free, and what this process may hold."""

from __future__ import annotations

from dataclasses import dataclass

from runtime.hardware.cgroup import CgroupLimits
from runtime.hardware.host import Host, MemoryReading, parse_number
from runtime.hardware.missing import Missing


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes: all of the machine, available now (under every limit), the tightest group limit, and what is allowed.

    `allowed_bytes` is the smaller of total and limit; `limit_bytes` is None when no control group sets one.
    """

    total_bytes: int | None
    available_bytes: int | None
    limit_bytes: int | None
    limit_source: str | None
    allowed_bytes: int | None
    missing: tuple[Missing, ...] = ()


def read_memory(host: Host, limits: CgroupLimits | None) -> Memory:
    """The memory of `host` under the limits of this process."""
    reading = parse_meminfo(host.read("/proc/meminfo") or "") if host.system == "linux" else None
    return combine(reading or host.memory(), limits, host.system)


def combine(reading: MemoryReading | None, limits: CgroupLimits | None, system: str) -> Memory:
    """The machine's memory and the groups' limits as one value."""
    missing = []
    if reading is None:
        missing.append(Missing("memory", f"the size of memory is unknown: {system} does not tell it"))
    if limits is None:
        missing.append(Missing("memory limit", _why_no_limit(system)))
    limit = limits.tightest_memory if limits else None
    headroom = limits.memory_headroom_bytes if limits else None
    return Memory(
        total_bytes=reading.total_bytes if reading else None,
        available_bytes=_smaller(reading.available_bytes if reading else None, headroom),
        limit_bytes=limit.limit_bytes if limit else None,
        limit_source=limit.source if limit else None,
        allowed_bytes=_smaller(reading.total_bytes if reading else None, limit.limit_bytes if limit else None),
        missing=tuple(missing),
    )


def parse_meminfo(text: str) -> MemoryReading | None:
    """Total and available of /proc/meminfo; None when either cannot be told.

    Kernels before 3.14 have no MemAvailable: free memory and caches stand in for it.
    """
    bytes_of: dict[str, int] = {}
    for line in text.splitlines():
        key, _, value = line.partition(":")
        words = value.split()
        if len(words) == 2 and words[1] == "kB" and (kibibytes := parse_number(words[0])) is not None:
            bytes_of[key.strip()] = kibibytes * 1024
    total = bytes_of.get("MemTotal")
    available = bytes_of.get("MemAvailable")
    if available is None and "MemFree" in bytes_of:
        available = sum(bytes_of.get(key, 0) for key in ("MemFree", "Buffers", "Cached"))
    if not total or available is None:
        return None
    return MemoryReading(total, min(available, total))


def _smaller(one: int | None, other: int | None) -> int | None:
    known = [value for value in (one, other) if value is not None]
    return min(known, default=None)


def _why_no_limit(system: str) -> str:
    if system == "linux":
        return "the memory limit is unknown: /proc/self/cgroup cannot be read"
    return f"no memory limit is read on {system}: it has no control groups"
