"""ONNX Runtime: one engine, a backend for each of its execution providers.

The providers differ in the wheel they come with, the device they need and a few options; everything else is the same.
`onnxruntime` is imported when a file is opened, or when the question of availability is left to the wheel itself.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

from runtime.backends import onnxruntime_cuda as cuda
from runtime.backends.base import Overlap, RunOptions, check_extra
from runtime.backends.cuda_recording import GATE
from runtime.backends.failures import one_line
from runtime.backends.onnxruntime_bound import BoundRunner
from runtime.backends.onnxruntime_graphs import CudaGraphs
from runtime.backends.onnxruntime_session import OnnxRuntimeSession, Run, is_full, is_lost_device
from runtime.bundle.manifest import Format
from runtime.config import set_unless_set
from runtime.errors import BackendUnavailableError, BundleError
from runtime.tensors import Array

if TYPE_CHECKING:
    from runtime.hardware import Hardware

# Any of these installs the module `onnxruntime`; two of them side by side overwrite each other, the last one wins.
DISTRIBUTIONS: Final = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-openvino")

CPU_PROVIDER: Final = "CPUExecutionProvider"

DIRECTML_PROVIDER: Final = "DmlExecutionProvider"

LOG_ERRORS: Final = 3

SPIN_US: Final = 1000
"""How long workers wait awake for their next work. By default it is so long that an idle session takes 27 ms of a core after
every call, from whatever else runs; this takes 2 ms, and calls back to back are as fast (131 µs on ResNet-8). To stop them at
once (`session.force_spinning_stop`) made those 1.2 to 1.5 times slower. ONNX Runtime 1.32, 2 quiet cores, November 2026."""

NO_TELEMETRY: Final = "ORT_DISABLE_TELEMETRY"


@dataclass(frozen=True, slots=True)
class _Provider:
    """What tells one execution provider from the others."""

    name: str
    """As ONNX Runtime spells it."""
    device: str
    package: str
    """The distribution whose wheel has it."""
    fallbacks: tuple[str, ...]
    """Providers for the operators it does not have; the CPU's is always the last."""
    missing_device: Callable[[Hardware], str | None]
    """Why the machine has no device for it; None when it has, or needs none."""
    options: Callable[[RunOptions, Path], dict[str, str]]
    """Its own, from what selection varies and the model's file."""
    extra: Mapping[str, tuple[str, ...]]
    """Of `RunOptions.extra`, beside those that every provider takes."""
    variations: tuple[Mapping[str, str], ...] = ({},)
    overlap: Overlap = Overlap.SHARED
    """Of its sessions, where they replay no CUDA graphs."""

    @property
    def install(self) -> str:
        """The command that brings the wheel, and what it needs."""
        return cuda.INSTALL if self.package == cuda.PACKAGE else f"pip install {self.package}"


def _no_options(options: RunOptions, file: Path) -> dict[str, str]:
    return {}


def _needs_nothing(hardware: Hardware) -> str | None:
    return None


def _needs_nvidia(hardware: Hardware) -> str | None:
    return hardware.accelerators.why_no_nvidia


def _needs_windows_gpu(hardware: Hardware) -> str | None:
    if hardware.os.system != "win32":
        return f"DirectML is part of Windows; this machine runs {hardware.os.name or hardware.os.system}"
    return None if hardware.accelerators.gpus else "no GPU was found for DirectML"


def _needs_apple(hardware: Hardware) -> str | None:
    if hardware.os.system != "darwin":
        return f"CoreML is part of macOS; this machine runs {hardware.os.name or hardware.os.system}"
    return None


def _openvino_options(options: RunOptions, file: Path) -> dict[str, str]:
    return {"device_type": "CPU", "num_of_threads": str(options.threads)}


