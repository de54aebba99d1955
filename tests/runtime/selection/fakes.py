"""A backend whose model files say, in JSON, how they behave; and bundles, machines and measured values made of it.

The worker process of a trial imports this file too, by the name in `SOURCE`.
"""

import hashlib
import json
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from runtime.backends.base import Backend, Overlap, RunOptions, Session
from runtime.bundle.bundle import Bundle, read_bundle
from runtime.bundle.manifest import Format, Variant
from runtime.errors import BundleError, ExecutionError
from runtime.hardware import AllowedCores, Hardware, probe
from runtime.selection.candidates import Candidate
from runtime.selection.guard import GuardResult
from runtime.selection.latency import Latency
from runtime.selection.measured import Measured
from runtime.selection.memory_use import MemoryUse
from runtime.tensors import Array, TensorSpec

SOURCE = "tests.runtime.selection.fakes:backends"
CLASSES = 4
SPEC = TensorSpec("x", "FP32", (-1, CLASSES))


class FakeSession:
    """Copies input to output after `ms` a row, unless the file says otherwise."""

    inputs = (SPEC,)
    outputs = (TensorSpec("y", "FP32", (-1, CLASSES)),)
    overlap = Overlap.SHARED
    passes_nan = False

    def __init__(self, does: Mapping[str, Any]) -> None:
        self._does = does
        self._held: list[bytearray] = []
        self._calls = 0

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        does = self._does.get("run", "copy")
        x = inputs["x"]
        if does == "abort":
            os.abort()
        if does == "raise":
            raise ExecutionError("operator Foo is not implemented")
        if does.startswith("eat") and not self._held:
            for _ in range(400):
                self._held.append(bytearray(b"x") * (1 << 20))
                time.sleep(0.001)
        if does.endswith("hang"):
            threading.Event().wait()
        if does.startswith("fork"):
            child = os.fork()
            if child == 0:
                threading.Event().wait()
            Path(self._does["pid"]).write_text(str(child))
            if does == "fork, abort":
                os.abort()
        if does == "print":
            os.write(1, b"an engine that prints\n")
        self._calls += 1
        first_ms = self._does.get("first_ms", 0.0) if self._calls == 1 else 0.0
        scratch = bytearray(b"x") * (int(self._does.get("mb_a_row", 0)) * len(x) << 20)
        time.sleep((first_ms + self._does.get("ms", 0.1) * len(x)) / 1000)
        del scratch
        y = x.copy()
        y[: int(len(y) * self._does.get("wrong", 0.0))] *= -1
        if does == "nan":
            y[0, 0] = np.nan
        return {"y": y}

    def close(self) -> None:
        self._held.clear()


@dataclass
class FakeBackend:
    name: str = "fake-cpu"
    device: str = "cpu"
    formats: frozenset[Format] = frozenset({Format.ONNX})
    reason: str | None = None
    extras: tuple[Mapping[str, str], ...] = ({},)
    installed: str = "1.0"
    opened: list[str] = field(default_factory=list)
    version_questions: int = 0

    def unavailable_reason(self, hardware: Hardware) -> str | None:
        return self.reason

    def variations(self, hardware: Hardware) -> tuple[Mapping[str, str], ...]:
        return self.extras

    def version(self) -> str:
        self.version_questions += 1
        return self.installed

    def open(self, file: Path, options: RunOptions) -> Session:
        self.opened.append(file.name)
        does = json.loads(file.read_text())
        if does.get("open") == "raise":
            raise BundleError("this file needs operator set 99")
        if does.get("needs_threads", 1) > options.threads:
            os.abort()
        return FakeSession(does)


def backends() -> tuple[Backend, ...]:
    """What the worker process finds."""
    return (FakeBackend(), FakeBackend(name="absent-cuda", device="cuda", reason="no GPU was found"))


def machine(threads: int = 1) -> Hardware:
    """This machine with another number of cores allowed."""
    cores = AllowedCores(float(threads), threads, threads, None, None)
    return replace(probe(), cores=cores)


def make_bundle(
    root: Path,
    variants: Mapping[str, Mapping[str, Any]],
    *,
    samples: bool = True,
    labels: bool = True,
    task: str = "classification",
    targets: Mapping[str, float] | None = None,
) -> Bundle:
    """A bundle whose variants behave as told; samples are 40 rows whose label is their arg max."""
    root.mkdir(parents=True, exist_ok=True)
    files = []
    for name, does in variants.items():
        text = json.dumps(does)
        (root / name).write_text(text)
        entry = {"name": name, "file": name, "format": "onnx", "precision": "fp32", "size_bytes": len(text)}
        files.append({**entry, "sha256": hashlib.sha256(text.encode()).hexdigest()})
    manifest: dict[str, Any] = {
        "name": "fake",
        "version": 1,
        "task": task,
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, CLASSES], "range": [1.0, 2.0]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, CLASSES]}],
        "targets": dict(targets or {}),
        "variants": files,
    }
    if samples:
        rows = np.random.default_rng(1).uniform(1, 2, (40, CLASSES)).astype(np.float32)
        arrays = {"input:x": rows, "output:y": rows}
        if labels:
            arrays["labels"] = rows.argmax(axis=1)
        np.savez(root / "samples.npz", **arrays)
        data = (root / "samples.npz").read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        manifest["samples"] = {"file": "samples.npz", "sha256": digest, "size_bytes": len(data)}
    (root / "manifest.json").write_text(json.dumps(manifest))
    return read_bundle(root)


def candidate(name: str = "fp32", threads: int = 1, backend: Backend | None = None) -> Candidate:
    """A candidate by name, of a file that is nowhere."""
    variant = Variant(name=name, file=name, format=Format.ONNX, precision="fp32", sha256="0" * 64, size_bytes=1)
    return Candidate(variant, backend or FakeBackend(), RunOptions(threads))


def latency(ms: float, spread: float = 0.0, p95_ms: float | None = None, turns: int = 9) -> Latency:
    return Latency(ms, p95_ms or ms, spread, turns, 100)


def measured(
    name: str,
    ms: float,
    *,
    threads: int = 1,
    accuracy: float | None = None,
    agreement: float | None = None,
    problem: str | None = None,
    memory_mb: float | None = 10.0,
    spread: float = 0.0,
    p95_ms: float | None = None,
    rows: int = 1,
    rounds: int = 3,
) -> Measured:
    """Measured values of a candidate, as `decide` takes them."""
    return Measured(
        candidate(name, threads),
        ((rows, latency(ms, spread, p95_ms)),),
        rows,
        GuardResult(100, accuracy, agreement, problem=problem),
        () if memory_mb is None else (MemoryUse(rows, memory_mb),),
        rounds,
    )
