"""The process and its machine: real numbers of this one, and GPUs of a stand-in for NVML."""

# ruff: noqa: N802  (NVML's names)

import os
import time
from types import SimpleNamespace

import psutil

from runtime.telemetry.exposition import Family
from runtime.telemetry.machine import Machine


class FakeNvml:
    """Two GPUs, of which the second does not tell its power (as a Jetson's)."""

    class NVMLError(Exception):
        pass

    def __init__(self, is_broken: bool = False) -> None:
        self.is_broken = is_broken
        self.is_open = False

    def nvmlInit(self) -> None:
        if self.is_broken:
            raise self.NVMLError("Driver Not Loaded")
        self.is_open = True

    def nvmlShutdown(self) -> None:
        self.is_open = False

    def nvmlDeviceGetCount(self) -> int:
        return 2

    def nvmlDeviceGetHandleByIndex(self, at: int) -> int:
        return at

    def nvmlDeviceGetUUID(self, handle: int) -> bytes | str:
        return b"GPU-0" if handle == 0 else "GPU-1"

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> SimpleNamespace:
        return SimpleNamespace(gpu=25 * (handle + 1))

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> SimpleNamespace:
        return SimpleNamespace(total=1000, used=100 * (handle + 1))

    def nvmlDeviceGetPowerUsage(self, handle: int) -> int:
        if handle == 1:
            raise self.NVMLError("Not Supported")
        return 70_500

    def nvmlDeviceGetEnforcedPowerLimit(self, handle: int) -> int:
        return 300_000


def values(families: list[Family], name: str) -> dict[str, float]:
    (family,) = [family for family in families if family.name == name]
    return {"/".join(labels.values()): value for labels, value in family.samples}


async def test_this_process_and_this_machine() -> None:
    machine = Machine(FakeNvml(is_broken=True))
    told = list(await machine.families())
    memory = values(told, "process_resident_memory_bytes")[""]
    assert 0.5 < memory / psutil.Process(os.getpid()).memory_info().rss < 2
    assert values(told, "process_cpu_seconds_total")[""] > 0
    states = values(told, "edgeward_machine_memory_bytes")
    assert states["total"] == states["available"] + states["used"] == psutil.virtual_memory().total
    assert not any(family.name.startswith("edgeward_gpu") for family in told), "no driver, no GPU metrics"
    machine.close()


async def test_busy_cores_are_of_the_time_since_the_last_reading() -> None:
    machine = Machine(FakeNvml(is_broken=True))
    began, end = time.monotonic(), time.process_time() + 0.2
    while time.process_time() < end:
        pass
    told = list(await machine.families())
    passed = time.monotonic() - began
    # The system counts in hundredths of a second.
    assert values(told, "edgeward_process_cpu_cores")[""] >= (0.2 - 0.05) / passed
    assert 0 <= values(told, "edgeward_machine_cpu_ratio")[""] <= 1
    machine.close()


async def test_gpus_tell_what_they_can() -> None:
    nvml = FakeNvml()
    machine = Machine(nvml)
    told = list(await machine.families())
    assert values(told, "edgeward_gpu_busy_ratio") == {"0/GPU-0": 0.25, "1/GPU-1": 0.5}
    assert values(told, "edgeward_gpu_memory_bytes")["1/GPU-1/used"] == 200
    assert values(told, "edgeward_gpu_power_watts") == {"0/GPU-0": 70.5}
    assert values(told, "edgeward_gpu_power_limit_watts") == {"0/GPU-0": 300, "1/GPU-1": 300}, (
        "the rest is told all the same"
    )
    machine.close()
    assert not nvml.is_open


async def test_scrapes_share_a_reading() -> None:
    machine = Machine(FakeNvml(is_broken=True))
    assert (await machine.families()) is (await machine.families())
    machine.close()
