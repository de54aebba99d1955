"""GPUs and NPUs: which ones this machine has, and for each kind it lacks, why.

NVIDIA's GPUs are in `nvidia`, NPUs in `npus`; here is what Linux, macOS and Windows tell about other GPUs without starting them.
Whether a backend can use one is the backend's question.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from runtime.hardware.host import Host
from runtime.hardware.missing import Missing, reason_for

NVIDIA_GPU: Final = "NVIDIA GPU"
OTHER_GPU: Final = "other GPU"
NPU: Final = "NPU"

# PCI vendor ids (pcisig.com). The display chips of servers and virtual machines only paint a console.
PCI_VENDORS: Final[Mapping[int, str]] = {
    0x10DE: "NVIDIA",
    0x8086: "Intel",
    0x1002: "AMD",
    0x1022: "AMD",
    0x1DA3: "Habana",
    0x17CB: "Qualcomm",
}
CONSOLE_VENDORS: Final[Mapping[int, str]] = {
    0x1A03: "ASPEED",
    0x102B: "Matrox",
    0x1AF4: "virtio",
    0x1B36: "QEMU",
    0x1234: "QEMU",
    0x15AD: "VMware",
    0x80EE: "VirtualBox",
    0x1414: "Hyper-V",
}
NVIDIA_VENDOR: Final = 0x10DE
NPU_DRIVERS: Final = frozenset({"RKNPU"})
"""Of neural processors that Linux lists among the graphics cards: Rockchip's own kernels do."""

# Device setup classes: https://learn.microsoft.com/windows-hardware/drivers/install/system-defined-device-setup-classes-available-to-vendors
WINDOWS_CLASS: Final = r"SYSTEM\CurrentControlSet\Control\Class"
WINDOWS_DISPLAY: Final = rf"{WINDOWS_CLASS}\{{4d36e968-e325-11ce-bfc1-08002be10318}}"
WINDOWS_MAX_ADAPTERS: Final = 16


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU. `compute_capability` is NVIDIA's (`"9.0"`); `memory_bytes` is None where it is shared or not told.

    `note` says what keeps it from being used, where that is already plain (None: nothing is).
    """

    vendor: str
    name: str
    memory_bytes: int | None
    driver: str | None
    compute_capability: str | None
    seen_by: str
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Npu:
    """One neural processor: what the operating system calls it and the driver behind it."""

    vendor: str
    name: str
    driver: str | None
    seen_by: str
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Accelerators:
    """GPUs and NPUs seen, and a reason for each kind that was not."""

    gpus: tuple[Gpu, ...]
    npus: tuple[Npu, ...]
    missing: tuple[Missing, ...] = ()

    @property
    def why_no_nvidia(self) -> str | None:
        """Why there is no NVIDIA GPU to use; None when there is one."""
        return reason_for(self.missing, NVIDIA_GPU)


def read_other_gpus(host: Host) -> tuple[tuple[Gpu, ...], Missing | None]:
    """The GPUs that are not NVIDIA's, or why there are none."""
    if host.system == "linux":
        return _linux_gpus(host)
    if host.system == "darwin":
        return _macos_gpus(host)
    if host.system == "win32":
        return _windows_gpus(host)
    return (), Missing(OTHER_GPU, f"other GPUs are unknown: {host.system} is not asked for them")


# Linux


def _linux_gpus(host: Host) -> tuple[tuple[Gpu, ...], Missing | None]:
    gpus = []
    consoles = []
    for card in host.names("/sys/class/drm"):
        if not (card.startswith("card") and card[4:].isdigit()):  # card0-HDMI-A-1 is a plug, renderD128 the same GPU
            continue
        device = f"/sys/class/drm/{card}/device"
        vendor = parse_hex(host.read(f"{device}/vendor"))
        driver = driver_of(host, device)
        if vendor == NVIDIA_VENDOR or driver in NPU_DRIVERS:
            continue
        if vendor in CONSOLE_VENDORS or driver == "simple-framebuffer":
            consoles.append(f"{CONSOLE_VENDORS.get(vendor or 0, 'firmware')} display {card}")
            continue
        gpus.append(_linux_gpu(host, device, vendor, driver))
    if gpus:
        return tuple(gpus), None
    if consoles:
        return (), Missing(OTHER_GPU, f"no other GPU: {', '.join(consoles)} only shows a console")
    return (), Missing(OTHER_GPU, "no other GPU: the kernel lists no graphics card in /sys/class/drm")


