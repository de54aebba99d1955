"""OpenVINO on the processor, for ONNX files."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

from runtime.backends.base import Overlap, RunOptions, check_extra
from runtime.backends.failures import one_line, show_tensors
from runtime.bundle.manifest import Format
from runtime.errors import BackendUnavailableError, BundleError, ExecutionError
from runtime.tensors import Array, TensorSpec

if TYPE_CHECKING:
    from runtime.hardware import Hardware

# openvino.Type names. Strings are left out, its CPU plugin computes nothing with them; BF16 has no numpy form there.
DATATYPE_OF: Final[Mapping[str, str]] = {
    "boolean": "BOOL",
    "u8": "UINT8",
    "u16": "UINT16",
    "u32": "UINT32",
    "u64": "UINT64",
    "i8": "INT8",
    "i16": "INT16",
    "i32": "INT32",
    "i64": "INT64",
    "f16": "FP16",
    "f32": "FP32",
    "f64": "FP64",
}


class OpenVinoBackend:
    """`.onnx` files on the processor, tuned for latency: one call at a time takes all its threads."""

    name = "openvino-cpu"
    device = "cpu"
    formats = frozenset({Format.ONNX})

    def unavailable_reason(self, hardware: Hardware) -> str | None:
        """None when `openvino` is installed."""
        return (
            None if find_spec("openvino") is not None else "openvino is not installed: pip install 'edgeward[openvino]'"
        )

    def variations(self, hardware: Hardware) -> tuple[Mapping[str, str], ...]:
        """Only one way."""
        return ({},)

    def version(self) -> str:
        """Of the distribution."""
        try:
            return version("openvino")
        except PackageNotFoundError:
            return "not installed"

    def open(self, file: Path, options: RunOptions) -> OpenVinoSession:
        """The model compiled for `options.threads` threads of the processor, computing in the model's own precision."""
        check_extra(self.name, options, {})
        openvino = _import()
        settings = {
            "INFERENCE_NUM_THREADS": options.threads,
            "PERFORMANCE_HINT": "LATENCY",
            # The default lets a processor with BF16 units round float32 to bfloat16: faster, but another answer.
            "EXECUTION_MODE_HINT": "ACCURACY",
        }
        try:
            core = openvino.Core()
            model = core.read_model(str(file))
            inputs = tuple(_spec(port, port.get_node().get_friendly_name(), "input", file) for port in model.inputs)
            outputs = tuple(_spec(port, _output_name(port), "output", file) for port in model.outputs)
            compiled = core.compile_model(model, "CPU", settings)
        except BundleError:
            raise
        except Exception as error:
            raise BundleError(
                f"{file} cannot be opened by OpenVINO: {one_line(error)}; expected an ONNX model it has operators for"
            ) from error
        return OpenVinoSession(compiled, inputs, outputs)


def _import() -> ModuleType:
    """The library without its telemetry, which sends usage data over the network from a process it forks when imported.

    A None in `sys.modules` stands for a package that is not installed; OpenVINO has a stub for that case.
    """
    is_first = "openvino" not in sys.modules and "openvino_telemetry" not in sys.modules
    if is_first:
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    try:
        import openvino
    except ImportError as error:
        raise BackendUnavailableError(
            f"openvino cannot be imported: {error}; pip install 'edgeward[openvino]'"
        ) from error
    finally:
        if is_first:
            del sys.modules["openvino_telemetry"]
    module: ModuleType = openvino
    return module


class OpenVinoSession:
    """A compiled model and its infer requests: as many as there were calls at the same time.

    Compiled for latency it has one stream, through which the requests go one after the other.
    """

    overlap = Overlap.OWN
    passes_nan = False
    """Relu of NaN is 0, and the rest an answer of 91 % (digits, 2026.4, x86-64)."""

    def __init__(self, compiled: Any, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]) -> None:
        self.inputs = inputs
        self.outputs = outputs
        self._in_names = [spec.name for spec in inputs]
        self._out_names = [spec.name for spec in outputs]
        self._compiled: Any = compiled
        # A deque's append and pop are atomic; a request is with one call at a time.
        self._idle: deque[Any] = deque()

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The outputs by name, copied out of the request."""
        try:
            try:
                request = self._idle.pop()
            except IndexError:
                request = self._new_request()
            # Inputs are shared, not copied: they outlive this call. A request that failed is dropped, not used again.
            results = request.infer([inputs[name] for name in self._in_names], share_inputs=True, share_outputs=False)
            named = dict(zip(self._out_names, results.to_tuple(), strict=True))
        except Exception as error:
            raise ExecutionError(f"OpenVINO failed on {show_tensors(inputs)}: {one_line(error)}") from error
        self._idle.append(request)
        return named

    def close(self) -> None:
        """Lets the model and its requests go."""
        self._compiled = None
        self._idle.clear()

    def _new_request(self) -> Any:
        if self._compiled is None:
            raise RuntimeError("the session is closed")
        return self._compiled.create_infer_request()


def _output_name(port: Any) -> str:
    """The ONNX name of an output; where OpenVINO merged several names, the one its Result node was made for."""
    names = sorted(port.get_names())
    if len(names) == 1:
        return str(names[0])
    result = str(port.get_node().get_friendly_name()).removesuffix("/sink_port_0")
    return result if result in names or not names else str(names[0])


def _spec(port: Any, name: str, what: str, file: Path) -> TensorSpec:
    kind = port.get_element_type().get_type_name()
    datatype = DATATYPE_OF.get(kind)
    shape = port.get_partial_shape()
    if datatype is None or shape.rank.is_dynamic:
        seen = kind if datatype is None else "of unknown rank"
        raise BundleError(
            f"{what} {name!r} of {file} is {seen}; OpenVINO runs tensors of known rank and {', '.join(DATATYPE_OF)}"
        )
    return TensorSpec(name, datatype, tuple(-1 if n.is_dynamic else int(n.get_length()) for n in shape))
