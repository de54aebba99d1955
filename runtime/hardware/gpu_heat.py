"""How hot NVIDIA GPUs are, and what holds their clocks down: asked of NVML, else of nvidia-smi."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Final

from runtime.hardware.host import Host

GPU_BITS: Final[Mapping[int, str]] = {
    0x04: "its power limit",
    0x08: "a hardware slowdown",
    0x20: "heat (software)",
    0x40: "heat (hardware)",
    0x80: "the power supply",
}
"""nvmlClocksThrottleReasons of nvml.h (nvmlClocksEventReasons since driver 535) that hold the clock down against the user's will:
an idle GPU (1), or a clock that somebody set (2, 0x10, 0x100), is no trouble."""
GPU_TEMPERATURE: Final = 0
"""NVML_TEMPERATURE_GPU."""
SMI_REASONS: Final = ("clocks_event_reasons.active", "clocks_throttle_reasons.active")
"""The field's name since driver 535, and before."""


@dataclass(frozen=True, slots=True)
class GpuHeat:
    """One GPU: its temperature, and what holds its clock down (empty: nothing); None where it does not tell."""

    name: str
    temperature_c: float | None
    slowed_by: tuple[str, ...] | None


def read_gpu_heat(host: Host) -> tuple[GpuHeat, ...]:
    """The NVIDIA GPUs of `host`; none where no driver answers."""
    if host.system == "darwin":
        return ()
    nvml = host.nvml()
    by_nvml = None if nvml is None else _by_nvml(nvml)
    return _by_smi(host) if by_nvml is None else by_nvml


def _by_nvml(nvml: ModuleType) -> tuple[GpuHeat, ...] | None:
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:
        return None
    try:
        handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
        return tuple(_gpu(nvml, handle) for handle in handles)
    except nvml.NVMLError:
        return None
    finally:
        nvml.nvmlShutdown()


def _gpu(nvml: ModuleType, handle: object) -> GpuHeat:
    name = nvml.nvmlDeviceGetName(handle)
    try:
        temperature_c = float(nvml.nvmlDeviceGetTemperature(handle, GPU_TEMPERATURE))
    except nvml.NVMLError:
        temperature_c = None
    # The older name is there in every version of the binding (nvidia-ml-py 13).
    try:
        slowed_by = _gpu_reasons(int(nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle)))
    except nvml.NVMLError:
        slowed_by = None
    return GpuHeat(name.decode(errors="replace") if isinstance(name, bytes) else name, temperature_c, slowed_by)


def _gpu_reasons(bits: int) -> tuple[str, ...]:
    return tuple(what for bit, what in GPU_BITS.items() if bits & bit)


def _by_smi(host: Host) -> tuple[GpuHeat, ...]:
    for reasons in SMI_REASONS:
        fields = f"--query-gpu=name,temperature.gpu,{reasons}"
        output = host.run(["nvidia-smi", fields, "--format=csv,noheader,nounits"])
        if output.error is None:
            return parse_smi_heat(output.stdout)
        if reasons not in output.error:
            break
    return ()


def parse_smi_heat(text: str) -> tuple[GpuHeat, ...]:
    """The lines of `nvidia-smi --query-gpu=name,temperature.gpu,clocks_throttle_reasons.active` as CSV without units."""
    gpus = []
    for line in text.splitlines():
        name, _, rest = line.partition(",")
        words = [word.strip() for word in rest.split(",")]
        if len(words) != 2 or not name:
            continue
        temperature_c = float(words[0]) if re.fullmatch(r"-?\d{1,3}", words[0]) else None
        is_mask = re.fullmatch(r"0x[0-9a-fA-F]{1,16}", words[1]) is not None
        gpus.append(GpuHeat(name.strip(), temperature_c, _gpu_reasons(int(words[1], 16)) if is_mask else None))
    return tuple(gpus)
