"""What this machine is, read once, as values: processor, cores and memory allowed, GPUs, NPUs, power.

    from runtime.hardware import describe, probe
    hardware = probe()
    for fact, value in describe(hardware):
        print(f"{fact}: {value}")

Read upwards from `missing` (a fact that is not there) and `host` (where facts come from) to `probing`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runtime.hardware.accelerators import Accelerators, Gpu, Npu
    from runtime.hardware.cores import AllowedCores
    from runtime.hardware.cpu import Cpu
    from runtime.hardware.describing import describe
    from runtime.hardware.heat import Heat, read_heat
    from runtime.hardware.host import Host
    from runtime.hardware.isa import IsaFeature
    from runtime.hardware.machine import Hardware, Os
    from runtime.hardware.memory import Memory
    from runtime.hardware.missing import Missing, reason_for
    from runtime.hardware.power import Power
    from runtime.hardware.probing import probe
    from runtime.hardware.stamp import read_stamp

__all__ = [
    "Accelerators",
    "AllowedCores",
    "Cpu",
    "Gpu",
    "Hardware",
    "Heat",
    "Host",
    "IsaFeature",
    "Memory",
    "Missing",
    "Npu",
    "Os",
    "Power",
    "describe",
    "probe",
    "read_heat",
    "read_stamp",
    "reason_for",
]

_HOMES = {
    "Accelerators": "runtime.hardware.accelerators",
    "AllowedCores": "runtime.hardware.cores",
    "Cpu": "runtime.hardware.cpu",
    "Gpu": "runtime.hardware.accelerators",
    "Hardware": "runtime.hardware.machine",
    "Heat": "runtime.hardware.heat",
    "Host": "runtime.hardware.host",
    "IsaFeature": "runtime.hardware.isa",
    "Memory": "runtime.hardware.memory",
    "Missing": "runtime.hardware.missing",
    "Npu": "runtime.hardware.accelerators",
    "Os": "runtime.hardware.machine",
    "Power": "runtime.hardware.power",
    "describe": "runtime.hardware.describing",
    "probe": "runtime.hardware.probing",
    "read_heat": "runtime.hardware.heat",
    "read_stamp": "runtime.hardware.stamp",
    "reason_for": "runtime.hardware.missing",
}


def __getattr__(name: str) -> Any:
    """Names are fetched when they are first used: who loads a model that was measured needs few of them."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value
