"""What this machine is, read once, as one value.

The probe reads files and asks the system; it starts no inference engine and measures nothing.
"""

from __future__ import annotations

from runtime.hardware.accelerators import Accelerators, read_other_gpus
from runtime.hardware.cgroup import read_limits
from runtime.hardware.cores import read_allowed_cores
from runtime.hardware.cpu import read_cpu
from runtime.hardware.host import Host
from runtime.hardware.machine import Hardware, Os
from runtime.hardware.memory import read_memory
from runtime.hardware.npus import read_npus
from runtime.hardware.nvidia import read_nvidia_gpus
from runtime.hardware.power import read_power


def probe(host: Host | None = None) -> Hardware:
    """The machine this process runs on, or the recorded one that `host` describes.

    Takes milliseconds (longer only where an NVIDIA driver has to wake its GPU). Any thread may call it. It raises
    nothing for a fact it cannot learn: the fact is None, and `missing` says why.
    """
    if host is None:
        host = Host.this_machine()
    limits = read_limits(host)
    cpu = read_cpu(host)
    return Hardware(
        os=Os(host.system, _os_name(host), host.release),
        arch=host.arch,
        cpu=cpu,
        cores=read_allowed_cores(host, cpu, limits),
        memory=read_memory(host, limits),
        accelerators=_read_accelerators(host),
        power=read_power(host),
    )


def _read_accelerators(host: Host) -> Accelerators:
    nvidia, why_no_nvidia = read_nvidia_gpus(host)
    others, why_no_others = read_other_gpus(host)
    npus, why_no_npu = read_npus(host)
    reasons = (why_no_nvidia, why_no_others, why_no_npu)
    return Accelerators(nvidia + others, npus, tuple(reason for reason in reasons if reason is not None))


def _os_name(host: Host) -> str | None:
    """PRETTY_NAME of os-release(5) on Linux, the family's name elsewhere."""
    if host.system != "linux":
        return {"darwin": "macOS", "win32": "Windows"}.get(host.system)
    for line in (host.read("/etc/os-release") or "").splitlines():
        key, _, value = line.partition("=")
        if key == "PRETTY_NAME":
            return value.strip().strip("\"'") or "Linux"
    return "Linux"
