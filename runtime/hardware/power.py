"""Power: mains or battery, whether heat has slowed the processor, and which governor sets its clock.

These change while a program runs: they are no part of the fingerprint.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from runtime.hardware.host import Host, parse_number
from runtime.hardware.missing import Missing

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Power:
    """How the machine is powered and clocked, at the time of the probe.

    `throttle_events` counts since boot how often heat slowed a core, summed over the logical cores (two that share a
    core count the same event twice): compare two readings. `clock_limit_mhz` below `clock_max_mhz` is a cap in force.
    """

    on_battery: bool | None
    battery_percent: float | None
    governor: str | None
    throttle_events: int | None
    clock_limit_mhz: float | None
    clock_max_mhz: float | None
    missing: tuple[Missing, ...] = ()

    @property
    def is_clock_capped(self) -> bool | None:
        """Whether the system holds the clock below what the processor can do; None when it does not tell."""
        if self.clock_limit_mhz is None or self.clock_max_mhz is None:
            return None
        return self.clock_limit_mhz < self.clock_max_mhz


@dataclass(frozen=True, slots=True)
class Supply:
    """Mains or battery; `reason` says what is not known of it, or why there is no battery to speak of."""

    on_battery: bool | None
    battery_percent: float | None
    reason: str | None = None


def read_power(host: Host) -> Power:
    """The power of `host`, now."""
    supply = _linux_supply(host) if host.system == "linux" else _other_supply(host)
    cpus = [name for name in host.names("/sys/devices/system/cpu") if name.startswith("cpu") and name[3:].isdigit()]
    throttles = _over_cpus(cpus, "thermal_throttle/core_throttle_count", host.read_number)
    governors = _over_cpus(cpus, "cpufreq/scaling_governor", host.read)
    limits = _over_cpus(cpus, "cpufreq/scaling_max_freq", host.read_number)
    maxima = _over_cpus(cpus, "cpufreq/cpuinfo_max_freq", host.read_number)
    missing = []
    if supply.reason is not None:
        missing.append(Missing("battery", supply.reason))
    if not throttles:
        missing.append(Missing("throttling", f"heat throttling is unknown: {_who(host)} does not count it"))
    if not governors:
        missing.append(Missing("governor", f"the clock governor is unknown: {_who(host)} does not tell it"))
    return Power(
        on_battery=supply.on_battery,
        battery_percent=supply.battery_percent,
        governor=" + ".join(dict.fromkeys(filter(None, governors))) or None,
        throttle_events=sum(throttles) if throttles else None,
        clock_limit_mhz=max(limits) / 1000 if limits else None,
        clock_max_mhz=max(maxima) / 1000 if maxima else None,
        missing=tuple(missing),
    )


def _over_cpus(cpus: list[str], file: str, read: Callable[[str], T | None]) -> list[T]:
    values = (read(f"/sys/devices/system/cpu/{cpu}/{file}") for cpu in cpus)
    return [value for value in values if value is not None]


def _who(host: Host) -> str:
    return "this kernel (or the virtual machine around it)" if host.system == "linux" else host.system


def _linux_supply(host: Host) -> Supply:
    base = "/sys/class/power_supply"
    if not host.exists(base):
        return Supply(None, None, "the power source is unknown: the kernel has no /sys/class/power_supply")
    mains: list[bool] = []
    batteries: list[tuple[str, int | None]] = []
    for name in host.names(base):
        kind = host.read(f"{base}/{name}/type")
        if kind in {"Mains", "USB", "Wireless"} and (online := host.read_number(f"{base}/{name}/online")) is not None:
            mains.append(online > 0)
        elif kind == "Battery" and host.read(f"{base}/{name}/scope") != "Device":  # Device: a mouse, a headset
            batteries.append((host.read(f"{base}/{name}/status") or "", _percent(host.read(f"{base}/{name}/capacity"))))
    return decide_supply(mains, batteries)


def decide_supply(mains: list[bool], batteries: list[tuple[str, int | None]]) -> Supply:
    """Mains or battery, from which mains are online and each battery's (status, percent).

    A battery that discharges decides, whatever is plugged in: a charger too weak for the load is no mains.
    """
    if not batteries:
        return Supply(False, None, "no battery: the machine runs from mains")
    percents = [percent for _, percent in batteries if percent is not None]
    percent = sum(percents) / len(percents) if percents else None
    statuses = {status for status, _ in batteries}
    if "Discharging" in statuses:
        return Supply(True, percent)
    if any(mains) or statuses & {"Charging", "Full", "Not charging"}:
        return Supply(False, percent)
    if mains:
        return Supply(True, percent)
    return Supply(None, percent, "the power source is unknown: the battery does not say whether it discharges")


def _other_supply(host: Host) -> Supply:
    reading = host.battery()
    if reading is None:
        return Supply(None, None, f"no battery is known: {host.system} reports none")
    percent = reading.percent if 0 <= reading.percent <= 100 else None
    reason = "the power source is unknown: the system does not say whether it is plugged in"
    return Supply(reading.on_battery, percent, reason if reading.on_battery is None else None)


def _percent(text: str | None) -> int | None:
    number = parse_number(text or "")
    return number if number is not None and number <= 100 else None
