"""ONNX: a source made self-contained, its precision told, fp16 and int8 made of fp32. Heavy imports inside functions."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Final

from runtime.errors import BundleError
from runtime.tensors import Array

MAX_ONNX_BYTES: Final = 2**31 - 1
"""A protobuf message ends there; with external data beside it a model may be larger, a variant of a bundle may not."""
PER_CHANNEL_OPSET: Final = 13
"""DequantizeLinear has an axis since then (ONNX operators, "Versioning")."""
_QUANTISED_OPS: Final = (
    "QuantizeLinear",
    "DequantizeLinear",
    "QLinear",
    "MatMulInteger",
    "ConvInteger",
    "DynamicQuantize",
)


def take_in(source: str, target: str) -> str:
    """Writes `source` to `target` with its weights inside; its precision (fp32, fp16, int8).

    Nothing outside the model's folder is read, no link is followed, and sizes are checked before anything is loaded.
    """
    import onnx
    from google.protobuf.message import DecodeError

    path = Path(source)
    raw = path.read_bytes() if path.stat().st_size <= MAX_ONNX_BYTES else b""
    if not raw:
        raise BundleError(f"{path} has {path.stat().st_size} bytes; an ONNX file has at most {MAX_ONNX_BYTES}")
    try:
        model = onnx.load_model_from_string(raw)
    except DecodeError as error:
        raise BundleError(f"{path} is no ONNX model: {error}") from error
    if not model.graph.node:
        raise BundleError(f"{path} is no ONNX model: it has no nodes")
    outside = [tensor for tensor in _tensors(model) if tensor.data_location == onnx.TensorProto.EXTERNAL]
    if outside:
        total = path.stat().st_size + sum(_external_bytes(path, tensor) for tensor in outside)
        if total > MAX_ONNX_BYTES:
            raise BundleError(
                f"{path} has {total} bytes with its external data; a variant has at most {MAX_ONNX_BYTES}"
            )
        onnx.load_external_data_for_model(model, str(path.parent))
        raw = model.SerializeToString(deterministic=True)
    Path(target).write_bytes(raw)
    return _precision(model)


def write_fp16(source: str | Path, target: str | Path) -> None:
    """Half precision inside; inputs and outputs stay as they are."""
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    model = onnx.load(str(source))
    if not any(tensor.data_type == onnx.TensorProto.FLOAT for tensor in _tensors(model)):
        raise BundleError("it has no fp32 weights that could become fp16")
    made = convert_float_to_float16(model, keep_io_types=True)
    Path(target).write_bytes(made.SerializeToString(deterministic=True))


def write_int8(
    source: str | Path,
    target: str | Path,
    rows: Sequence[Mapping[str, Array]],
    *,
    reduce_range: bool,
    fold: bool = True,
) -> None:
    """int8 in QDQ form: unsigned activations, signed weights per channel, calibrated by the least and greatest values.

    `rows` are inputs of one call each. `fold` first folds constants and batch normalisation into the weights.
    """
    from onnxruntime import quantization

    class Calls(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._calls: Iterator[Mapping[str, Array]] = iter(rows)

        def get_next(self) -> dict[str, Array] | None:
            call = next(self._calls, None)
            return None if call is None else dict(call)

    def quantise(ready: Path, extra: dict[str, bool]) -> None:
        quantization.quantize_static(
            ready,
            target,
            Calls(),
            quant_format=quantization.QuantFormat.QDQ,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            per_channel=True,
            reduce_range=reduce_range,
            extra_options=extra,
        )

    with tempfile.TemporaryDirectory() as scratch:
        ready = _ready_for_int8(Path(source), Path(scratch)) if fold else Path(source)
        try:
            quantise(ready, {})
        except ValueError:
            # 1.32 cannot fit the weights' scales to a bias of shape [1, n], as CNTK wrote them; it need not.
            quantise(ready, {"QDQDisableWeightAdjustForInt32Bias": True})
    import onnx

    if not any(node.op_type.startswith(_QUANTISED_OPS) for node in onnx.load(str(target)).graph.node):
        raise BundleError("nothing in it can be quantised: it has no Conv, Gemm or MatMul with constant weights")


def strip_notes(model: Any) -> None:
    """Takes out what exporters note on where each node came from: paths of a machine, and a tenth of a small file."""
    for part in (model.graph, *model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    model.ClearField("metadata_props")


def _ready_for_int8(source: Path, scratch: Path) -> Path:
    """The model in an opset that has scales per channel, its constants folded."""
    import onnx
    from onnxruntime.quantization.shape_inference import quant_pre_process

    model = onnx.load(str(source))
    opset = max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=1)
    if opset < PER_CHANNEL_OPSET:
        source = scratch / "newer.onnx"
        _drop_weights_from_inputs(model)
        onnx.save(onnx.version_converter.convert_version(model, PER_CHANNEL_OPSET), str(source))
    folded = scratch / "folded.onnx"
    # Symbolic shape inference needs sympy and is for transformers with odd shapes; ONNX's own does for the rest.
    quant_pre_process(str(source), str(folded), skip_symbolic_shape=True)
    return folded


def _drop_weights_from_inputs(model: Any) -> None:
    """Before IR 4 weights had to stand among the inputs as well, where they cannot be folded."""
    weights = {tensor.name for tensor in model.graph.initializer}
    kept = [value for value in model.graph.input if value.name not in weights]
    del model.graph.input[:]
    model.graph.input.extend(kept)
    model.ir_version = max(model.ir_version, 4)


def _tensors(model: Any) -> Iterator[Any]:
    """Every constant tensor of the model: of its graph, its functions, and the graphs inside nodes."""
    waiting = [model.graph, *model.functions]
    while waiting:
        part = waiting.pop()
        yield from getattr(part, "initializer", ())
        for sparse in getattr(part, "sparse_initializer", ()):
            yield sparse.values
            yield sparse.indices
        for node in part.node:
            for attribute in node.attribute:
                yield attribute.t
                yield from attribute.tensors
                waiting += [attribute.g, *attribute.graphs]


def _external_bytes(path: Path, tensor: Any) -> int:
    """The size of the file that holds `tensor`, which must be a plain file in the model's folder."""
    location = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
    pure = PurePosixPath(location)
    file = path.parent / location
    is_inside = bool(pure.parts) and not pure.is_absolute() and ".." not in pure.parts and "\\" not in location
    if not is_inside or file.is_symlink() or not file.is_file() or not _stays_inside(file, path.parent):
        raise BundleError(
            f"weights {tensor.name!r} of {path} lie in {location!r}; "
            "expected a file beside the model, no link: export it with its weights inside"
        )
    if file.stat().st_nlink > 1:
        raise BundleError(f"weights file {location!r} of {path} is a hard link; copy it to a file of its own")
    length = next((int(entry.value) for entry in tensor.external_data if entry.key == "length"), 0)
    return max(length, 0) or file.stat().st_size


def _stays_inside(file: Path, folder: Path) -> bool:
    return file.resolve().is_relative_to(folder.resolve())


def _precision(model: Any) -> str:
    import onnx

    if any(node.op_type.startswith(_QUANTISED_OPS) for node in model.graph.node):
        return "int8"
    kinds = {tensor.data_type for tensor in _tensors(model)}
    is_half = onnx.TensorProto.FLOAT16 in kinds and onnx.TensorProto.FLOAT not in kinds
    return "fp16" if is_half else "fp32"