class OnnxRuntimeBackend:
    """`.onnx` files on one execution provider of ONNX Runtime: `OnnxRuntimeBackend.cpu()`, `.cuda()`, ...

    Option `spinning`: with "1" (the default) worker threads wait for the next operator without sleeping, which is
    faster while calls follow each other; a millisecond after the last one they sleep, so that an idle session takes
    nothing from the others. Options of CUDA and TensorRT: see `onnxruntime_cuda`.
    """

    formats = frozenset({Format.ONNX})

    def __init__(self, name: str, provider: _Provider) -> None:
        self.name = name
        self.device = provider.device
        self._provider = provider

    @classmethod
    def cpu(cls) -> OnnxRuntimeBackend:
        """On the processor."""
        return cls(
            "onnxruntime-cpu", _Provider(CPU_PROVIDER, "cpu", "onnxruntime", (), _needs_nothing, _no_options, {})
        )

    @classmethod
    def cuda(cls) -> OnnxRuntimeBackend:
        """On an NVIDIA GPU; `run` copies tensors to it and back, `run_bound` leaves them there."""
        provider = _Provider(
            cuda.CUDA_PROVIDER, "cuda", cuda.PACKAGE, (CPU_PROVIDER,), _needs_nvidia,
            cuda.cuda_options, cuda.CUDA_OPTIONS, cuda.CUDA_VARIATIONS,
        )  # fmt: skip
        return cls("onnxruntime-cuda", provider)

    @classmethod
    def tensorrt(cls) -> OnnxRuntimeBackend:
        """On an NVIDIA GPU through TensorRT, which builds kernels when a shape is first seen: seconds to minutes."""
        provider = _Provider(
            cuda.TENSORRT_PROVIDER, "cuda", cuda.PACKAGE, (cuda.CUDA_PROVIDER, CPU_PROVIDER), _needs_nvidia,
            cuda.tensorrt_options, cuda.TENSORRT_OPTIONS, cuda.TENSORRT_VARIATIONS,
            Overlap.OWN,  # it computes behind a lock: https://github.com/microsoft/onnxruntime/pull/19301
        )  # fmt: skip
        return cls("onnxruntime-tensorrt", provider)

    @classmethod
    def openvino(cls) -> OnnxRuntimeBackend:
        """On the processor through OpenVINO's kernels."""
        provider = _Provider(
            "OpenVINOExecutionProvider",
            "cpu",
            "onnxruntime-openvino",
            (CPU_PROVIDER,),
            _needs_nothing,
            _openvino_options,
            {},
        )
        return cls("onnxruntime-openvino", provider)

    @classmethod
    def directml(cls) -> OnnxRuntimeBackend:
        """On any GPU of a Windows machine; a session takes one call at a time (its documentation, "Usage")."""
        provider = _Provider(
            DIRECTML_PROVIDER, "gpu", "onnxruntime-directml", (CPU_PROVIDER,), _needs_windows_gpu, _no_options, {},
            overlap=Overlap.NEVER,  # sessions beside each other stall: https://github.com/microsoft/onnxruntime/issues/20713
        )  # fmt: skip
        return cls("onnxruntime-directml", provider)

    @classmethod
    def coreml(cls) -> OnnxRuntimeBackend:
        """On whatever CoreML picks of a Mac: processor, GPU or neural engine."""
        provider = _Provider(
            "CoreMLExecutionProvider", "npu", "onnxruntime", (CPU_PROVIDER,), _needs_apple, _no_options, {}
        )
        return cls("onnxruntime-coreml", provider)

    def unavailable_reason(self, hardware: Hardware) -> str | None:
        """None when device, wheel and provider are here; `onnxruntime` is imported only to answer the last."""
        if find_spec("onnxruntime") is None:
            return f"{self._provider.package} is not installed: {self._provider.install}"
        no_device = self._provider.missing_device(hardware)
        if no_device is not None or self._provider.name == CPU_PROVIDER:
            return no_device
        try:
            ort = _import()
        except BackendUnavailableError as error:
            return str(error)
        missing = self._missing_provider(ort)
        if missing is None and self._provider.name == cuda.TENSORRT_PROVIDER:
            return cuda.why_no_tensorrt()
        return missing

    def variations(self, hardware: Hardware) -> tuple[Mapping[str, str], ...]:
        """On the processor, with several cores: spinning or not (it matters to two or more threads only); else the provider's."""
        if self._provider.name == CPU_PROVIDER and hardware.cores.threads > 1:
            return {}, {"spinning": "0"}
        return self._provider.variations

    def version(self) -> str:
        """Of the distribution that is installed, named where it is not plain `onnxruntime`."""
        found = _installed()
        if found is None:
            return "not installed"
        package, number = found
        return number if package == "onnxruntime" else f"{number} ({package})"

    def open(self, file: Path, options: RunOptions) -> OnnxRuntimeSession:
        """A session on exactly this provider; `BackendUnavailableError` where ONNX Runtime would take another."""
        check_extra(self.name, options, {"spinning": ("0", "1"), **self._provider.extra})
        ort = _import()
        missing = self._missing_provider(ort)
        if missing is not None:
            raise BackendUnavailableError(missing)
        provider = self._provider
        has_cuda = cuda.CUDA_PROVIDER in (provider.name, *provider.fallbacks)
        not_loaded = cuda.load_libraries(ort) if has_cuda else ""
        if provider.name == cuda.TENSORRT_PROVIDER:
            cuda.load_tensorrt()
        providers = [(provider.name, provider.options(options, file)), *((name, {}) for name in provider.fallbacks)]
        try:
            with GATE if has_cuda else nullcontext():
                # enable_fallback=0: otherwise the CPU's provider replaces a failing one, at opening and in mid-run.
                session = ort.InferenceSession(
                    str(file), self._session_options(ort, options), providers=providers, enable_fallback=0
                )
        except Exception as error:
            if provider.name != CPU_PROVIDER and any(
                is_so(error) for is_so in (is_lost_device, is_full, cuda.is_missing_library)
            ):
                raise BackendUnavailableError(f"{self.name} cannot use its device: {one_line(error)}") from error
            if cuda.wants_graphs(provider.name, options) and cuda.is_no_graph(error):
                raise BackendUnavailableError(f"{file} cannot be run as a CUDA graph: {one_line(error)}") from error
            raise BundleError(
                f"{file} cannot be opened by ONNX Runtime: {one_line(error)}; {_next_step(error)}"
            ) from error
        used = session.get_providers()
        if used[0] != provider.name:
            raise BackendUnavailableError(
                f"ONNX Runtime left out {provider.name} and offers {', '.join(used)} for {file}; "
                f"its libraries or its device do not work here: {provider.install}"
                + (f" ({not_loaded})" if not_loaded else "")
            )
        if cuda.wants_graphs(provider.name, options):
            return OnnxRuntimeSession(session, file, self.name, CudaGraphs(ort, session).run, overlap=Overlap.NEVER)
        if provider.name == DIRECTML_PROVIDER:
            return OnnxRuntimeSession(session, file, self.name, _run_alone(session.run), overlap=provider.overlap)
        run = _run_on_gpu(session.run) if has_cuda else unwrapped(session)
        bound = BoundRunner(ort, session, "cuda" if has_cuda else "cpu")
        return OnnxRuntimeSession(session, file, self.name, run, bound, provider.overlap)

    def _session_options(self, ort: ModuleType, options: RunOptions) -> Any:
        chosen = ort.SessionOptions()
        chosen.intra_op_num_threads = options.threads
        chosen.inter_op_num_threads = 1
        chosen.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        chosen.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        chosen.log_severity_level = LOG_ERRORS
        if options.extra.get("spinning", "1") == "1":
            chosen.add_session_config_entry("session.intra_op.spin_duration_us", str(SPIN_US))
        else:
            chosen.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if self._provider.name == DIRECTML_PROVIDER:
            chosen.enable_mem_pattern = (
                False  # DirectML refuses a session with memory patterns (its documentation, "Usage")
            )
        return chosen

    def _missing_provider(self, ort: ModuleType) -> str | None:
        if self._provider.name in ort.get_available_providers():
            return None
        package, number = _installed() or ("onnxruntime", ort.__version__)
        if package == self._provider.package == "onnxruntime":
            wheel = f"the installed onnxruntime {number} has no {self._provider.name}"
            return f"{wheel}: {self._provider.install} for this system again"
        if package == self._provider.package:
            return (
                f"{package} {number} is installed, but its files were overwritten by another wheel of the same module: "
                f"pip uninstall -y onnxruntime && pip install --force-reinstall --no-deps {package}"
            )
        return (
            f"{self._provider.package} is not installed: the installed {package} {number} has no {self._provider.name}"
        )


