"""What this machine is, read once, as one value.

The probe reads files and asks the system; it starts no inference engine and measures nothing.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any, Final

from runtime.hardware.accelerators import Accelerators, read_npus, read_other_gpus
from runtime.hardware.cgroup import read_limits
from runtime.hardware.cores import AllowedCores, read_allowed_cores
from runtime.hardware.cpu import Cpu, read_cpu
from runtime.hardware.describe import describe
from runtime.hardware.host import Host
from runtime.hardware.memory import Memory, read_memory
from runtime.hardware.missing import Missing
from runtime.hardware.nvidia import read_nvidia_gpus
from runtime.hardware.power import Power, read_power

FINGERPRINT_VERSION: Final = 1
"""Part of what is hashed: raise it when the facts below change, so that old calibrations are not taken for new ones."""


@dataclass(frozen=True, slots=True)
class Os:
    """The operating system: `sys.platform`'s word, its name for people (None: unknown), the kernel's release."""

    system: str
    name: str | None
    release: str


@dataclass(frozen=True, slots=True)
class Hardware:
    """One machine as this process may use it. `memory.available_bytes` and `power` are of the moment of the probe."""

    os: Os
    arch: str
    cpu: Cpu
    cores: AllowedCores
    memory: Memory
    accelerators: Accelerators
    power: Power

    @property
    def missing(self) -> tuple[Missing, ...]:
        """Everything that is absent or unknown, with its reason."""
        parts = (self.cpu, self.cores, self.memory, self.accelerators, self.power)
        return tuple(missing for part in parts for missing in part.missing)

    def fingerprint(self) -> str:
        """32 hexadecimal digits that change when a choice of backend made on this machine may no longer hold.

        Of the system, the processor, its instruction sets, the cores allowed, and the accelerators with their drivers.
        Not of memory in use, battery, clock or heat: those change while the choice stands.
        """
        facts = {
            "version": FINGERPRINT_VERSION,
            "system": self.os.system,
            "arch": self.arch,
            "cpu": [self.cpu.model, self.cpu.signature, self.cpu.logical_cores, self.cpu.physical_cores],
            "features": sorted(self.cpu.features),
            "cores": [round(self.cores.cores, 2), self.cores.threads],
            "gpus": sorted(
                [gpu.vendor, gpu.name, gpu.driver or "", gpu.compute_capability or ""] for gpu in self.accelerators.gpus
            ),
            "npus": sorted([npu.vendor, npu.name, npu.driver or ""] for npu in self.accelerators.npus),
        }
        canonical = json.dumps(facts, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:32]

    def to_dict(self) -> dict[str, Any]:
        """Every fact and the fingerprint, in types that `json` writes."""
        facts: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return {**facts, "fingerprint": self.fingerprint()}

    def to_json(self) -> str:
        """`to_dict` as indented JSON."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False)

    def describe(self) -> list[tuple[str, str]]:
        """(fact, value) lines for people, reasons included."""
        return describe(self)


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
