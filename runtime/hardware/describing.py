"""A probed machine in lines for people: (fact, value) pairs, every absent thing with its reason."""

from __future__ import annotations

from typing import Final

from runtime.hardware.accelerators import Gpu, Npu
from runtime.hardware.gpu_heat import GpuHeat
from runtime.hardware.heat import Heat
from runtime.hardware.machine import Hardware
from runtime.hardware.missing import reason_for

UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")

Line = tuple[str, str]


def describe(hardware: Hardware, heat: Heat | None = None) -> list[Line]:
    """The lines, in the order a reader asks: system, processor, cores, memory, GPUs, NPUs, power, heat where it was read."""
    return [
        *_system(hardware),
        *_processor(hardware),
        *_cores(hardware),
        *_memory(hardware),
        *_accelerators(hardware),
        *_power(hardware),
        *([] if heat is None else _heat(heat)),
        ("fingerprint", hardware.fingerprint()),
    ]


def format_bytes(size_bytes: int | None) -> str:
    """`16.0 GiB`; `unknown` for None."""
    if size_bytes is None:
        return "unknown"
    size = float(size_bytes)
    for unit in UNITS[:-1]:
        if size < 1024:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} {UNITS[-1]}"


def _system(hardware: Hardware) -> list[Line]:
    system = hardware.os
    words = [system.name or system.system, system.release, hardware.arch]
    return [("system", ", ".join(word for word in words if word))]


def _processor(hardware: Hardware) -> list[Line]:
    cpu = hardware.cpu
    physical = "unknown" if cpu.physical_cores is None else str(cpu.physical_cores)
    logical = "unknown" if cpu.logical_cores is None else str(cpu.logical_cores)
    lines = [
        ("processor", cpu.model or reason_for(cpu.missing, "processor model") or "unknown"),
        ("cores", f"{physical} physical, {logical} logical"),
        ("instruction sets", ", ".join(cpu.features) or "none known"),
    ]
    if reason := reason_for(cpu.missing, "instruction sets"):
        lines.append(("instruction sets, unknown", reason))
    return lines


def _cores(hardware: Hardware) -> list[Line]:
    allowed = hardware.cores
    limits = []
    if allowed.affinity_cores is not None:
        limits.append(f"affinity {allowed.affinity_cores}")
    if allowed.quota_cores is not None:
        limits.append(f"quota {allowed.quota_cores:g} by {allowed.quota_source}")
    elif reason := reason_for(allowed.missing, "CPU quota"):
        limits.append(reason)
    else:
        limits.append("no quota")
    if reason := reason_for(allowed.missing, "allowed cores"):
        limits.append(reason)
    threads = "1 thread" if allowed.threads == 1 else f"{allowed.threads} threads"
    return [("cores allowed", f"{allowed.cores:g}, so {threads} ({'; '.join(limits)})")]


def _memory(hardware: Hardware) -> list[Line]:
    memory = hardware.memory
    if memory.limit_bytes is not None:
        limit = f"limit {format_bytes(memory.limit_bytes)} by {memory.limit_source}"
    else:
        limit = reason_for(memory.missing, "memory limit") or "no limit"
    total = reason_for(memory.missing, "memory") or format_bytes(memory.total_bytes)
    return [
        ("memory", total),
        ("memory allowed", f"{format_bytes(memory.allowed_bytes)} ({limit})"),
        ("memory available", format_bytes(memory.available_bytes)),
    ]


def _accelerators(hardware: Hardware) -> list[Line]:
    accelerators = hardware.accelerators
    lines = [(f"{gpu.vendor} GPU", _gpu(gpu)) for gpu in accelerators.gpus]
    lines += [("NPU", _npu(npu)) for npu in accelerators.npus]
    return lines + [(missing.fact, missing.reason) for missing in accelerators.missing]


def _gpu(gpu: Gpu) -> str:
    words = [gpu.name]
    if gpu.memory_bytes is not None:
        words.append(format_bytes(gpu.memory_bytes))
    if gpu.driver is not None:
        words.append(f"driver {gpu.driver}")
    if gpu.compute_capability is not None:
        words.append(f"compute capability {gpu.compute_capability}")
    if gpu.note is not None:
        words.append(gpu.note)
    return ", ".join(words)


def _npu(npu: Npu) -> str:
    words = [npu.name]
    if npu.driver is not None:
        words.append(f"driver {npu.driver}")
    if npu.note is not None:
        words.append(npu.note)
    return ", ".join(words)


def _power(hardware: Hardware) -> list[Line]:
    power = hardware.power
    percent = "" if power.battery_percent is None else f", battery at {power.battery_percent:.0f} %"
    if power.on_battery is None or (not power.on_battery and not percent):
        source = reason_for(power.missing, "battery") or "unknown"
    else:
        source = "battery" if power.on_battery else "mains"
    clock = power.governor or reason_for(power.missing, "governor") or "unknown"
    if power.is_clock_capped:
        clock += f", capped at {power.clock_limit_mhz:.0f} of {power.clock_max_mhz:.0f} MHz"
    if power.throttle_events is None:
        throttling = reason_for(power.missing, "throttling") or "unknown"
    else:
        throttling = f"{power.throttle_events} times since boot"
    return [("power", source + percent), ("clock governor", clock), ("slowed by heat", throttling)]


def _heat(heat: Heat) -> list[Line]:
    if heat.temperature_c is None:
        temperature = reason_for(heat.missing, "temperature") or "unknown"
    else:
        temperature = f"{heat.temperature_c:.0f} °C ({heat.zone})"
    if heat.slowed_by is None:
        slowed = reason_for(heat.missing, "slowdown") or "unknown"
    else:
        slowed = ", ".join(heat.slowed_by) or "nothing"
    lines = [("temperature", temperature), ("slowed now by", slowed)]
    if heat.since_boot is not None:
        lines.append(("slowed since boot by", ", ".join(heat.since_boot) or "nothing"))
    return lines + [(f"heat of {gpu.name}", _gpu_heat(gpu)) for gpu in heat.gpus]


def _gpu_heat(gpu: GpuHeat) -> str:
    degrees = "temperature unknown" if gpu.temperature_c is None else f"{gpu.temperature_c:.0f} °C"
    if gpu.slowed_by is None:
        return f"{degrees}, whether it is slowed is unknown"
    return f"{degrees}, slowed now by {', '.join(gpu.slowed_by) or 'nothing'}"
