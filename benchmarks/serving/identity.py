"""The large tensor: a model that gives back what it gets, so that only carrying it costs anything."""

from __future__ import annotations

from pathlib import Path

from benchmarks.serving.exchange import IDENTITY_INPUT

STEM = "identity"


def write_identity(folder: Path) -> Path:
    """`identity.onnx`: float32 [batch, 3, 224, 224] in and out."""
    from onnx import TensorProto, helper

    shape = ["batch", 3, 224, 224]
    into = helper.make_tensor_value_info(IDENTITY_INPUT, TensorProto.FLOAT, shape)
    out = helper.make_tensor_value_info("OUTPUT0", TensorProto.FLOAT, shape)
    graph = helper.make_graph([helper.make_node("Identity", [IDENTITY_INPUT], ["OUTPUT0"])], STEM, [into], [out])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    file = folder / f"{STEM}.onnx"
    file.write_bytes(model.SerializeToString())
    return file
