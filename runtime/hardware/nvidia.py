"""NVIDIA GPUs: asked of NVML where its Python binding is installed, else of nvidia-smi, else the reason why not.

NVML starts in under a millisecond where there is no driver; with a driver that is not in persistence mode the first
question wakes the GPU, which takes as long as it takes.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Final

from runtime.hardware.accelerators import NVIDIA_GPU, Gpu, nvidia_in_registry, nvidia_on_pci
from runtime.hardware.host import Host, parse_number
from runtime.hardware.missing import Missing

MIB: Final = 1024 * 1024
SMI_FIELDS: Final = ("name", "memory.total", "driver_version", "compute_cap")
SMI_OLD_FIELDS: Final = SMI_FIELDS[:3]
"""nvidia-smi refuses the whole query when it does not know compute_cap, which came with driver 510."""


@dataclass(frozen=True, slots=True)
class _Answer:
    """GPUs, or what went wrong (both empty: it answered, and there is none)."""

    gpus: tuple[Gpu, ...] = ()
    problem: str | None = None


def read_nvidia_gpus(host: Host) -> tuple[tuple[Gpu, ...], Missing | None]:
    """The NVIDIA GPUs of `host`, or why there is none to use."""
    if host.system == "darwin":
        return (), Missing(NVIDIA_GPU, "no NVIDIA GPU: macOS has no driver for one")
    nvml = host.nvml()
    by_nvml = _Answer(problem="nvidia-ml-py or the driver's NVML is not installed") if nvml is None else _ask_nvml(nvml)
    if by_nvml.problem is None:
        return _or_none_found(by_nvml.gpus, "NVML")
    by_smi = _ask_smi(host)
    if by_smi.problem is None:
        return _or_none_found(by_smi.gpus, "nvidia-smi")
    return (), Missing(NVIDIA_GPU, _why_none(host, by_nvml.problem, by_smi.problem))


def _or_none_found(gpus: tuple[Gpu, ...], asked: str) -> tuple[tuple[Gpu, ...], Missing | None]:
    if gpus:
        return gpus, None
    return (), Missing(NVIDIA_GPU, f"no NVIDIA GPU: the driver is installed, but {asked} lists no GPU for this process")


def _why_none(host: Host, nvml_problem: str, smi_problem: str) -> str:
    said = f"{nvml_problem}; {smi_problem}"
    if nvidia_on_pci(host):
        return (
            f"an NVIDIA GPU is on the PCI bus, but no driver answers ({said}): install NVIDIA's driver, "
            "or give the container the GPU (docker run --gpus all)"
        )
    if nvidia_in_registry(host):
        return f"an NVIDIA GPU has a display driver, but it does not answer ({said}): reinstall NVIDIA's driver"
    return f"no NVIDIA GPU: no driver answers ({said})"


def _ask_nvml(nvml: ModuleType) -> _Answer:
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        return _Answer(problem=f"NVML says: {error}")
    try:
        driver = _text(nvml.nvmlSystemGetDriverVersion())
        handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
        return _Answer(gpus=tuple(_nvml_gpu(nvml, handle, driver) for handle in handles))
    except nvml.NVMLError as error:
        return _Answer(problem=f"NVML says: {error}")
    finally:
        nvml.nvmlShutdown()


def read_used_gpu_bytes(host: Host) -> int | None:
    """Memory in use on all NVIDIA GPUs, by whomever; None where NVML does not tell.

    Of the device and not of a process: in a container NVML knows its processes by other numbers, if at all.
    """
    nvml = host.nvml()
    if nvml is None:
        return None
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:
        return None
    try:
        handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
        return sum(int(nvml.nvmlDeviceGetMemoryInfo(handle).used) for handle in handles) if handles else None
    except nvml.NVMLError:
        return None
    finally:
        nvml.nvmlShutdown()


def _nvml_gpu(nvml: ModuleType, handle: object, driver: str) -> Gpu:
    try:
        memory_bytes = int(nvml.nvmlDeviceGetMemoryInfo(handle).total)
    except nvml.NVMLError:  # a GPU that shares the machine's memory (Jetson, GB10) does not support the question
        memory_bytes = None
    try:
        major, minor = nvml.nvmlDeviceGetCudaComputeCapability(handle)
        capability = f"{major}.{minor}"
    except nvml.NVMLError:
        capability = None
    return Gpu("NVIDIA", _text(nvml.nvmlDeviceGetName(handle)), memory_bytes, driver, capability, "NVML")


def _text(value: str | bytes) -> str:
    """NVML's strings: bytes before nvidia-ml-py 12, text since."""
    return value.decode("utf-8", errors="replace") if isinstance(value, bytes) else value


def _ask_smi(host: Host) -> _Answer:
    problem: str | None = None
    for fields in (SMI_FIELDS, SMI_OLD_FIELDS):
        output = host.run(["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits"])
        if output.error is None:
            return _Answer(gpus=parse_smi(output.stdout))
        problem = problem or output.error
        if "compute_cap" not in output.error:
            break
    return _Answer(problem=problem)


def parse_smi(text: str) -> tuple[Gpu, ...]:
    """The lines of `nvidia-smi --query-gpu=name,memory.total,driver_version[,compute_cap]` as CSV without units (MiB).

    `[N/A]` and the like are unknown; a line that is no such row ("No devices were found") is left out.
    """
    gpus = []
    for line in text.splitlines():
        words = [word.strip() for word in line.split(",")]
        if len(words) not in (len(SMI_OLD_FIELDS), len(SMI_FIELDS)) or not words[0]:
            continue
        name, memory, driver, *rest = words
        mebibytes = parse_number(memory)
        gpus.append(
            Gpu(
                vendor="NVIDIA",
                name=name,
                memory_bytes=None if mebibytes is None else mebibytes * MIB,
                driver=_known(driver),
                compute_capability=_known(rest[0]) if rest else None,
                seen_by="nvidia-smi",
            )
        )
    return tuple(gpus)


def _known(word: str) -> str | None:
    return None if not word or word.startswith("[") or word == "N/A" else word
