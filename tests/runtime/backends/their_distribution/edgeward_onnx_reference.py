"""A whole backend of another package: ONNX's reference evaluator, in numpy, on the processor. Slow, and right."""

from collections.abc import Mapping
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from runtime.backends.base import Overlap, RunOptions, check_extra
from runtime.bundle.manifest import Format
from runtime.errors import BundleError, ExecutionError
from runtime.hardware import Hardware
from runtime.tensors import Array, TensorSpec, datatype_of


class OnnxReferenceBackend:
    """`.onnx` files; one thread, whatever is asked for."""

    name = "onnx-reference"
    device = "cpu"
    formats = frozenset({Format.ONNX})

    def unavailable_reason(self, hardware: Hardware) -> str | None:
        return None if find_spec("onnx") is not None else "onnx is not installed: pip install onnx"

    def variations(self, hardware: Hardware) -> tuple[Mapping[str, str], ...]:
        return ({},)

    def version(self) -> str:
        return version("onnx")

    def open(self, file: Path, options: RunOptions) -> "OnnxReferenceSession":
        check_extra(self.name, options, {})
        from onnx.reference import ReferenceEvaluator

        try:
            return OnnxReferenceSession(ReferenceEvaluator(str(file)))
        except Exception as error:
            raise BundleError(f"{file} is not understood by ONNX's reference evaluator: {error}") from error


class OnnxReferenceSession:
    overlap = Overlap.SHARED
    passes_nan = True  # numpy does: np.maximum(nan, 0) is nan

    def __init__(self, evaluator: Any) -> None:
        self.inputs = tuple(map(_spec, evaluator.proto_.graph.input))
        self.outputs = tuple(map(_spec, evaluator.proto_.graph.output))
        self._evaluator = evaluator

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        try:
            results = self._evaluator.run(None, dict(inputs))
        except Exception as error:
            raise ExecutionError(f"ONNX's reference evaluator failed: {error}") from error
        return {spec.name: value for spec, value in zip(self.outputs, results, strict=True)}

    def close(self) -> None:
        self._evaluator = None


def _spec(value: Any) -> TensorSpec:
    from onnx.helper import tensor_dtype_to_np_dtype

    kind = value.type.tensor_type
    shape = tuple(size.dim_value if size.HasField("dim_value") else -1 for size in kind.shape.dim)
    return TensorSpec(value.name, datatype_of(tensor_dtype_to_np_dtype(kind.elem_type)), shape)
