"""The cores this process may use: the smaller of its affinity and its control groups' quota."""

from __future__ import annotations

import math
from dataclasses import dataclass

from runtime.hardware.cgroup import CgroupLimits, CpuQuota, read_mountinfo, read_quotas
from runtime.hardware.cpu import Cpu, parse_cpu_list
from runtime.hardware.host import Host
from runtime.hardware.missing import Missing


@dataclass(frozen=True, slots=True)
class AllowedCores:
    """What may be used: `cores` as CPU time (1.5 is one and a half), `threads` as the whole threads to run, at least 1.

    `affinity_cores` and `quota_cores` are the two limits it comes from, None where there is none or none is known.
    """

    cores: float
    threads: int
    affinity_cores: int | None
    quota_cores: float | None
    quota_source: str | None
    missing: tuple[Missing, ...] = ()


def read_allowed_cores(host: Host, cpu: Cpu, limits: CgroupLimits | None) -> AllowedCores:
    """The cores `host` allows this process."""
    missing = []
    affinity = _read_affinity(host)
    if affinity is None:
        missing.append(Missing("affinity", f"the affinity is unknown: {host.system} does not tell it"))
    if limits is None:
        missing.append(Missing("CPU quota", _why_no_quota(host)))
    if affinity is None and cpu.logical_cores is None:
        missing.append(Missing("allowed cores", "the allowed cores are unknown: one core is assumed"))
    quota = limits.tightest_quota if limits else None
    return allow(cpu.logical_cores, affinity, quota, tuple(missing))


def allowed_threads(host: Host) -> int:
    """`AllowedCores.threads` by affinity and quotas alone, without a look at the processor: 0.2 ms, where a start waits for it."""
    quotas = read_quotas(host, read_mountinfo(host)) or ()
    quota = min(quotas, key=lambda quota: quota.cores, default=None)
    return allow(host.logical_cores(), _read_affinity(host), quota).threads


def allow(
    logical_cores: int | None, affinity: int | None, quota: CpuQuota | None, missing: tuple[Missing, ...] = ()
) -> AllowedCores:
    """The tightest of the three limits; one core when nothing at all is known.

    Threads are the quota rounded *down*: a thread more than the quota pays for is stopped until the next period
    (100 ms), which a request sees as latency.
    """
    known = [float(count) for count in (affinity, logical_cores) if count]
    if quota is not None and known:
        known.append(quota.cores)
    cores = min(known, default=1.0 if quota is None else min(1.0, quota.cores))
    return AllowedCores(
        cores=cores,
        threads=max(1, math.floor(cores)),
        affinity_cores=affinity,
        quota_cores=quota.cores if quota else None,
        quota_source=quota.source if quota else None,
        missing=missing,
    )


def parse_affinity(status: str, online: str) -> int | None:
    """Cores of `Cpus_allowed_list` in /proc/self/status that are online; None when the line is not there.

    The mask may name processors that are switched off or do not exist, which the scheduler leaves out.
    """
    for line in status.splitlines():
        if line.startswith("Cpus_allowed_list:"):
            allowed = parse_cpu_list(line.partition(":")[2])
            switched_on = parse_cpu_list(online)
            return len(allowed & switched_on if switched_on else allowed) or None
    return None


def _read_affinity(host: Host) -> int | None:
    if host.system != "linux":
        return host.affinity()
    recorded = parse_affinity(host.read("/proc/self/status") or "", host.read("/sys/devices/system/cpu/online") or "")
    return recorded or host.affinity()


def _why_no_quota(host: Host) -> str:
    if host.system == "linux":
        return "the CPU quota is unknown: /proc/self/cgroup cannot be read"
    return f"no CPU quota is read on {host.system}: it has no control groups"
