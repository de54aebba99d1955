"""A model opened by ONNX Runtime: its tensors' specs, its calls, and what a failed call says about the device."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from runtime.backends.base import Overlap
from runtime.backends.failures import one_line, show_tensors
from runtime.backends.onnxruntime_bound import BoundRunner, DeviceTensor
from runtime.errors import BackendUnavailableError, BundleError, ExecutionError, InvalidInputError, WrongUseError
from runtime.tensors import Array, TensorSpec

# onnx.TensorProto.DataType as ONNX Runtime spells it. BF16, FP8 and INT4 are left out: its Python binding refuses to
# turn them into numpy arrays or back ("No corresponding Numpy type", seen in 1.32).
DATATYPE_OF: Final[Mapping[str, str]] = {
    "tensor(bool)": "BOOL",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(float16)": "FP16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(string)": "BYTES",
}

# cudaError_t is printed as a number; 2 is "out of memory", after which the device still works.
_CUDA_FAILURE: Final = re.compile(
    r"CUDA (?:failure|error)[ :]*(\d+)|no CUDA-capable device|CUDA driver version is insufficient", re.IGNORECASE
)
_CUDA_OUT_OF_MEMORY: Final = "2"
_NO_ROOM: Final = re.compile(r"out of memory|failed to allocate memory", re.IGNORECASE)


Run = Callable[[Sequence[str], Mapping[str, Array]], Sequence[Array]]
"""`InferenceSession.run`, or what stands in for it."""


class OnnxRuntimeSession:
    """An `InferenceSession` (`native`), which takes calls from several threads at once, where `run` does not keep them apart."""

    def __init__(
        self,
        session: Any,
        file: Path,
        backend: str,
        run: Run,
        bound: BoundRunner | None = None,
        overlap: Overlap = Overlap.SHARED,
    ) -> None:
        self.overlap = overlap
        self.passes_nan = backend == "onnxruntime-cpu"
        self.inputs = tuple(_spec(node, "input", file) for node in session.get_inputs())
        self.outputs = tuple(_spec(node, "output", file) for node in session.get_outputs())
        self._backend = backend
        self._names = [spec.name for spec in self.outputs]
        self._only = self._names[0] if len(self._names) == 1 else None
        self._has_strings = any(spec.datatype == "BYTES" for spec in (*self.inputs, *self.outputs))
        self.native = session
        self._run = run
        self._bound = bound

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The outputs by name; BYTES must be UTF-8, because ONNX strings are (`InvalidInputError`)."""
        if self._has_strings:
            inputs = {
                name: _decoded(name, value) if value.dtype.kind == "O" else value for name, value in inputs.items()
            }
        try:
            results: Sequence[Array] = self._run(self._names, inputs)
        except Exception as error:
            raise self._failure(error, show_tensors(inputs)) from error
        if self._has_strings:
            results = [_encoded(value) if value.dtype.kind == "O" else value for value in results]
        if self._only is not None:
            return {self._only: results[0]}  # a microsecond less than by `zip`
        return dict(zip(self._names, results, strict=True))

    def run_bound(self, inputs: Mapping[str, DeviceTensor]) -> dict[str, DeviceTensor]:
        """As `run`, for tensors in the memory of the session's device, where the outputs stay; see `BoundRunner.run`.

        `WrongUseError` from a session that replays CUDA graphs, which has its own buffers.
        """
        if self._bound is None:
            raise WrongUseError(
                f"this session of {self._backend} replays CUDA graphs or is closed, and takes no tensors on the device; "
                "open the variant without the option 'graph'"
            )
        try:
            return self._bound.run(self._names, inputs)
        except Exception as error:
            raise self._failure(error, f"{', '.join(map(repr, inputs))} on the device") from error

    def close(self) -> None:
        """Lets the session go; its memory is freed with the last call that still runs."""
        self.native = None
        self._run = _closed
        self._bound = None

    def _failure(self, error: Exception, tensors: str) -> ExecutionError | BackendUnavailableError:
        if self._backend != "onnxruntime-cpu" and is_lost_device(error):
            return BackendUnavailableError(f"{self._backend} lost its device: {one_line(error)}")
        return ExecutionError(f"ONNX Runtime failed on {tensors}: {one_line(error)}")


def _closed(*_: object) -> Sequence[Array]:
    raise RuntimeError("the session is closed")


def _spec(node: Any, what: str, file: Path) -> TensorSpec:
    datatype = DATATYPE_OF.get(node.type)
    if datatype is None:
        raise BundleError(
            f"{what} {node.name!r} of {file} is {node.type}; "
            f"what ONNX Runtime gives to Python is {', '.join(DATATYPE_OF)}: export the model with one of those"
        )
    return TensorSpec(node.name, datatype, tuple(n if isinstance(n, int) and n >= 0 else -1 for n in node.shape))


def _decoded(name: str, value: Array) -> Array:
    """Strings for ONNX Runtime, which would take `bytes` by their repr."""
    result = np.empty(value.size, dtype=np.object_)
    try:
        result[:] = [item.decode() for item in value.reshape(-1).tolist()]
    except UnicodeDecodeError as error:
        raise InvalidInputError(
            f"input {name!r} holds {bytes(error.object[:32])!r}, which is not UTF-8 (byte {error.start}); "
            "strings of an ONNX model are UTF-8"
        ) from error
    return result.reshape(value.shape)


def _encoded(value: Array) -> Array:
    result = np.empty(value.size, dtype=np.object_)
    result[:] = [item.encode() for item in value.reshape(-1).tolist()]
    return result.reshape(value.shape)


def is_lost_device(error: Exception) -> bool:
    """Whether the GPU is gone for this process: after a CUDA failure other than "out of memory" every call fails."""
    found = _CUDA_FAILURE.search(str(error))
    return found is not None and found.group(1) != _CUDA_OUT_OF_MEMORY


def is_full(error: Exception) -> bool:
    """Whether the device has no room: when a model is opened, another candidate is the answer, not another file."""
    return _NO_ROOM.search(str(error)) is not None
