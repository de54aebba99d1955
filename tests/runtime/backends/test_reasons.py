"""Why a backend is not available, on machines that are not here: one sentence that names what is missing."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from runtime.backends import onnxruntime
from runtime.backends.onnxruntime import OnnxRuntimeBackend
from runtime.backends.openvino import OpenVinoBackend
from runtime.backends.registry import our_backends
from runtime.backends.torch import TorchBackend
from runtime.hardware import Accelerators, Gpu, Hardware, Missing, Os, probe
from runtime.hardware.accelerators import NVIDIA_GPU

HERE = probe()
NO_NVIDIA = Missing(NVIDIA_GPU, "no NVIDIA GPU is here: its driver is not installed")
BARE = Accelerators((), (), (NO_NVIDIA,))
RADEON = Accelerators((Gpu("AMD", "Radeon", None, None, None, "a test"),), (), (NO_NVIDIA,))
H100 = Accelerators((Gpu("NVIDIA", "H100", 80 << 30, "570.1", "9.0", "a test"),), ())


def machine(system: str, name: str, accelerators: Accelerators) -> Hardware:
    return replace(HERE, os=replace(HERE.os, system=system, name=name), accelerators=accelerators)


LINUX = machine("linux", "Debian 12", BARE)
WINDOWS = machine("win32", "Windows 11", BARE)
WINDOWS_RADEON = machine("win32", "Windows 11", RADEON)
MAC = machine("darwin", "macOS 15", BARE)
LINUX_H100 = machine("linux", "Debian 12", H100)


@pytest.fixture
def plain_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    """`onnxruntime` 1.32 from PyPI for Linux and Windows: the CPU's provider alone."""
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    wheel = SimpleNamespace(get_available_providers=lambda: ["CPUExecutionProvider"], __version__="1.32.0")
    monkeypatch.setattr(onnxruntime, "_import", lambda: wheel)
    monkeypatch.setattr(onnxruntime, "_installed", lambda: ("onnxruntime", "1.32.0"))


@pytest.mark.parametrize(
    ("backend", "hardware", "says"),
    [
        (OnnxRuntimeBackend.directml(), LINUX, "DirectML is part of Windows; this machine runs Debian 12"),
        (OnnxRuntimeBackend.directml(), WINDOWS, "no GPU was found for DirectML"),
        (
            OnnxRuntimeBackend.directml(),
            WINDOWS_RADEON,
            "onnxruntime-directml is not installed: the installed onnxruntime 1.32.0 has no DmlExecutionProvider",
        ),
        (OnnxRuntimeBackend.coreml(), WINDOWS, "CoreML is part of macOS; this machine runs Windows 11"),
        (
            OnnxRuntimeBackend.coreml(),
            MAC,
            "the installed onnxruntime 1.32.0 has no CoreMLExecutionProvider: pip install onnxruntime for this system again",
        ),
        (
            OnnxRuntimeBackend.openvino(),
            LINUX,
            "onnxruntime-openvino is not installed: the installed onnxruntime 1.32.0 has no OpenVINOExecutionProvider",
        ),
        (OnnxRuntimeBackend.cuda(), LINUX, "no NVIDIA GPU is here: its driver is not installed"),
        (OnnxRuntimeBackend.tensorrt(), LINUX, "no NVIDIA GPU is here: its driver is not installed"),
        (
            OnnxRuntimeBackend.cuda(),
            LINUX_H100,
            "onnxruntime-gpu is not installed: the installed onnxruntime 1.32.0 has no CUDAExecutionProvider",
        ),
        (
            OnnxRuntimeBackend.tensorrt(),
            LINUX_H100,
            "onnxruntime-gpu is not installed: the installed onnxruntime 1.32.0 has no TensorrtExecutionProvider",
        ),
    ],
    ids=lambda value: value.name if isinstance(value, OnnxRuntimeBackend) else None,
)
def test_a_provider_says_what_is_missing(
    plain_wheel: None, backend: OnnxRuntimeBackend, hardware: Hardware, says: str
) -> None:
    assert backend.unavailable_reason(hardware) == says


def test_a_wheel_that_another_one_overwrote_is_told(plain_wheel: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "_installed", lambda: ("onnxruntime-directml", "1.24.0"))
    reason = OnnxRuntimeBackend.directml().unavailable_reason(WINDOWS_RADEON)
    assert reason is not None
    assert "its files were overwritten by another wheel of the same module: pip uninstall -y onnxruntime" in reason


def test_what_is_not_installed_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("onnxruntime", "openvino", "torch", "litert", "litert_accelerated"):
        monkeypatch.setattr(f"runtime.backends.{module}.find_spec", lambda name: None)
    reasons = {backend.name: backend.unavailable_reason(LINUX_H100) for backend in our_backends()}
    assert all(reasons.values()), "nothing is available where nothing is installed"
    assert reasons[OpenVinoBackend().name] == "openvino is not installed: pip install 'edgeward[openvino]'"
    for name, reason in reasons.items():
        assert reason is not None
        assert "pip install" in reason or name in ("litert-gpu", "litert-npu"), (name, reason)
    assert "torch" in str(reasons[TorchBackend.cpu().name])


def test_a_machine_without_a_name_is_told_by_its_system() -> None:
    odd = replace(HERE, os=Os("freebsd", None, "14"))
    assert "this machine runs freebsd" in str(OnnxRuntimeBackend.directml().unavailable_reason(odd))
