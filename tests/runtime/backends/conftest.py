"""Tiny models, one in each format, that all compute the same: y = x @ WEIGHT + BIAS, x [batch, 4], y [batch, 3]."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from runtime.bundle.manifest import Format

WEIGHT = np.array([[1, 2, 3], [4, 5, 6], [7, 8, 9], [-1, 0, 1]], np.float32)
BIAS = np.array([0.5, -0.5, 2.0], np.float32)


@pytest.fixture(scope="session")
def affine() -> Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]:
    """The oracle."""
    return lambda x: x @ WEIGHT + BIAS


@pytest.fixture(scope="session")
def affine_file(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Format], Path]:
    """The model file of a format, made once; skips where the library that makes it is absent."""
    folder = tmp_path_factory.mktemp("affine")
    makers = {Format.ONNX: _make_onnx, Format.TFLITE: _make_tflite, Format.TORCH: _make_torch}

    def file(format_: Format) -> Path:
        path = folder / f"affine.{format_.value}"
        if not path.exists():
            makers[format_](path)
        return path

    return file


def _make_onnx(path: Path) -> None:
    import onnx
    from onnx import helper, numpy_helper

    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "weight", "bias"], ["y"])],
        "affine",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(WEIGHT, "weight"), numpy_helper.from_array(BIAS, "bias")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def _make_tflite(path: Path) -> None:
    flatbuffers = pytest.importorskip("flatbuffers")
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")

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
        tensor("serving_x:0", [1, 4], 0, [-1, 4]),
        tensor("weight", [3, 4], 1),
        tensor("bias", [3], 2),
        tensor("serving_y:0", [1, 3], 0, [-1, 3]),
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
    model.buffers = [buffer(), buffer(np.ascontiguousarray(WEIGHT.T).tobytes()), buffer(BIAS.tobytes())]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))


def _make_torch(path: Path) -> None:
    torch = pytest.importorskip("torch")

    class Affine(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.tensor(WEIGHT))
            self.register_buffer("bias", torch.tensor(BIAS))

        def forward(self, x: object) -> dict[str, object]:
            return {"y": x @ self.weight + self.bias}

    program = torch.export.export(Affine(), (torch.zeros(2, 4),), dynamic_shapes=({0: torch.export.Dim("n")},))
    torch.export.save(program, path)
