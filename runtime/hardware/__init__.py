"""What this machine is, read once, as values: processor, cores and memory allowed, GPUs, NPUs, power.

    from runtime.hardware import describe, probe
    hardware = probe()
    for fact, value in describe(hardware):
        print(f"{fact}: {value}")

Read upwards from `missing` (a fact that is not there) and `host` (where facts come from) to `probe`.
"""

from runtime.hardware.accelerators import Accelerators, Gpu, Npu
from runtime.hardware.cores import AllowedCores
from runtime.hardware.cpu import Cpu
from runtime.hardware.describe import describe
from runtime.hardware.host import Host
from runtime.hardware.isa import IsaFeature
from runtime.hardware.machine import Hardware, Os
from runtime.hardware.memory import Memory
from runtime.hardware.missing import Missing, reason_for
from runtime.hardware.power import Power
from runtime.hardware.probe import probe
from runtime.hardware.stamp import read_stamp

__all__ = [
    "Accelerators",
    "AllowedCores",
    "Cpu",
    "Gpu",
    "Hardware",
    "Host",
    "IsaFeature",
    "Memory",
    "Missing",
    "Npu",
    "Os",
    "Power",
    "describe",
    "probe",
    "read_stamp",
    "reason_for",
]
