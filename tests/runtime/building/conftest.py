"""A tiny classifier of images as ONNX, and rows for it: [batch, 3, 4, 4] float32 of 0..255 to 3 scores.

The score of a class is the mean of a channel of its own: the brightest channel is the answer, whatever the scale. A bias
that is right for 0..255 alone makes values of 0..1 answer class 2 always.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

ROWS = 120
BatchOf = int | str


@pytest.fixture(scope="session")
def images() -> npt.NDArray[np.uint8]:
    """NHWC, one channel much brighter than the others."""
    generator = np.random.default_rng(3)
    made = generator.integers(0, 120, (ROWS, 4, 4, 3))
    made[np.arange(ROWS), :, :, np.arange(ROWS) % 3] += 100
    return made.astype(np.uint8)


@pytest.fixture(scope="session")
def labels() -> npt.NDArray[np.int64]:
    return np.arange(ROWS) % 3


@pytest.fixture(scope="session")
def rows_file(tmp_path_factory: pytest.TempPathFactory, images: np.ndarray, labels: np.ndarray) -> Path:
    path = tmp_path_factory.mktemp("rows") / "rows.npz"
    np.savez(path, images=images, labels=labels)
    return path


@pytest.fixture(scope="session")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """The file, with a free batch or a fixed one."""
    pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("onnx")
    folder = tmp_path_factory.mktemp("classifier")

    def file(batch: BatchOf = "n", opset: int = 17) -> Path:
        path = folder / f"classifier-{batch}-{opset}.onnx"
        if path.exists():
            return path
        helper, tensor = onnx.helper, onnx.numpy_helper.from_array
        weight = np.eye(3, dtype=np.float32).reshape(3, 3, 1, 1)
        nodes = [
            helper.make_node("Conv", ["image", "weight", "bias"], ["mixed"]),
            helper.make_node("GlobalAveragePool", ["mixed"], ["pooled"]),
            helper.make_node("Flatten", ["pooled"], ["scores"]),
        ]
        graph = helper.make_graph(
            nodes,
            "classifier",
            [helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, [batch, 3, 4, 4])],
            [helper.make_tensor_value_info("scores", onnx.TensorProto.FLOAT, [batch, 3])],
            [tensor(weight, "weight"), tensor(np.array([0, 0, 5], np.float32), "bias")],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
        onnx.save(model, path)
        return path

    return file
