"""The ways of calling a model: backend, precision, options, and where its tensors lie."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from benchmarks.gpu.models import Files
from runtime.backends.base import Backend, RunOptions, Session
from runtime.backends.onnxruntime import OnnxRuntimeBackend
from runtime.backends.onnxruntime_cuda import FP16, GRAPH, NHWC, SEARCH
from runtime.backends.onnxruntime_session import OnnxRuntimeSession
from runtime.backends.torch import TorchBackend
from runtime.selection.candidates import thread_counts
from runtime.tensors import Array


class Handing(StrEnum):
    """How tensors are handed over."""

    RUN = "run"
    """`Session.run`, as everybody who serves calls it: from the host's memory and back."""
    HOST = "bound"
    """A binding that is kept, of the host's memory: what `run` would cost through it."""
    DEVICE = "device"
    """`run_bound`: input and outputs stay on the device; a call ends when it is computed."""


@dataclass(frozen=True, slots=True)
class Way:
    """One line of the tables."""

    name: str
    backend: Backend
    file: str
    threads: int
    extra: Mapping[str, str] = field(default_factory=dict)
    handing: Handing = Handing.RUN

    @property
    def session_key(self) -> tuple[str, str, int, tuple[tuple[str, str], ...]]:
        """Ways that differ in nothing else share a session."""
        return self.backend.name, self.file, self.threads, tuple(sorted(self.extra.items()))

    def open(self, files: Files) -> Session:
        """A session, by our own backend."""
        return self.backend.open(files.path(self.file), RunOptions(self.threads, self.extra))


CPU: Final = OnnxRuntimeBackend.cpu()
CUDA: Final = OnnxRuntimeBackend.cuda()
TORCH: Final = TorchBackend.cuda()


def ways(threads: int) -> list[Way]:
    """All of them, those that matter most first: what comes last is left out when time is short."""
    found = [Way(f"CPU, {n} thread{'s' * (n > 1)}", CPU, "fp32.onnx", n) for n in thread_counts(threads)]

    def cuda(text: str, precision: str, extra: Mapping[str, str] | None = None, handing: Handing = Handing.RUN) -> None:
        found.append(Way(f"CUDA {precision}{text}", CUDA, f"{precision}.onnx", threads, extra or {}, handing))

    cuda("", "fp32")
    cuda(", on device", "fp32", handing=Handing.DEVICE)
    cuda(", graph", "fp32", {GRAPH: "1"})
    cuda(", exhaustive", "fp32", {SEARCH: "exhaustive"})
    cuda("", "fp16")
    cuda(", nhwc, graph", "fp16", {NHWC: "1", GRAPH: "1"})
    cuda(", graph", "fp16", {GRAPH: "1"})
    cuda(", nhwc", "fp16", {NHWC: "1"})
    found.append(Way("torch fp32", TORCH, "fp32.pt2", threads))
    found.append(Way("torch fp16", TORCH, "fp32.pt2", threads, {FP16: "1"}))
    cuda(", bound", "fp32", handing=Handing.HOST)
    cuda(", nhwc, graph", "fp32", {NHWC: "1", GRAPH: "1"})
    cuda(", nhwc", "fp32", {NHWC: "1"})
    cuda(", on device", "fp16", handing=Handing.DEVICE)
    cuda(", nhwc, on device", "fp16", {NHWC: "1"}, Handing.DEVICE)
    return found


def call_of(way: Way, session: Session, rows: Array) -> tuple[Callable[[], Any], Callable[[], Array]]:
    """What is timed, and a call that fetches the model's first output."""
    name, output = session.inputs[0].name, session.outputs[0].name
    if way.handing is Handing.RUN:
        return (lambda: session.run({name: rows})), (lambda: session.run({name: rows})[output])
    assert isinstance(session, OnnxRuntimeSession), "only it can be bound"
    if way.handing is Handing.HOST:
        bound = _bound_to_host(session, name, rows)
        return bound, lambda: bound()[0]
    import onnxruntime

    value = onnxruntime.OrtValue.ortvalue_from_numpy(rows, "cuda" if way.backend.device == "cuda" else "cpu")

    def fetch() -> Array:
        result: Any = session.run_bound({name: value})[output]
        answer: Array = result.numpy()
        return answer

    return (lambda: session.run_bound({name: value})), fetch


def _bound_to_host(session: OnnxRuntimeSession, name: str, rows: Array) -> Callable[[], list[Array]]:
    native = session.native
    binding = native.io_binding()
    for spec in session.outputs:
        binding.bind_output(spec.name, "cpu")

    def call() -> list[Array]:
        binding.bind_cpu_input(name, rows)
        native.run_with_iobinding(binding)
        outputs: list[Array] = binding.copy_outputs_to_cpu()
        return outputs

    return call
