"""Tiny ONNX models of one matrix, and what they are fed: sources for builds that end in an unusual way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def save_linear(file: Path, weight: np.ndarray, *after: onnx.NodeProto) -> Path:
    """x [n, rows of `weight`] times `weight`, then the nodes `after` from "product" to "y"."""
    nodes = [helper.make_node("MatMul", ["x", "weight"], ["product" if after else "y"]), *after]
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", weight.shape[0]])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", weight.shape[1]])],
        [numpy_helper.from_array(weight.astype(np.float32), "weight")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(file))
    return file


def save_close_scores(folder: Path, rows: int = 120) -> tuple[Path, Path]:
    """A classifier by the sign of a small number beside a large one, and labelled rows (npz): right in fp32, lost in int8."""
    generator = np.random.default_rng(5)
    sign = np.where(np.arange(rows) % 2, 1.0, -1.0)
    x = np.stack([generator.uniform(0, 1000, rows), sign], axis=1).astype(np.float32)
    np.savez(folder / "rows.npz", x=x, labels=(sign > 0).astype(np.int64))
    return save_linear(folder / "close.onnx", np.array([[1.0, 1.0], [0.0, 1.0]])), folder / "rows.npz"
