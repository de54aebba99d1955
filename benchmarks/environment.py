"""Where a measurement was taken: machine, system, versions, commit. Goes into the header of every recording."""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from runtime.hardware import Hardware, describe, probe

# What a latency may depend on; those not installed are left out.
LIBRARIES = (
    "edgeward", "mlcommons-loadgen", "nvidia-ml-py",
    "numpy", "onnxruntime", "onnxruntime-gpu", "ai-edge-litert", "tflite-runtime", "openvino", "torch",
    "onnx", "nvidia-cuda-runtime", "nvidia-cublas", "nvidia-cudnn-cu13", "nvidia-cufft",
    "grpcio", "protobuf", "uvicorn", "uvloop", "httptools", "starlette", "pygrpc-native",
)  # fmt: skip
ROOT = Path(__file__).resolve().parent.parent


def read_environment(hardware: Hardware | None = None) -> dict[str, Any]:
    """Facts in types that `json` writes; what cannot be learnt is None. Takes a moment: read it once a run."""
    hardware = hardware or probe()
    return {
        "hardware": hardware.to_dict(),
        "hardware_text": dict(describe(hardware)),
        "cpu": hardware.cpu.model,
        "governor": hardware.power.governor,
        "kernel": platform.release(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "libraries": _versions(),
        "commit": _commit(),
        "load_before": [round(value, 2) for value in psutil.getloadavg()],
    }


def now_utc() -> str:
    """The time as ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _versions() -> dict[str, str]:
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _commit() -> str | None:
    """The checkout's commit, with "+changes" where files differ from it; None outside a checkout."""
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        return None

    def ask(*words: str) -> str | None:
        done = subprocess.run([git, "-C", str(ROOT), *words], capture_output=True, text=True, timeout=10, check=False)
        return done.stdout.strip() if done.returncode == 0 else None

    commit = ask("rev-parse", "HEAD")
    return f"{commit}+changes" if commit and ask("status", "--porcelain") else commit
