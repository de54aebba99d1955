"""NVIDIA GPUs by NVML, by nvidia-smi, and every way of having none."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from runtime.hardware import Host
from runtime.hardware.host import CommandOutput
from runtime.hardware.nvidia import parse_smi, read_nvidia_gpus, read_used_gpu_bytes

GIB = 2**30
ON_PCI = {
    "/sys/bus/pci/devices/0000:01:00.0/class": "0x030200\n",
    "/sys/bus/pci/devices/0000:01:00.0/vendor": "0x10de\n",
}


class FakeNvml:
    """The seven calls of NVML that the probe makes; `fails` names those that raise."""

    class NVMLError(Exception):
        pass

    def __init__(self, names: tuple[str | bytes, ...] = (), fails: tuple[str, ...] = ()) -> None:
        self.names = names
        self.fails = fails
        self.is_open = False

    def _check(self, call: str) -> None:
        if call in self.fails:
            raise self.NVMLError(f"{call} failed")

    def nvmlInit(self) -> None:  # noqa: N802
        self._check("nvmlInit")
        self.is_open = True

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.is_open = False

    def nvmlSystemGetDriverVersion(self) -> str:  # noqa: N802
        self._check("nvmlSystemGetDriverVersion")
        return "580.95.05"

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return len(self.names)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        self._check("nvmlDeviceGetHandleByIndex")
        return index

    def nvmlDeviceGetName(self, handle: int) -> str | bytes:  # noqa: N802
        return self.names[handle]

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> SimpleNamespace:  # noqa: N802
        self._check("nvmlDeviceGetMemoryInfo")
        return SimpleNamespace(total=8 * GIB, free=GIB, used=7 * GIB)

    def nvmlDeviceGetCudaComputeCapability(self, handle: int) -> list[int]:  # noqa: N802
        self._check("nvmlDeviceGetCudaComputeCapability")
        return [8, 9]


def test_nvml_names_every_gpu_and_is_shut_down(record) -> None:
    nvml = FakeNvml(("NVIDIA L4", b"NVIDIA T4"))
    gpus, missing = read_nvidia_gpus(record(nvml=lambda: nvml))
    assert missing is None
    assert [gpu.name for gpu in gpus] == ["NVIDIA L4", "NVIDIA T4"]
    assert gpus[0].memory_bytes == 8 * GIB
    assert gpus[0].driver == "580.95.05"
    assert gpus[0].compute_capability == "8.9"
    assert gpus[0].seen_by == "NVML"
    assert not nvml.is_open


def test_memory_in_use_is_summed_over_the_gpus_and_unknown_where_nvml_does_not_tell() -> None:
    def used(nvml: FakeNvml | None) -> int | None:
        return read_used_gpu_bytes(Host(Path("/nowhere"), "linux", "x86_64", nvml=lambda: nvml))  # type: ignore[arg-type,return-value]

    two = FakeNvml(("A", "B"))
    assert used(two) == 14 * GIB
    assert not two.is_open
    assert used(None) is None
    assert used(FakeNvml()) is None
    assert used(FakeNvml(("A",), ("nvmlInit",))) is None
    assert used(FakeNvml(("A",), ("nvmlDeviceGetMemoryInfo",))) is None


def test_questions_a_gpu_does_not_support_are_unknown(record) -> None:
    nvml = FakeNvml(("NVIDIA GB10",), fails=("nvmlDeviceGetMemoryInfo", "nvmlDeviceGetCudaComputeCapability"))
    ((gpu,), _) = read_nvidia_gpus(record(nvml=lambda: nvml))
    assert gpu.memory_bytes is gpu.compute_capability is None


def test_a_driver_without_a_gpu(record) -> None:
    gpus, missing = read_nvidia_gpus(record(nvml=FakeNvml))
    assert gpus == ()
    assert missing is not None
    assert missing.reason == "no NVIDIA GPU: the driver is installed, but NVML lists no GPU for this process"


@pytest.mark.parametrize("call", ["nvmlInit", "nvmlSystemGetDriverVersion", "nvmlDeviceGetHandleByIndex"])
def test_when_nvml_fails_its_words_are_the_reason(record, call: str) -> None:
    nvml = FakeNvml(("NVIDIA L4",), fails=(call,))
    gpus, missing = read_nvidia_gpus(record(nvml=lambda: nvml))
    assert gpus == ()
    assert missing is not None
    assert missing.reason == (f"no NVIDIA GPU: no driver answers (NVML says: {call} failed; nvidia-smi is not on PATH)")
    assert not nvml.is_open


def test_a_card_without_a_driver_says_what_to_do(record) -> None:
    _, missing = read_nvidia_gpus(record(ON_PCI))
    assert missing is not None
    assert missing.reason.startswith("an NVIDIA GPU is on the PCI bus, but no driver answers (nvidia-ml-py or")
    assert "install NVIDIA's driver" in missing.reason
    windows = record(system="win32", registry=lambda key: {"DriverDesc": "NVIDIA RTX", "ProviderName": "NVIDIA"})
    _, missing = read_nvidia_gpus(windows)
    assert missing is not None
    assert "reinstall NVIDIA's driver" in missing.reason


def test_nvidia_smi_is_asked_where_the_binding_is_not_installed(record) -> None:
    gpus, missing = read_nvidia_gpus(record(run=lambda command: CommandOutput("NVIDIA L4, 23034, 550.1, 8.9\n")))
    assert missing is None
    (gpu,) = gpus
    assert (gpu.name, gpu.driver, gpu.compute_capability) == ("NVIDIA L4", "550.1", "8.9")
    assert gpu.memory_bytes == 23034 * 2**20


def test_an_old_nvidia_smi_is_asked_again_without_the_field_it_does_not_know(record) -> None:
    asked: list[str] = []

    def run(command):
        asked.append(command[1])
        if "compute_cap" in command[1]:
            return CommandOutput("", 'exit code 2: Field "compute_cap" is not a valid field to query.')
        return CommandOutput("Tesla K80, 11441, 470.82\n")

    ((gpu,), _) = read_nvidia_gpus(record(run=run))
    assert len(asked) == 2
    assert (gpu.name, gpu.compute_capability) == ("Tesla K80", None)


def test_a_failing_nvidia_smi_is_asked_once_and_quoted(record) -> None:
    asked: list[object] = []

    def run(command):
        asked.append(command)
        return CommandOutput("", "nvidia-smi ended with exit code 9: couldn't communicate with the NVIDIA driver")

    _, missing = read_nvidia_gpus(record(run=run))
    assert len(asked) == 1
    assert missing is not None
    assert "couldn't communicate with the NVIDIA driver" in missing.reason


def test_macs_have_none(record) -> None:
    _, missing = read_nvidia_gpus(record(system="darwin", nvml=lambda: FakeNvml(("x",))))
    assert missing is not None
    assert missing.reason == "no NVIDIA GPU: macOS has no driver for one"


@pytest.mark.parametrize(
    ("line", "facts"),
    [
        ("NVIDIA H100, 81559, 535.1, 9.0", [("NVIDIA H100", 81559 * 2**20, "535.1", "9.0")]),
        ("NVIDIA GB10, [N/A], 580.1, 12.1", [("NVIDIA GB10", None, "580.1", "12.1")]),
        ("A, [Not Supported], [N/A], [N/A]", [("A", None, None, None)]),
        ("Tesla K80, 11441, 470.82", [("Tesla K80", 11441 * 2**20, "470.82", None)]),
        ("No devices were found", []),
        ("", []),
        (",,,", []),
        ("a,b,c,d,e", []),
        ("X, -5, 1, 2", [("X", None, "1", "2")]),
    ],
)
def test_lines_of_nvidia_smi(line: str, facts: list[tuple[object, ...]]) -> None:
    assert [(g.name, g.memory_bytes, g.driver, g.compute_capability) for g in parse_smi(line)] == facts


def test_this_machine_has_gpus_or_a_reason() -> None:
    gpus, missing = read_nvidia_gpus(Host.this_machine())
    assert bool(gpus) != bool(missing)
