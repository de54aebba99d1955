"""Models of one layer, in each format: y = x @ weight + bias, x [batch, rows of weight], y [batch, columns of weight]."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from runtime.bundle.manifest import Format

Matrix = npt.NDArray[np.float32]


def write_affine(path: Path, format_: Format, weight: Matrix, bias: Matrix) -> None:
    """Skips the test where the library that makes the format is absent."""
    {Format.ONNX: _onnx, Format.TFLITE: _tflite, Format.TORCH: _torch}[format_](path, weight, bias)


def _onnx(path: Path, weight: Matrix, bias: Matrix) -> None:
    import onnx
    from onnx import helper, numpy_helper

    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "weight", "bias"], ["y"])],
        "affine",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", len(weight)])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", len(bias)])],
        [numpy_helper.from_array(weight, "weight"), numpy_helper.from_array(bias, "bias")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def _tflite(path: Path, weight: Matrix, bias: Matrix) -> None:
    flatbuffers = pytest.importorskip("flatbuffers")
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
    rows, columns = weight.shape

    def buffer(data: bytes = b"") -> object:
        made = schema.BufferT()
        made.data = np.frombuffer(data, np.uint8) if data else None
        return made

    def tensor(name: str, shape: list[int], index: int, signature: list[int] | None = None) -> object:
        made = schema.TensorT()
        made.name, made.shape, made.buffer, made.type = name.encode(), shape, index, schema.TensorType.FLOAT32
        made.shapeSignature = signature
        return made

    def named(name: str, index: int) -> object:
        made = schema.TensorMapT()
        made.name, made.tensorIndex = name.encode(), index
        return made

    options = schema.FullyConnectedOptionsT()
    operator = schema.OperatorT()
    operator.inputs, operator.outputs = [0, 1, 2], [3]
    operator.builtinOptionsType, operator.builtinOptions = schema.BuiltinOptions.FullyConnectedOptions, options
    graph = schema.SubGraphT()
    graph.tensors = [
        tensor("serving_x:0", [1, rows], 0, [-1, rows]),
        tensor("weight", [columns, rows], 1),
        tensor("bias", [columns], 2),
        tensor("serving_y:0", [1, columns], 0, [-1, columns]),
    ]
    graph.inputs, graph.outputs, graph.operators = [0], [3], [operator]
    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = b"serving_default", 0
    signature.inputs, signature.outputs = [named("x", 0)], [named("y", 3)]
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.FULLY_CONNECTED
    code.version = 1
    model = schema.ModelT()
    model.version, model.operatorCodes, model.subgraphs, model.signatureDefs = 3, [code], [graph], [signature]
    model.buffers = [buffer(), buffer(np.ascontiguousarray(weight.T).tobytes()), buffer(bias.tobytes())]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))


def _torch(path: Path, weight: Matrix, bias: Matrix) -> None:
    torch = pytest.importorskip("torch")

    class Affine(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.tensor(weight))
            self.register_buffer("bias", torch.tensor(bias))

        def forward(self, x: object) -> dict[str, object]:
            return {"y": x @ self.weight + self.bias}

    program = torch.export.export(
        Affine(), (torch.zeros(2, len(weight)),), dynamic_shapes=({0: torch.export.Dim("n")},)
    )
    torch.export.save(program, path)
