"""Mains or battery, heat and clock."""

from __future__ import annotations

import pytest

from runtime.hardware.host import BatteryReading
from runtime.hardware.missing import reason_for
from runtime.hardware.power import decide_supply, read_power

SUPPLY = "/sys/class/power_supply"
CPU = "/sys/devices/system/cpu"


@pytest.mark.parametrize(
    ("mains", "batteries", "on_battery", "percent"),
    [
        ([], [], False, None),
        ([True], [], False, None),
        ([True], [("Charging", 40)], False, 40),
        ([True], [("Discharging", 40)], True, 40),
        ([False], [("Discharging", 40)], True, 40),
        ([False], [("Unknown", 40)], True, 40),
        ([], [("Full", 100)], False, 100),
        ([], [("Not charging", 80)], False, 80),
        ([], [("Unknown", 50)], None, 50),
        ([], [("", None)], None, None),
        ([False, True], [("Full", 90), ("Full", 100)], False, 95),
    ],
)
def test_mains_or_battery(mains, batteries, on_battery: bool | None, percent: float | None) -> None:
    supply = decide_supply(mains, batteries)
    assert (supply.on_battery, supply.battery_percent) == (on_battery, percent)
    assert on_battery is not None or supply.reason is not None


def test_a_laptop_on_battery_and_a_mouse_that_is_not_its_battery(record) -> None:
    power = read_power(
        record(
            {
                f"{SUPPLY}/AC/type": "Mains\n",
                f"{SUPPLY}/AC/online": "0\n",
                f"{SUPPLY}/BAT0/type": "Battery\n",
                f"{SUPPLY}/BAT0/status": "Discharging\n",
                f"{SUPPLY}/BAT0/capacity": "73\n",
                f"{SUPPLY}/hidpp_battery_0/type": "Battery\n",
                f"{SUPPLY}/hidpp_battery_0/scope": "Device\n",
                f"{SUPPLY}/hidpp_battery_0/capacity": "5\n",
            }
        )
    )
    assert (power.on_battery, power.battery_percent) == (True, 73)


def test_clock_and_heat(record) -> None:
    power = read_power(
        record(
            {
                f"{CPU}/cpu0/thermal_throttle/core_throttle_count": "3\n",
                f"{CPU}/cpu1/thermal_throttle/core_throttle_count": "4\n",
                f"{CPU}/cpu0/cpufreq/scaling_governor": "powersave\n",
                f"{CPU}/cpu1/cpufreq/scaling_governor": "performance\n",
                f"{CPU}/cpu0/cpufreq/scaling_max_freq": "1800000\n",
                f"{CPU}/cpu0/cpufreq/cpuinfo_max_freq": "4200000\n",
                f"{CPU}/cpufreq/policy0/scaling_governor": "ignored\n",
            }
        )
    )
    assert power.throttle_events == 7
    assert power.governor == "powersave + performance"
    assert (power.clock_limit_mhz, power.clock_max_mhz) == (1800, 4200)
    assert power.is_clock_capped is True
    assert reason_for(power.missing, "throttling") is None


def test_a_machine_that_tells_nothing(record) -> None:
    power = read_power(record())
    assert power.on_battery is power.battery_percent is power.governor is power.throttle_events is None
    assert power.is_clock_capped is None
    assert reason_for(power.missing, "battery") == (
        "the power source is unknown: the kernel has no /sys/class/power_supply"
    )
    assert reason_for(power.missing, "throttling")
    assert reason_for(power.missing, "governor")


@pytest.mark.parametrize("garbage", [b"", b"\xff\xfe", b"-7", b"9" * 9000, b"101"])
def test_garbage_is_unknown(record, garbage: bytes) -> None:
    files = {f"{SUPPLY}/BAT0/{name}": garbage for name in ("status", "capacity", "scope", "online")}
    power = read_power(record({f"{SUPPLY}/BAT0/type": "Battery", **files}))
    assert power.on_battery is None
    assert power.battery_percent is None


@pytest.mark.parametrize(
    ("reading", "on_battery", "percent"),
    [
        (BatteryReading(55.0, True), True, 55.0),
        (BatteryReading(55.0, False), False, 55.0),
        (BatteryReading(255.0, None), None, None),  # Windows says 255 for "unknown"
        (None, None, None),
    ],
)
def test_other_systems_are_asked(record, reading, on_battery: bool | None, percent: float | None) -> None:
    power = read_power(record(system="win32", battery=lambda: reading))
    assert (power.on_battery, power.battery_percent) == (on_battery, percent)
    assert (reason_for(power.missing, "battery") is None) == (on_battery is not None)
