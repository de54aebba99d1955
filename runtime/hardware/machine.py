"""A machine as one value: what the probe found, its fingerprint, and its JSON."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any, Final

from runtime.hardware.accelerators import Accelerators
from runtime.hardware.cores import AllowedCores
from runtime.hardware.cpu import Cpu
from runtime.hardware.memory import Memory
from runtime.hardware.missing import Missing
from runtime.hardware.power import Power

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
