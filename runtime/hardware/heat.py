"""Heat: how hot the machine is, and what heat or a weak supply holds back right now, where the system tells.

It changes while a program runs and takes a question to a driver or a program, so that no `probe` asks for it: `read_heat` does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from runtime.hardware.gpu_heat import GpuHeat, read_gpu_heat
from runtime.hardware.host import CommandOutput, Host
from runtime.hardware.missing import Missing

ZONES: Final = "/sys/class/thermal"
OF_PROCESSORS: Final = re.compile(r"cpu|x86_pkg|core|soc|acpitz|k10|package", re.IGNORECASE)
"""Types of thermal zones that are of a processor, or of the chip it is on: x86_pkg_temp, cpu-thermal (Raspberry Pi), CPU-therm
(Jetson), cpuss-0-thermal (Qualcomm), soc-thermal (Rockchip), TCPU, acpitz."""
COOLING: Final = re.compile(r"cpufreq|devfreq|processor|powerclamp", re.IGNORECASE)
"""Types of cooling devices that cool by slowing: a fan does not."""
LIKELY_C: Final = (-50.0, 200.0)
"""Zones without a sensor behind them say 0, -40 or -274 °C."""

PI_MODEL: Final = "/proc/device-tree/model"
PI_THROTTLED: Final = "/sys/devices/platform/soc/soc:firmware/get_throttled"
"""Of kernels that have it; others need vcgencmd for the same number."""
PI_BITS: Final[Mapping[int, str]] = {
    0: "under-voltage",
    1: "the clock is capped",
    2: "throttled",
    3: "the soft temperature limit",
}
"""Bits of get_throttled that hold now; 16 above, that held since boot.
https://www.raspberrypi.com/documentation/computers/os.html#get_throttled"""
PI_SINCE_BOOT: Final = 16


@dataclass(frozen=True, slots=True)
class Heat:
    """Of the moment. `slowed_by` and `since_boot` are of the processor; None: nothing here tells."""

    temperature_c: float | None
    zone: str | None
    """Which one is that hot: the hottest of the processor's, or of all where none is the processor's."""
    slowed_by: tuple[str, ...] | None
    """What holds the processor back now; empty: nothing does."""
    since_boot: tuple[str, ...] | None
    """What held it back at some time since boot."""
    gpus: tuple[GpuHeat, ...] = ()
    missing: tuple[Missing, ...] = ()


def read_heat(host: Host | None = None) -> Heat:
    """The heat of `host`, or of this machine, now. Raises nothing: what nobody tells is None, and `missing` says why."""
    host = Host.this_machine() if host is None else host
    temperature_c, zone = _hottest(host) if host.system == "linux" else (None, None)
    told = _slowdowns(host)
    missing = []
    if temperature_c is None:
        missing.append(Missing("temperature", f"the temperature is unknown: {_who(host)} does not tell it"))
    if told is None:
        missing.append(Missing("slowdown", f"whether heat slows the processor is unknown: {_who(host)} does not tell"))
    now, since_boot = (None, None) if told is None else told
    return Heat(temperature_c, zone, now, since_boot, read_gpu_heat(host), tuple(missing))


def _who(host: Host) -> str:
    names = {"linux": "this kernel (or the virtual machine around it)", "darwin": "macOS", "win32": "Windows"}
    return names.get(host.system, host.system)


def _slowdowns(host: Host) -> tuple[tuple[str, ...], tuple[str, ...] | None] | None:
    """What slows the processor now, and what did since boot; None where nothing tells."""
    if host.system == "darwin":
        return parse_pmset(host.run(["pmset", "-g", "therm"]))
    if host.system != "linux":
        return None
    cooling = list(_cooling(host))
    pi = _raspberry_pi(host)
    if pi is None:
        return (tuple(text for text in cooling if text), None) if cooling else None
    now, since_boot = pi
    return (*(text for text in cooling if text), *now), since_boot


# Linux


def _hottest(host: Host) -> tuple[float | None, str | None]:
    zones = []
    for name in host.names(ZONES):
        if not name.startswith("thermal_zone"):
            continue
        kind, celsius = host.read(f"{ZONES}/{name}/type") or name, _celsius(host.read(f"{ZONES}/{name}/temp"))
        if celsius is not None:
            zones.append((bool(OF_PROCESSORS.search(kind)), celsius, kind))
    if not zones:
        return None, None
    _, celsius, kind = max(zones)
    return celsius, kind


def _celsius(millidegrees: str | None) -> float | None:
    if millidegrees is None or not re.fullmatch(r"-?\d{1,7}", millidegrees):
        return None
    celsius = int(millidegrees) / 1000
    return celsius if LIKELY_C[0] < celsius < LIKELY_C[1] and celsius != 0 else None


def _cooling(host: Host) -> Iterator[str | None]:
    """For every device that cools by slowing: what it does now, None while it does nothing."""
    for name in host.names(ZONES):
        kind = host.read(f"{ZONES}/{name}/type") or ""
        if not name.startswith("cooling_device") or not COOLING.search(kind):
            continue
        state = host.read(f"{ZONES}/{name}/cur_state")
        if state is None or not re.fullmatch(r"-?\d{1,9}", state):
            continue
        most = host.read_number(f"{ZONES}/{name}/max_state")
        yield f"{kind} at {state}" + (f" of {most}" if most else "") if int(state) > 0 else None


def _raspberry_pi(host: Host) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    if "raspberry pi" not in (host.read(PI_MODEL) or "").lower():
        return None
    text = host.read(PI_THROTTLED) or host.run(["vcgencmd", "get_throttled"]).stdout
    return parse_throttled(text)


def parse_throttled(text: str) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    """What `throttled=0x50005` (or `50005`, as the kernel writes it) says of now and of the time since boot."""
    found = re.fullmatch(r"(?:throttled=)?(?:0x)?([0-9a-fA-F]{1,8})", text.strip())
    if found is None:
        return None
    bits = int(found.group(1), 16)
    now = tuple(what for bit, what in PI_BITS.items() if bits >> bit & 1)
    return now, tuple(what for bit, what in PI_BITS.items() if bits >> (bit + PI_SINCE_BOOT) & 1)


# macOS


def parse_pmset(output: CommandOutput) -> tuple[tuple[str, ...], None] | None:
    """What `pmset -g therm` says of now; it does not remember.

    Intel Macs: `CPU_Speed_Limit = 35`, a share of the clock in percent. Apple silicon writes only that nothing was recorded.
    """
    if output.error is not None:
        return None
    limits = {key: int(value) for key, value in re.findall(r"(CPU_\w+)\s*=\s*(\d{1,6})", output.stdout)}
    levels = re.findall(
        r"(thermal|performance) warning level(?: is)?[ :=]*(?:set to )?(\d+)", output.stdout, re.IGNORECASE
    )
    if not limits and not levels and "No thermal warning level" not in output.stdout:
        return None
    slowed = [f"{what.lower()} warning level {level}" for what, level in levels if int(level) > 0]
    for key, words in (("CPU_Speed_Limit", "the clock is at"), ("CPU_Scheduler_Limit", "the time to run is at")):
        if limits.get(key, 100) < 100:
            slowed.append(f"{words} {limits[key]} %")
    return tuple(slowed), None
