"""A weak and a strong model of one question, as bundles: is the first of two numbers positive? The weak one sees a noisy copy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from runtime.bundle.bundle import Bundle
from runtime.bundle.manifest import Format, ModelDescription, Task, Tensor, VariantDescription
from runtime.bundle.samples import Samples
from runtime.bundle.writing import BundleDraft, VariantDraft, write_bundle

STRONG, WEAK = 0, 1
NOISE = 0.5


def rows(seed: int, count: int, noise: float = NOISE) -> tuple[np.ndarray, np.ndarray]:
    """x [row, 2]: what is asked about, and its noisy copy; labels [row]."""
    rng = np.random.default_rng(seed)
    signal = rng.normal(size=count)
    x = np.stack([signal, signal + noise * rng.normal(size=count)], axis=1).astype(np.float32)
    return x, (signal > 0).astype(np.int64)


def sorting_bundle(
    folder: Path, name: str, sees: int, version: int = 1, *, noise: float = NOISE, samples: int = 2000
) -> Bundle:
    """Scores [row, 2] from column `sees`; samples of other noise have other chances to be right."""
    weights = np.zeros((2, 2), np.float32)
    weights[sees] = (-2.0, 2.0)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "weights"], ["scores"])],
        "sort",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 2])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 2])],
        [numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    x, labels = rows(version, samples, noise)
    return write_bundle(
        folder,
        BundleDraft(
            ModelDescription(
                name=name,
                version=version,
                task=Task.CLASSIFICATION,
                inputs=(Tensor(name="x", datatype="FP32", shape=(-1, 2)),),
                outputs=(Tensor(name="scores", datatype="FP32", shape=(-1, 2)),),
            ),
            (
                VariantDraft(
                    VariantDescription(name="fp32", format=Format.ONNX, precision="fp32"), model.SerializeToString()
                ),
            ),
            samples=Samples({"x": x}, {"scores": x @ weights}, labels),
        ),
    )
