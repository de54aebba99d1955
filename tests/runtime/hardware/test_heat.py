"""Heat, on recordings of what kernels, drivers and tools say; none of these machines is at hand."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from runtime.hardware import Host, describe, probe
from runtime.hardware.gpu_heat import GpuHeat, parse_smi_heat, read_gpu_heat
from runtime.hardware.heat import PI_THROTTLED, Heat, parse_pmset, parse_throttled, read_heat
from runtime.hardware.host import CommandOutput
from runtime.hardware.missing import reason_for

ZONE = "/sys/class/thermal"
INTEL_MAC = """Note: No thermal warning level has been recorded
Note: No performance warning level has been recorded
2020-11-24 13:10:40 +0100 CPU Power notify
    CPU_Scheduler_Limit     = 100
    CPU_Available_CPUs  = 8
    CPU_Speed_Limit     = 35
"""
APPLE_SILICON = """Note: No thermal warning level has been recorded
Note: No performance warning level has been recorded
Note: No CPU power status has been recorded
"""


def zone(number: int, kind: str, temp: str) -> dict[str, str]:
    return {f"{ZONE}/thermal_zone{number}/type": f"{kind}\n", f"{ZONE}/thermal_zone{number}/temp": f"{temp}\n"}


def cooling(number: int, kind: str, state: str, most: str = "7") -> dict[str, str]:
    base = f"{ZONE}/cooling_device{number}"
    return {f"{base}/type": f"{kind}\n", f"{base}/cur_state": f"{state}\n", f"{base}/max_state": f"{most}\n"}


def test_the_hottest_zone_of_the_processor_counts_whatever_else_is_hot(record) -> None:
    files = {**zone(0, "acpitz", "27800"), **zone(1, "x86_pkg_temp", "61000"), **zone(2, "iwlwifi_1", "75000")}
    heat = read_heat(record(files))
    assert (heat.temperature_c, heat.zone) == (61.0, "x86_pkg_temp")
    assert reason_for(heat.missing, "temperature") is None
    only = read_heat(record(zone(0, "nvme", "40125")))
    assert (only.temperature_c, only.zone) == (40.125, "nvme"), "better than nothing"


@pytest.mark.parametrize("temp", ["0", "-274000", "255000", "", "warm", "9" * 40])
def test_zones_without_a_sensor_are_not_believed(record, temp: str) -> None:
    heat = read_heat(record(zone(0, "cpu-thermal", temp)))
    assert heat.temperature_c is None
    assert reason_for(heat.missing, "temperature")


def test_a_phone_that_was_left_in_the_cold_is_believed(record) -> None:
    assert read_heat(record(zone(0, "cpuss-0-thermal", "-12500"))).temperature_c == -12.5


def test_what_cools_by_slowing_tells_that_it_does_and_a_fan_tells_nothing(record) -> None:
    files = {
        **cooling(0, "pwm-fan", "4"),
        **cooling(1, "thermal-cpufreq-0", "2"),
        **cooling(2, "Processor", "0", "10"),
        **cooling(3, "intel_powerclamp", "-1", "50"),
        **cooling(4, "thermal-devfreq-0", "1", "0"),
    }
    heat = read_heat(record(files))
    assert heat.slowed_by == ("thermal-cpufreq-0 at 2 of 7", "thermal-devfreq-0 at 1")
    assert heat.since_boot is None
    calm = read_heat(record({**cooling(0, "Processor", "0"), **cooling(1, "cpufreq-cpu0", "odd")}))
    assert calm.slowed_by == (), "nothing does, and that is known"
    assert read_heat(record(cooling(0, "pwm-fan", "4"))).slowed_by is None, "a fan alone leaves it unknown"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("throttled=0x0\n", ((), ())),
        ("throttled=0x50005", (("under-voltage", "throttled"), ("under-voltage", "throttled"))),
        (
            "throttled=0xe0008",
            (("the soft temperature limit",), ("the clock is capped", "throttled", "the soft temperature limit")),
        ),
        ("50000", ((), ("under-voltage", "throttled"))),
        ("VCHI initialization failed", None),
        ("", None),
    ],
)
def test_the_bits_of_a_raspberry_pi(text: str, expected: object) -> None:
    assert parse_throttled(text) == expected


def test_a_raspberry_pi_is_asked_by_its_kernel_or_by_vcgencmd(record) -> None:
    pi = {"/proc/device-tree/model": "Raspberry Pi 4 Model B Rev 1.4\0", **zone(0, "cpu-thermal", "81285")}
    asked: list[tuple[str, ...]] = []

    def run(command) -> CommandOutput:
        asked.append(tuple(command))
        return CommandOutput("throttled=0xc0008\n")

    heat = read_heat(record({**pi, **cooling(0, "thermal-cpufreq-0", "3")}, arch="aarch64", run=run))
    assert heat.temperature_c == pytest.approx(81.285)
    assert heat.slowed_by == ("thermal-cpufreq-0 at 3 of 7", "the soft temperature limit")
    assert heat.since_boot == ("throttled", "the soft temperature limit")
    assert ("vcgencmd", "get_throttled") in asked
    asked.clear()
    kernel = read_heat(record({**pi, PI_THROTTLED: "50005\n"}, arch="aarch64", run=run))
    assert kernel.slowed_by == ("under-voltage", "throttled")
    assert ("vcgencmd", "get_throttled") not in asked
    without = read_heat(record(pi, arch="aarch64"))
    assert without.slowed_by is None
    other = read_heat(record(zone(0, "CPU-therm", "44500"), arch="aarch64", run=run))
    assert ("vcgencmd", "get_throttled") not in asked, "no other machine is asked"
    assert other.slowed_by is None


def test_macs_tell_their_limits(record) -> None:
    assert parse_pmset(CommandOutput(INTEL_MAC)) == (("the clock is at 35 %",), None)
    assert parse_pmset(CommandOutput(INTEL_MAC.replace("= 35", "= 100"))) == ((), None)
    assert parse_pmset(CommandOutput(APPLE_SILICON)) == ((), None)
    assert parse_pmset(CommandOutput("", "pmset is not on PATH")) is None
    assert parse_pmset(CommandOutput("Usage: pmset")) is None
    heat = read_heat(record(system="darwin", arch="aarch64", run=lambda command: CommandOutput(APPLE_SILICON)))
    assert (heat.slowed_by, heat.temperature_c) == ((), None)
    assert reason_for(heat.missing, "temperature") == "the temperature is unknown: macOS does not tell it"


def test_a_machine_that_tells_nothing_says_so(record) -> None:
    for system in ("linux", "win32", "freebsd14"):
        heat = read_heat(record(system=system))
        assert heat.temperature_c is heat.slowed_by is heat.since_boot is None
        assert {missing.fact for missing in heat.missing} == {"temperature", "slowdown"}


# NVIDIA GPUs


class HotNvml:
    """Two GPUs, the second of which tells nothing of its heat."""

    class NVMLError(Exception):
        pass

    def __init__(self, bits: int = 0x60) -> None:
        self.bits = bits
        self.is_open = False

    def nvmlInit(self) -> None:  # noqa: N802
        self.is_open = True

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.is_open = False

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return 2

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        return index

    def nvmlDeviceGetName(self, handle: int) -> str | bytes:  # noqa: N802
        return ("NVIDIA L4", b"Orin")[handle]

    def nvmlDeviceGetTemperature(self, handle: int, sensor: int) -> int:  # noqa: N802
        if handle:
            raise self.NVMLError("not supported")
        return 88 + sensor

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle: int) -> int:  # noqa: N802
        if handle:
            raise self.NVMLError("not supported")
        return self.bits


@pytest.mark.parametrize(
    ("bits", "slowed_by"),
    [
        (0x0, ()),
        (0x1, ()),
        (0x102, ()),
        (0x4, ("its power limit",)),
        (0x60, ("heat (software)", "heat (hardware)")),
        (0x88, ("a hardware slowdown", "the power supply")),
    ],
)
def test_nvml_tells_what_holds_a_clock_down(record, bits: int, slowed_by: tuple[str, ...]) -> None:
    nvml = HotNvml(bits)
    heat = read_gpu_heat(record(nvml=lambda: nvml))
    assert heat == (GpuHeat("NVIDIA L4", 88.0, slowed_by), GpuHeat("Orin", None, None))
    assert not nvml.is_open


def test_nvidia_smi_is_asked_by_the_new_name_and_by_the_old_one(record) -> None:
    asked: list[str] = []

    def run(command) -> CommandOutput:
        asked.append(command[1])
        if "clocks_event_reasons" in command[1]:
            text = 'Field "clocks_event_reasons.active" is not a valid field to query.'
            return CommandOutput("", f"nvidia-smi ended with exit code 2: {text}")
        return CommandOutput("Tesla T4, 91, 0x0000000000000040\nA2, [N/A], [Not Supported]\nNo devices were found\n")

    assert read_gpu_heat(record(run=run)) == (
        GpuHeat("Tesla T4", 91.0, ("heat (hardware)",)),
        GpuHeat("A2", None, None),
    )
    assert len(asked) == 2
    assert read_gpu_heat(record()) == ()
    assert read_gpu_heat(record(system="darwin")) == ()
    assert parse_smi_heat("garbage\n, 1, 0x0\n") == ()


def test_a_driver_that_refuses_leaves_it_to_nvidia_smi() -> None:
    class Refusing(HotNvml):
        def nvmlInit(self) -> None:  # noqa: N802
            raise self.NVMLError("driver not loaded")

    nvml = SimpleNamespace(NVMLError=Refusing.NVMLError, nvmlInit=Refusing().nvmlInit)
    host = Host(
        Path("/nowhere"),
        "linux",
        "x86_64",
        nvml=lambda: nvml,  # type: ignore[arg-type,return-value]
        run=lambda command: CommandOutput("L4, 40, 0x0000000000000000\n"),
    )
    assert read_gpu_heat(host) == (GpuHeat("L4", 40.0, ()),)


def test_it_is_told_in_lines() -> None:
    heat = Heat(81.3, "cpu-thermal", ("throttled",), ("under-voltage",), (GpuHeat("L4", 40.0, ()),))
    lines = dict(describe(probe(), heat))
    assert lines["temperature"] == "81 °C (cpu-thermal)"
    assert lines["slowed now by"] == "throttled"
    assert lines["slowed since boot by"] == "under-voltage"
    assert lines["heat of L4"] == "40 °C, slowed now by nothing"
    unknown = dict(describe(probe(), Heat(None, None, None, None, (GpuHeat("L4", None, None),))))
    assert unknown["temperature"] == unknown["slowed now by"] == "unknown"
    assert "slowed since boot by" not in unknown
    assert unknown["heat of L4"] == "temperature unknown, whether it is slowed is unknown"


def test_this_machine_is_read_without_an_error() -> None:
    heat = read_heat()
    assert heat.temperature_c is None or -50 < heat.temperature_c < 200
    assert (heat.temperature_c is None) == (reason_for(heat.missing, "temperature") is not None)
    assert (heat.slowed_by is None) == (reason_for(heat.missing, "slowdown") is not None)