def _linux_gpu(host: Host, device: str, vendor: int | None, driver: str | None) -> Gpu:
    maker = vendor_name(vendor, driver)
    product = host.read(f"{device}/product_name")  # amdgpu
    device_id = host.read(f"{device}/device")
    reachable = any(name.startswith("renderD") for name in host.names("/dev/dri"))
    return Gpu(
        vendor=maker,
        name=product or f"{maker} GPU" + (f" {device_id}" if device_id else ""),
        memory_bytes=host.read_number(f"{device}/mem_info_vram_total"),  # amdgpu
        driver=driver,
        compute_capability=None,
        seen_by="/sys/class/drm",
        note=None if reachable else "this process has no device file for it: /dev/dri/renderD* is missing",
    )


def nvidia_on_pci(host: Host) -> bool:
    """Whether Linux sees an NVIDIA display or 3D controller on the PCI bus, with or without a driver."""
    base = "/sys/bus/pci/devices"
    return any(
        (host.read(f"{base}/{name}/class") or "").startswith("0x03")  # base class 03h: display controller
        and parse_hex(host.read(f"{base}/{name}/vendor")) == NVIDIA_VENDOR
        for name in host.names(base)
    )


def driver_of(host: Host, device: str) -> str | None:
    """The kernel driver of a device of sysfs; None where none is bound."""
    for line in (host.read(f"{device}/uevent") or "").splitlines():
        key, _, value = line.partition("=")
        if key == "DRIVER" and value:
            return value
    return None


def vendor_name(vendor: int | None, driver: str | None) -> str:
    """Who made it, by its PCI vendor id; what is on a chip is named by its driver."""
    if vendor is None:  # on a chip rather than on PCI: v3d, panfrost, msm, rocket
        return driver or "unknown"
    return PCI_VENDORS.get(vendor, f"vendor {vendor:#06x}")


def parse_hex(text: str | None) -> int | None:
    """`0x8086` as a number; None for anything else."""
    try:
        return int(text, 16) if text else None
    except ValueError:
        return None


# macOS


def on_apple_silicon(host: Host) -> bool:
    """Whether the machine is an Apple silicon Mac, also when this Python is an Intel one under Rosetta."""
    if host.arch == "aarch64":
        return True
    return host.run(["sysctl", "-n", "sysctl.proc_translated"]).stdout.strip() == "1"


def _macos_gpus(host: Host) -> tuple[tuple[Gpu, ...], Missing | None]:
    if not on_apple_silicon(host):
        return (), Missing(OTHER_GPU, "the GPUs of an Intel Mac are unknown: asking system_profiler takes seconds")
    chip = host.run(["sysctl", "-n", "machdep.cpu.brand_string"]).stdout.strip() or "Apple silicon"
    return (Gpu("Apple", f"{chip} GPU", None, "Metal", None, "every Apple silicon Mac has one"),), None


# Windows


def _windows_gpus(host: Host) -> tuple[tuple[Gpu, ...], Missing | None]:
    gpus = []
    for values in windows_adapters(host, WINDOWS_DISPLAY):
        name, maker = text_of(values, "DriverDesc"), text_of(values, "ProviderName")
        if name is None or _is_software_adapter(name, maker) or "nvidia" in f"{maker} {name}".lower():
            continue
        memory = values.get("HardwareInformation.qwMemorySize")
        gpus.append(
            Gpu(
                vendor=windows_vendor(maker, name),
                name=name,
                memory_bytes=memory if isinstance(memory, int) and memory > 0 else None,
                driver=text_of(values, "DriverVersion"),
                compute_capability=None,
                seen_by="the Windows registry",
            )
        )
    return tuple(gpus), None if gpus else Missing(OTHER_GPU, "no other GPU: the registry lists no other display driver")


def nvidia_in_registry(host: Host) -> bool:
    """Whether Windows has a display driver for an NVIDIA GPU."""
    return any(
        "nvidia" in f"{text_of(values, 'ProviderName')} {text_of(values, 'DriverDesc')}".lower()
        for values in windows_adapters(host, WINDOWS_DISPLAY)
    )


def windows_adapters(host: Host, key: str) -> list[Mapping[str, object]]:
    """The registry's values of every driver of a device class."""
    return [host.registry(rf"{key}\{index:04d}") for index in range(WINDOWS_MAX_ADAPTERS)]


def _is_software_adapter(name: str, maker: str | None) -> bool:
    return maker == "Microsoft" or name.startswith("Microsoft ")


def windows_vendor(maker: str | None, name: str) -> str:
    """Who made it, by what its driver calls it."""
    said = f"{maker or ''} {name}".lower()
    known = {"intel": "Intel", "advanced micro": "AMD", "amd": "AMD", "radeon": "AMD", "qualcomm": "Qualcomm"}
    return next((vendor for word, vendor in known.items() if word in said), maker or "unknown")


def text_of(values: Mapping[str, object], name: str) -> str | None:
    """A value of the registry that is a text, stripped; None for anything else."""
    value = values.get(name)
    return value.strip() or None if isinstance(value, str) else None