NO_OPERATOR: Final = ("is not a registered function/op", "No Op registered for")
"""In what ONNX Runtime 1.32 says of an operator of another domain, and of one that its own lacks."""


def _next_step(error: Exception) -> str:
    """For who gave a file that cannot be opened."""
    if any(words in str(error) for words in NO_OPERATOR):
        return "it has no such operator: export the model with those of ONNX itself"
    return "expected an ONNX model"


def unwrapped(session: Any) -> Run:
    """`session.run` without what it does around the engine, which takes 2 µs of every call and which nobody needs here.

    It looks for names and kinds of tensors that callers of `Session.run` see to, and for providers to fall back on, which `open`
    forbids. Version 1.32 keeps the engine's own session as `_sess`; where another one does not, it is `session.run` itself.
    """
    engine = getattr(getattr(session, "_sess", None), "run", None)
    if engine is None:
        run: Run = session.run
        return run

    def run_unwrapped(names: Sequence[str], inputs: Mapping[str, Array]) -> Sequence[Array]:
        results: Sequence[Array] = engine(names, inputs, None)
        return results

    return run_unwrapped


def _run_on_gpu(run: Run) -> Run:
    def run_on_gpu(names: Sequence[str], inputs: Mapping[str, Array]) -> Sequence[Array]:
        with GATE:
            return run(names, inputs)

    return run_on_gpu


def _run_alone(run: Run) -> Run:
    lock = threading.Lock()

    def run_alone(names: Sequence[str], inputs: Mapping[str, Array]) -> Sequence[Array]:
        with lock:
            return run(names, inputs)

    return run_alone


def _import() -> ModuleType:
    # Its wheels send events about process, models and run times to their maker (Privacy.md of 1.32). The variable stops all
    # of that before it begins; the call is for a program that imported onnxruntime before us.
    set_unless_set(NO_TELEMETRY, "1")
    try:
        import onnxruntime

        onnxruntime.disable_telemetry_events()
    except ImportError as error:
        raise BackendUnavailableError(f"onnxruntime cannot be imported: {error}; install it again") from error
    module: ModuleType = onnxruntime
    return module


def _installed() -> tuple[str, str] | None:
    """(distribution, version) of the wheel that `onnxruntime` comes from."""
    for package in reversed(DISTRIBUTIONS):
        try:
            return package, version(package)
        except PackageNotFoundError:
            continue
    return None
