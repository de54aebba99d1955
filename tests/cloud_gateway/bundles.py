"""Small bundles for tests of releases: [batch, 4] floats and a [batch] index in, scores and a picked number out."""

from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from runtime.bundle.bundle import Bundle
from runtime.bundle.manifest import Format, ModelDescription, Targets, Task, Tensor, VariantDescription
from runtime.bundle.writing import BundleDraft, VariantDraft, write_bundle
from runtime.selection.settings import SelectionSettings

SELECTION = SelectionSettings(budget_s=0.1, isolate=False, backends=("onnxruntime-cpu",))
FEATURES = 4
# An index that the table of a model with fewer entries does not have: the model fails while it runs.
PICK_FAILS_ON_SMALL_TABLES = 5


def model_bytes(weights: np.ndarray, table_size: int) -> bytes:
    """scores = features @ weights; picked = table[index], which fails for an index beyond the table."""
    nodes = [
        helper.make_node("MatMul", ["features", "weights"], ["scores"]),
        helper.make_node("Gather", ["table", "index"], ["picked"]),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [
            helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", FEATURES]),
            helper.make_tensor_value_info("index", TensorProto.INT64, ["batch"]),
        ],
        [
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", weights.shape[1]]),
            helper.make_tensor_value_info("picked", TensorProto.FLOAT, ["batch"]),
        ],
        [
            numpy_helper.from_array(weights.astype(np.float32), "weights"),
            numpy_helper.from_array(np.arange(table_size, dtype=np.float32), "table"),
        ],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    return bytes(made.SerializeToString())


def make_bundle(
    folder: Path,
    version: int,
    *,
    name: str = "small",
    is_other: bool = False,
    table_size: int = 10,
    classes: int = 3,
    description: str = "",
) -> Bundle:
    """A bundle of version `version`; with `is_other` it answers another class."""
    weights = np.eye(FEATURES, classes)
    if is_other:
        weights = weights[:, ::-1]
    shape = (-1, classes)
    return write_bundle(
        folder,
        BundleDraft(
            ModelDescription(
                name=name,
                version=version,
                description=description,
                task=Task.CLASSIFICATION,
                inputs=(
                    Tensor(name="features", datatype="FP32", shape=(-1, FEATURES)),
                    Tensor(name="index", datatype="INT64", shape=(-1,)),
                ),
                outputs=(
                    Tensor(name="scores", datatype="FP32", shape=shape),
                    Tensor(name="picked", datatype="FP32", shape=(-1,)),
                ),
                targets=Targets(p95_latency_ms=5),
            ),
            (
                VariantDraft(
                    VariantDescription(name="fp32", format=Format.ONNX, precision="fp32"),
                    model_bytes(weights, table_size),
                ),
            ),
        ),
    )


def row(index: int = 0, rows: int = 1) -> dict[str, np.ndarray]:
    """Inputs whose class is 0 for the usual weights."""
    features = np.zeros((rows, FEATURES), np.float32)
    features[:, 0] = 1
    return {"features": features, "index": np.full(rows, index, np.int64)}
