"""The limits of the control groups this process lives in, version 1, version 2 and both at once.

A group can only tighten what its parents allow, so every group from the process's own up to the mount point is read
and the tightest wins. Formats: cgroups(7), Documentation/admin-guide/cgroup-v1 and cgroup-v2.rst of Linux.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from runtime.hardware.host import Host, parse_number

UNLIMITED_BYTES: Final = 2**60
"""Version 1 writes "no limit" as 2**63 rounded down to a page (4, 16 or 64 KiB); no machine has an exbibyte."""


@dataclass(frozen=True, slots=True)
class CpuQuota:
    """CPU time a group may use, in cores (1.5 is 150 ms every 100 ms), and the file that says so."""

    cores: float
    source: str


@dataclass(frozen=True, slots=True)
class MemoryLimit:
    """Bytes a group may hold, what it holds that cannot be given back (None: unknown), and the file that says so."""

    limit_bytes: int
    used_bytes: int | None
    source: str

    @property
    def headroom_bytes(self) -> int:
        """What is left below the limit; the whole limit when the use is unknown."""
        return max(0, self.limit_bytes - (self.used_bytes or 0))


@dataclass(frozen=True, slots=True)
class CgroupLimits:
    """Every limit found between the process's groups and the roots of their hierarchies."""

    quotas: tuple[CpuQuota, ...] = ()
    memory: tuple[MemoryLimit, ...] = ()

    @property
    def tightest_quota(self) -> CpuQuota | None:
        """The smallest quota, or None when no group sets one."""
        return min(self.quotas, key=lambda quota: quota.cores, default=None)

    @property
    def tightest_memory(self) -> MemoryLimit | None:
        """The smallest memory limit, or None when no group sets one."""
        return min(self.memory, key=lambda limit: limit.limit_bytes, default=None)

    @property
    def memory_headroom_bytes(self) -> int | None:
        """The smallest room left under any limit: a wide parent full of neighbours can be the tighter one."""
        return min((limit.headroom_bytes for limit in self.memory), default=None)


@dataclass(frozen=True, slots=True)
class Membership:
    """One line of /proc/self/cgroup: a hierarchy's controllers (empty: version 2) and this process's group in it."""

    controllers: frozenset[str]
    path: str


@dataclass(frozen=True, slots=True)
class Mount:
    """Where a hierarchy is mounted, and which group of it is at the mount point (`/` outside containers)."""

    controllers: frozenset[str]
    root: str
    mount_point: str


CONVENTIONAL_MOUNTS: Final = (
    Mount(frozenset(), "/", "/sys/fs/cgroup"),
    Mount(frozenset({"cpu"}), "/", "/sys/fs/cgroup/cpu"),
    Mount(frozenset({"memory"}), "/", "/sys/fs/cgroup/memory"),
)
"""Where systemd, Docker and OpenRC mount them: tried where /proc/self/mountinfo cannot be read."""


def read_limits(host: Host) -> CgroupLimits | None:
    """The limits in force; None when this is no Linux or /proc/self/cgroup cannot be read (then nothing is known)."""
    groups = _groups(host, read_mountinfo(host))
    if groups is None:
        return None
    memory: list[MemoryLimit] = []
    for mount, directory in groups:
        if not mount.controllers:
            memory += _memory_v2(host, directory)
        elif "memory" in mount.controllers:
            memory += _memory_v1(host, directory)
    return CgroupLimits(_quotas(host, groups), tuple(memory))


def read_quotas(host: Host, mountinfo: str | None) -> tuple[CpuQuota, ...] | None:
    """The quotas alone, which takes a fraction of the time; None where nothing is known. `mountinfo` is of `read_mountinfo`."""
    groups = _groups(host, mountinfo)
    return None if groups is None else _quotas(host, groups)


def read_mountinfo(host: Host) -> str | None:
    """What is mounted where for this process (proc_pid_mountinfo(5)); None where the system does not say."""
    return host.read("/proc/self/mountinfo")


def _quotas(host: Host, groups: Sequence[tuple[Mount, str]]) -> tuple[CpuQuota, ...]:
    quotas: list[CpuQuota] = []
    for mount, directory in groups:
        if not mount.controllers:
            quotas += _quota_v2(host, directory)
        elif "cpu" in mount.controllers:
            quotas += _quota_v1(host, directory)
    return tuple(quotas)


def _groups(host: Host, mountinfo: str | None) -> tuple[tuple[Mount, str], ...] | None:
    membership = host.read("/proc/self/cgroup")
    return None if host.system != "linux" or membership is None else groups_of(membership, mountinfo)


@lru_cache(maxsize=8)
def groups_of(membership: str, mountinfo: str | None) -> tuple[tuple[Mount, str], ...]:
    """Every mounted hierarchy with each directory of the groups in `membership`, up to the mount.

    Without a `mountinfo` the conventional mounts are taken.
    """
    mounts = CONVENTIONAL_MOUNTS if mountinfo is None else parse_mounts(mountinfo)
    return tuple(
        (mount, directory)
        for mount, path in pair(parse_membership(membership), mounts)
        for directory in directories_up(mount, path)
    )


# Which directories


def parse_membership(text: str) -> tuple[Membership, ...]:
    """The lines of /proc/self/cgroup (`4:memory:/user`, `0::/user`); what is not such a line is left out."""
    found = []
    for line in text.splitlines():
        number, _, rest = line.partition(":")
        controllers, colon, path = rest.partition(":")
        if colon and path.startswith("/") and parse_number(number) is not None:
            found.append(Membership(frozenset(filter(None, controllers.split(","))), path))
    return tuple(found)


