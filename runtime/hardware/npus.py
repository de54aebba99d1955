"""Neural processors: which ones this machine has, or why none is known. What the system lists, without starting them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from runtime.hardware.accelerators import (
    NPU,
    NPU_DRIVERS,
    WINDOWS_CLASS,
    Npu,
    driver_of,
    on_apple_silicon,
    parse_hex,
    text_of,
    vendor_name,
    windows_adapters,
    windows_vendor,
)
from runtime.hardware.host import Host
from runtime.hardware.missing import Missing

WINDOWS_COMPUTE: Final = rf"{WINDOWS_CLASS}\{{f01a9d53-3ff6-48d2-9f97-c8a7004be10c}}"


@dataclass(frozen=True, slots=True)
class _Known:
    """A neural processor whose driver makes a device file of its own."""

    file: str
    """How its name in /dev begins; a number may follow."""
    vendor: str
    name: str
    driver: str


DEVICE_FILES: Final = (
    _Known("apex_", "Google", "Coral Edge TPU", "apex"),
    _Known("hailo", "Hailo", "Hailo accelerator", "hailo_pci"),
    _Known("rknpu", "Rockchip", "Rockchip NPU", "rknpu"),
    _Known("ethosn", "Arm", "Ethos-N", "ethosn"),
    _Known("ethosu", "Arm", "Ethos-U", "ethosu"),
    _Known("galcore", "VeriSilicon", "Vivante NPU or GPU", "galcore"),
    _Known("fastrpc-cdsp", "Qualcomm", "Hexagon", "fastrpc"),
)
"""Drivers outside Linux' accel class: google/gasket-driver, hailo-ai/hailort-drivers, Rockchip's, Arm's and Qualcomm's kernels."""
USB: Final[Mapping[tuple[str, str], tuple[str, str]]] = {
    ("1a6e", "089a"): ("Google", "Coral USB accelerator"),
    ("18d1", "9302"): ("Google", "Coral USB accelerator"),
    ("03e7", "2485"): ("Intel", "Neural Compute Stick 2"),
}
"""By vendor and product, as lsusb writes them; a Coral changes both when it is first used."""


def read_npus(host: Host) -> tuple[tuple[Npu, ...], Missing | None]:
    """The neural processors, or why there are none."""
    if host.system == "linux":
        return _linux_npus(host)
    if host.system == "darwin":
        return _macos_npus(host)
    if host.system == "win32":
        return _windows_npus(host)
    return (), Missing(NPU, f"NPUs are unknown: {host.system} is not asked for them")


# Linux


def _linux_npus(host: Host) -> tuple[tuple[Npu, ...], Missing | None]:
    npus = [*_by_device_file(host), *_by_usb(host), *_among_graphics_cards(host)]
    nodes = set(host.names("/dev/accel")) | {name for name in host.names("/dev") if name.startswith("accel")}
    for name in host.names("/sys/class/accel"):
        if not (name.startswith("accel") and name[5:].isdigit()):
            continue
        device = f"/sys/class/accel/{name}/device"
        driver = driver_of(host, device)
        maker = vendor_name(parse_hex(host.read(f"{device}/vendor")), driver)
        device_id = host.read(f"{device}/device")
        npus.append(
            Npu(
                vendor=maker,
                name=f"{maker} accelerator" + (f" {device_id}" if device_id else ""),
                driver=driver,
                seen_by="/sys/class/accel",
                note=None if name in nodes else f"this process has no device file for it: /dev/accel/{name} is missing",
            )
        )
    if npus:
        return tuple(npus), None
    if any(name[5:].isdigit() for name in nodes):
        return (), Missing(NPU, "NPUs are unknown: there is a /dev/accel*, but no /sys/class/accel to say what it is")
    return (), Missing(
        NPU, "no NPU: the kernel lists none in /sys/class/accel, and there is no device file of a known one"
    )


def _by_device_file(host: Host) -> Iterator[Npu]:
    for name in host.names("/dev"):
        for known in DEVICE_FILES:
            rest = name.removeprefix(known.file)
            if rest != name and (not rest or rest.isdigit()):
                yield Npu(known.vendor, known.name, known.driver, f"/dev/{name}")


def _by_usb(host: Host) -> Iterator[Npu]:
    base = "/sys/bus/usb/devices"
    for device in host.names(base):
        made = host.read(f"{base}/{device}/idVendor") or "", host.read(f"{base}/{device}/idProduct") or ""
        if made in USB:
            yield Npu(*USB[made], driver=None, seen_by=base)


def _among_graphics_cards(host: Host) -> Iterator[Npu]:
    base = "/sys/class/drm"
    for card in host.names(base):
        if card.startswith("card") and card[4:].isdigit():
            driver = driver_of(host, f"{base}/{card}/device")
            if driver in NPU_DRIVERS:
                yield Npu("Rockchip", "Rockchip NPU", driver, base)


# macOS


def _macos_npus(host: Host) -> tuple[tuple[Npu, ...], Missing | None]:
    if not on_apple_silicon(host):
        return (), Missing(NPU, "no NPU: Intel Macs have none")
    return (Npu("Apple", "Apple Neural Engine", "Core ML", "every Apple silicon Mac has one"),), None


# Windows


def _windows_npus(host: Host) -> tuple[tuple[Npu, ...], Missing | None]:
    npus = tuple(
        Npu(
            vendor=windows_vendor(text_of(values, "ProviderName"), name),
            name=name,
            driver=text_of(values, "DriverVersion"),
            seen_by="the Windows registry",
        )
        for values in windows_adapters(host, WINDOWS_COMPUTE)
        if (name := text_of(values, "DriverDesc")) is not None
    )
    return npus, None if npus else Missing(NPU, "no NPU: the registry lists no compute accelerator driver")
