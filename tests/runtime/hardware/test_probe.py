"""The whole machine: recorded ones, empty ones, and this one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from runtime.hardware import Gpu, Hardware, Host, IsaFeature, Npu, describe, probe
from runtime.hardware.describing import format_bytes

CONTAINER = {
    "/etc/os-release": 'NAME="Debian"\nPRETTY_NAME="Debian GNU/Linux 13 (trixie)"\n',
    "/proc/cpuinfo": "".join(
        f"processor: {n}\nvendor_id: AuthenticAMD\ncpu family: 25\nmodel: 1\nstepping: 1\nmodel name: AMD EPYC 7763\n"
        f"physical id: 0\ncore id: {n}\nflags: sse4_1 avx avx2 fma\n\n"
        for n in range(8)
    ),
    "/sys/devices/system/cpu/online": "0-7\n",
    "/proc/self/status": "Cpus_allowed_list:\t0-3\n",
    "/proc/meminfo": "MemTotal: 16777216 kB\nMemAvailable: 8388608 kB\n",
    "/proc/self/cgroup": "0::/\n",
    "/proc/self/mountinfo": "31 23 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
    "/sys/fs/cgroup/cpu.max": "250000 100000\n",
    "/sys/fs/cgroup/memory.max": "2147483648\n",
    "/sys/fs/cgroup/memory.current": "1073741824\n",
}


def test_a_container(record) -> None:
    hardware = probe(record(CONTAINER, release="6.12"))
    assert hardware.os.name == "Debian GNU/Linux 13 (trixie)"
    assert hardware.cpu.physical_cores == 8
    assert (hardware.cores.cores, hardware.cores.threads) == (2.5, 2)
    assert hardware.memory.allowed_bytes == 2 * 2**30
    lines = describe(hardware)
    facts = dict(lines)
    assert facts["system"] == "Debian GNU/Linux 13 (trixie), 6.12, x86_64"
    assert facts["processor"] == "AMD EPYC 7763"
    assert facts["cores"] == "8 physical, 8 logical"
    assert facts["instruction sets"] == "SSE4.1, AVX, AVX2, FMA"
    assert facts["cores allowed"] == "2.5, so 2 threads (affinity 4; quota 2.5 by /sys/fs/cgroup/cpu.max)"
    assert facts["memory allowed"] == "2.0 GiB (limit 2.0 GiB by /sys/fs/cgroup/memory.max)"
    assert facts["memory available"] == "1.0 GiB"
    assert facts["NVIDIA GPU"] == (
        "no NVIDIA GPU: no driver answers (nvidia-ml-py or the driver's NVML is not installed; nvidia-smi is not on PATH)"
    )
    assert facts["NPU"] == (
        "no NPU: the kernel lists none in /sys/class/accel, and there is no device file of a known one"
    )
    assert facts["fingerprint"] == hardware.fingerprint()


def test_accelerators_and_power_in_words(record) -> None:
    hardware = probe(record(CONTAINER))
    gpu = Gpu("NVIDIA", "NVIDIA L4", 24 * 2**30, "580.1", "8.9", "NVML")
    npu = Npu("Intel", "Intel AI Boost", "intel_vpu", "/sys/class/accel", "no device file")
    power = replace(
        hardware.power,
        on_battery=True,
        battery_percent=73.0,
        governor="powersave",
        throttle_events=7,
        clock_limit_mhz=1800.0,
        clock_max_mhz=4200.0,
        missing=(),
    )
    accelerators = replace(hardware.accelerators, gpus=(gpu,), npus=(npu,), missing=())
    facts = dict(describe(replace(hardware, accelerators=accelerators, power=power)))
    assert facts["NVIDIA GPU"] == "NVIDIA L4, 24.0 GiB, driver 580.1, compute capability 8.9"
    assert facts["NPU"] == "Intel AI Boost, driver intel_vpu, no device file"
    assert facts["power"] == "battery, battery at 73 %"
    assert facts["clock governor"] == "powersave, capped at 1800 of 4200 MHz"
    assert facts["slowed by heat"] == "7 times since boot"


@pytest.mark.parametrize("system", ["linux", "darwin", "win32", "freebsd14"])
@pytest.mark.parametrize("arch", ["x86_64", "aarch64", "riscv64", ""])
def test_a_machine_that_tells_nothing_is_described_without_a_crash(record, system: str, arch: str) -> None:
    hardware = probe(record(system=system, arch=arch))
    assert hardware.cores.threads == 1
    assert hardware.memory.total_bytes is None
    assert all(missing.reason for missing in hardware.missing)
    assert all(fact and value for fact, value in describe(hardware))
    assert json.loads(hardware.to_json())["fingerprint"] == hardware.fingerprint()


@pytest.mark.parametrize("garbage", [b"", b"\x00\xff\xfe" * 100, b"9" * 10_000, b": - ,\n" * 50, b"-1\n"])
def test_garbage_in_every_file_is_described_without_a_crash(record, garbage: bytes) -> None:
    more = (
        "/sys/class/power_supply/BAT0/type",
        "/sys/class/drm/card0/device/vendor",
        "/sys/class/accel/accel0/device/uevent",
        "/sys/bus/pci/devices/0000:00:00.0/class",
        "/sys/devices/system/cpu/cpu0/topology/core_cpus_list",
        "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor",
        "/sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count",
    )
    hardware = probe(record(dict.fromkeys((*CONTAINER, *more), garbage)))
    assert hardware.cores.threads >= 1
    assert describe(hardware)
    assert json.loads(hardware.to_json())


# The fingerprint


@pytest.fixture
def machine(record) -> Hardware:
    return probe(record(CONTAINER))


def test_the_fingerprint_is_32_hexadecimal_digits_and_the_same_every_time(machine: Hardware, record) -> None:
    assert len(machine.fingerprint()) == 32
    int(machine.fingerprint(), 16)
    assert probe(record(CONTAINER)).fingerprint() == machine.fingerprint()


def test_the_fingerprint_does_not_see_what_changes_by_itself(machine: Hardware) -> None:
    later = replace(
        machine,
        memory=replace(machine.memory, available_bytes=1),
        power=replace(machine.power, on_battery=True, battery_percent=3.0, throttle_events=9, governor="powersave"),
    )
    assert later.fingerprint() == machine.fingerprint()


def test_the_fingerprint_sees_what_matters_to_the_choice(machine: Hardware) -> None:
    gpu = Gpu("NVIDIA", "NVIDIA L4", 1, "580.1", "8.9", "NVML")
    accelerators = machine.accelerators
    others = [
        replace(machine, arch="aarch64"),
        replace(machine, os=replace(machine.os, system="win32")),
        replace(machine, cpu=replace(machine.cpu, model="another")),
        replace(machine, cpu=replace(machine.cpu, signature="AuthenticAMD 25/1/2")),
        replace(machine, cpu=replace(machine.cpu, features=(*machine.cpu.features, IsaFeature.AVX512_VNNI))),
        replace(machine, cores=replace(machine.cores, cores=3.0, threads=3)),
        replace(machine, accelerators=replace(accelerators, gpus=(gpu,))),
        replace(machine, accelerators=replace(accelerators, gpus=(gpu, gpu))),
        replace(machine, accelerators=replace(accelerators, gpus=(replace(gpu, driver="590.1"),))),
        replace(machine, accelerators=replace(accelerators, gpus=(replace(gpu, driver=None),))),
        replace(machine, accelerators=replace(accelerators, npus=(Npu("Intel", "NPU", None, "here"),))),
    ]
    prints = {hardware.fingerprint() for hardware in [machine, *others]}
    assert len(prints) == len(others) + 1


def test_the_order_gpus_are_listed_in_does_not_matter(machine: Hardware) -> None:
    one, two = (Gpu("NVIDIA", name, 1, "580.1", None, "NVML") for name in ("L4", "T4"))
    first, second = (
        replace(machine, accelerators=replace(machine.accelerators, gpus=gpus)) for gpus in ((one, two), (two, one))
    )
    assert first.fingerprint() == second.fingerprint()


def test_the_seer_of_a_gpu_does_not_matter(machine: Hardware) -> None:
    """NVML and nvidia-smi round memory differently: installing nvidia-ml-py must not void a calibration."""
    nvml = Gpu("NVIDIA", "L4", 24_152_899_584, "580.1", "8.9", "NVML")
    smi = replace(nvml, memory_bytes=24_152_900_000, seen_by="nvidia-smi")
    first, second = (replace(machine, accelerators=replace(machine.accelerators, gpus=(gpu,))) for gpu in (nvml, smi))
    assert first.fingerprint() == second.fingerprint()


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (None, "unknown"),
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (25276502016, "23.5 GiB"),
        (2**50, "1.0 PiB"),
        (2**63, "8192.0 PiB"),
    ],
)
def test_sizes_for_people(size: int | None, text: str) -> None:
    assert format_bytes(size) == text


# This machine


def test_this_machine_agrees_with_psutil() -> None:
    hardware = probe()
    assert hardware.cpu.logical_cores == psutil.cpu_count()
    assert hardware.memory.total_bytes == psutil.virtual_memory().total
    assert hardware.memory.allowed_bytes is not None
    assert hardware.memory.available_bytes is not None
    assert 0 < hardware.memory.available_bytes <= hardware.memory.allowed_bytes <= psutil.virtual_memory().total
    if (physical := psutil.cpu_count(logical=False)) is not None:
        assert hardware.cpu.physical_cores == physical
    assert probe().fingerprint() == hardware.fingerprint()


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system has no sched_getaffinity")
def test_this_machine_agrees_with_the_affinity_also_when_it_is_narrowed() -> None:
    before = os.sched_getaffinity(0)
    assert probe().cores.affinity_cores == len(before)
    assert probe().cores.cores <= len(before)
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); from runtime.hardware import probe; "
        "cores = probe().cores; print(cores.affinity_cores, cores.threads)"
    )
    assert _python(code) == "1 1"


def test_the_probe_imports_no_engine_and_nothing_of_the_command_line() -> None:
    code = (
        "import sys; from runtime.hardware import describe, probe; describe(probe()); print(sorted({'onnxruntime', "
        "'ai_edge_litert', 'tflite_runtime', 'torch', 'openvino', 'typer', 'rich', 'numpy'} & set(sys.modules)))"
    )
    expected = "[]" if sys.platform == "linux" else "['numpy']"
    assert _python(code) in {"[]", expected}


def test_a_host_of_this_machine_is_what_probe_takes() -> None:
    assert probe(Host.this_machine()).fingerprint() == probe().fingerprint()


def _python(code: str) -> str:
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout.strip()