def parse_mounts(text: str) -> tuple[Mount, ...]:
    """The cgroup mounts of /proc/self/mountinfo (proc_pid_mountinfo(5)); version 2 has no controllers here."""
    found = []
    for line in text.splitlines():
        before, separator, after = line.partition(" - ")
        if not after.startswith("cgroup"):
            continue
        fields, kind = before.split(" "), after.split(" ")
        if not separator or len(fields) < 5 or len(kind) < 3:
            continue
        root, mount_point = _unescape(fields[3]), _unescape(fields[4])
        if kind[0] == "cgroup2":
            found.append(Mount(frozenset(), root, mount_point))
        elif kind[0] == "cgroup":
            found.append(Mount(frozenset(kind[2].split(",")), root, mount_point))
    return tuple(found)


def _unescape(path: str) -> str:
    return path if "\\" not in path else re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), path)


def pair(memberships: Iterable[Membership], mounts: Sequence[Mount]) -> Iterator[tuple[Mount, str]]:
    """Each mounted hierarchy with this process's group in it."""
    for membership in memberships:
        for mount in mounts:
            if membership.controllers & mount.controllers or not (membership.controllers or mount.controllers):
                yield mount, membership.path


def directories_up(mount: Mount, path: str) -> tuple[str, ...]:
    """The group's directory and every parent up to the mount point, innermost first.

    A path outside what is mounted (a container sees its own group as the mount's root, under whatever name the host
    gave it) leaves the mount point alone.
    """
    top = mount.mount_point.rstrip("/")
    root = mount.root.rstrip("/")
    inside = path == mount.root or path.startswith(root + "/")
    parts = [part for part in path[len(root) :].split("/") if part] if inside else []
    if ".." in parts:
        parts = []
    return tuple("/".join([top, *parts[:length]]) for length in range(len(parts), -1, -1))


# What the files say


def parse_cpu_max(text: str) -> float | None:
    """Cores of a version 2 `cpu.max` (`150000 100000` is 1.5, `max 100000` none)."""
    words = text.split()
    return _cores(words[0], words[1]) if len(words) == 2 else None


def parse_cfs(quota_us: str, period_us: str) -> float | None:
    """Cores of a version 1 `cpu.cfs_quota_us` (-1: none) and `cpu.cfs_period_us`."""
    return _cores(quota_us, period_us)


def _cores(quota_us: str, period_us: str) -> float | None:
    quota, period = parse_number(quota_us), parse_number(period_us)
    return quota / period if quota and period else None


def parse_memory_limit(text: str) -> int | None:
    """Bytes of `memory.max` or `memory.limit_in_bytes`; None for `max`, for the "no limit" number and for garbage."""
    limit = parse_number(text)
    return limit if limit is not None and limit < UNLIMITED_BYTES else None


def parse_stat(text: str) -> dict[str, int]:
    """The `name number` lines of `memory.stat`."""
    words = (line.split() for line in text.splitlines())
    return {pair[0]: number for pair in words if len(pair) == 2 and (number := parse_number(pair[1])) is not None}


def _quota_v2(host: Host, directory: str) -> list[CpuQuota]:
    source = f"{directory}/cpu.max"
    cores = parse_cpu_max(host.read(source) or "")
    return [] if cores is None else [CpuQuota(cores, source)]


def _quota_v1(host: Host, directory: str) -> list[CpuQuota]:
    source = f"{directory}/cpu.cfs_quota_us"
    quota_us = host.read(source)
    if quota_us is None or quota_us == "-1":
        return []
    cores = parse_cfs(quota_us, host.read(f"{directory}/cpu.cfs_period_us") or "")
    return [] if cores is None else [CpuQuota(cores, source)]


def _memory_v2(host: Host, directory: str) -> list[MemoryLimit]:
    source = f"{directory}/memory.max"
    limit = parse_memory_limit(host.read(source) or "")
    if limit is None:
        return []
    used = host.read_number(f"{directory}/memory.current")
    stat = parse_stat(host.read(f"{directory}/memory.stat") or "")
    return [MemoryLimit(limit, _not_reclaimable(used, stat.get("inactive_file", 0)), source)]


def _memory_v1(host: Host, directory: str) -> list[MemoryLimit]:
    source = f"{directory}/memory.limit_in_bytes"
    limit = parse_memory_limit(host.read(source) or "")
    stat = parse_stat(host.read(f"{directory}/memory.stat") or "")
    found = []
    if limit is not None:
        used = host.read_number(f"{directory}/memory.usage_in_bytes")
        found.append(MemoryLimit(limit, _not_reclaimable(used, stat.get("total_inactive_file", 0)), source))
    # A container cannot see the directories above its own; version 1 tells their tightest limit here.
    above = stat.get("hierarchical_memory_limit", UNLIMITED_BYTES)
    if above < min(limit or UNLIMITED_BYTES, UNLIMITED_BYTES):
        found.append(MemoryLimit(above, None, f"{directory}/memory.stat"))
    return found


def _not_reclaimable(used_bytes: int | None, inactive_file_bytes: int) -> int | None:
    """Use without the page cache the kernel drops first: the working set, as container runtimes count it."""
    return None if used_bytes is None else max(0, used_bytes - inactive_file_bytes)
