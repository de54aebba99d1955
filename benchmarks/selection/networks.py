"""Networks of known architecture with random weights, as ONNX graphs: speed does not ask what a network has learnt.

Batch normalisation is folded into the convolutions, as exporters do for inference.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from runtime.tensors import Array

OPSET = 17
IR_VERSION = 8
"""Old enough for every runtime here."""

_STAGES = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3)}
# Expansion, channels, repeats, stride (table 2 of "MobileNetV2: Inverted Residuals and Linear Bottlenecks", 2018).
_INVERTED = (
    (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
)  # fmt: skip


class Graph:
    """A graph that grows operator by operator; every method returns the name of its output."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[onnx.TensorProto] = []

    def add(self, operator: str, *inputs: str, domain: str = "", **attributes: object) -> str:
        """One operator with one output."""
        name = f"{operator.lower()}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, list(inputs), [name], name, domain=domain, **attributes))
        return name

    def constant(self, value: Array) -> str:
        """An initialiser."""
        name = f"weight_{len(self._weights)}"
        self._weights.append(numpy_helper.from_array(value, name))
        return name

    def weight(self, *shape: int, fan_in: int) -> str:
        """Normal weights that keep the size of activations (He et al., 2015)."""
        return self.constant((self._random.standard_normal(shape) * np.sqrt(2 / fan_in)).astype(np.float32))

    def conv(self, x: str, channels_in: int, channels: int, kernel: int, stride: int = 1, groups: int = 1) -> str:
        """A convolution with bias, padded to keep the size."""
        fan_in = channels_in // groups * kernel * kernel
        weight = self.weight(channels, channels_in // groups, kernel, kernel, fan_in=fan_in)
        bias = self.constant(np.zeros(channels, np.float32))
        return self.add(
            "Conv", x, weight, bias,
            kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[kernel // 2] * 4, group=groups,
        )  # fmt: skip

    def dense(self, x: str, size_in: int, size: int) -> str:
        """`x` [..., size_in] times a matrix, plus a bias."""
        product = self.add("MatMul", x, self.weight(size_in, size, fan_in=size_in))
        return self.add("Add", product, self.constant(np.zeros(size, np.float32)))

    def relu6(self, x: str) -> str:
        """Clipped to 0..6."""
        return self.add("Clip", x, self.constant(np.array(0, np.float32)), self.constant(np.array(6, np.float32)))

    def finish(self, shape_in: Sequence[int], result: str, size_out: Sequence[int]) -> onnx.ModelProto:
        """The model from `x` [batch, *shape_in] to `y` [batch, *size_out]."""
        self._nodes.append(helper.make_node("Identity", [result], ["y"], "result"))
        graph = helper.make_graph(
            self._nodes,
            "network",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", *shape_in])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", *size_out])],
            self._weights,
        )
        domains = {node.domain for node in self._nodes}
        opsets = [helper.make_opsetid("", OPSET)] + [helper.make_opsetid(d, 3) for d in sorted(domains) if d]
        return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)


def resnet(layers: int, image: int = 224) -> onnx.ModelProto:
    """ResNet-18 (basic blocks) or ResNet-50 (bottlenecks) for 1,000 classes."""
    g = Graph(seed=layers)
    x = g.add("Relu", g.conv("x", 3, 64, 7, stride=2))
    x = g.add("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    channels = 64
    for stage, blocks in enumerate(_STAGES[layers]):
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            narrow = 64 << stage
            wide = narrow if layers == 18 else 4 * narrow
            if layers == 18:
                y = g.add("Relu", g.conv(x, channels, narrow, 3, stride))
                y = g.conv(y, narrow, wide, 3)
            else:
                y = g.add("Relu", g.conv(x, channels, narrow, 1))
                y = g.add("Relu", g.conv(y, narrow, narrow, 3, stride))
                y = g.conv(y, narrow, wide, 1)
            skip = x if stride == 1 and channels == wide else g.conv(x, channels, wide, 1, stride)
            x, channels = g.add("Relu", g.add("Add", y, skip)), wide
    x = g.add("Flatten", g.add("GlobalAveragePool", x))
    return g.finish((3, image, image), g.dense(x, channels, 1000), (1000,))


def resnet_8(image: int = 32) -> onnx.ModelProto:
    """The ResNet of MLPerf Tiny's image classification: three stages of one block each, 10 classes."""
    g = Graph(seed=8)
    x, channels = g.add("Relu", g.conv("x", 3, 16, 3)), 16
    for wide in (16, 32, 64):
        stride = wide // channels
        y = g.conv(g.add("Relu", g.conv(x, channels, wide, 3, stride)), wide, wide, 3)
        skip = x if stride == 1 else g.conv(x, channels, wide, 1, stride)
        x, channels = g.add("Relu", g.add("Add", y, skip)), wide
    x = g.add("Flatten", g.add("GlobalAveragePool", x))
    return g.finish((3, image, image), g.add("Softmax", g.dense(x, channels, 10), axis=-1), (10,))


def mobilenet_v2(image: int = 224) -> onnx.ModelProto:
    """MobileNetV2 of width 1.0 for 1,000 classes."""
    g = Graph(seed=2)
    x, channels = g.relu6(g.conv("x", 3, 32, 3, stride=2)), 32
    for expansion, wide, repeats, first_stride in _INVERTED:
        for repeat in range(repeats):
            stride, inner = (first_stride if repeat == 0 else 1), channels * expansion
            y = x if expansion == 1 else g.relu6(g.conv(x, channels, inner, 1))
            y = g.relu6(g.conv(y, inner, inner, 3, stride, groups=inner))
            y = g.conv(y, inner, wide, 1)
            x = g.add("Add", x, y) if stride == 1 and channels == wide else y
            channels = wide
    x = g.relu6(g.conv(x, channels, 1280, 1))
    x = g.add("Flatten", g.add("GlobalAveragePool", x))
    return g.finish((3, image, image), g.dense(x, 1280, 1000), (1000,))


def transformer(length: int = 64, width: int = 256, heads: int = 4, layers: int = 4) -> onnx.ModelProto:
    """A small encoder with normalisation before each block, of embedded tokens [batch, length, width]; 16 classes."""
    g = Graph(seed=3)

    def shape(*sizes: int) -> str:
        return g.constant(np.array(sizes, np.int64))

    def norm(x: str) -> str:
        one, zero = g.constant(np.ones(width, np.float32)), g.constant(np.zeros(width, np.float32))
        return g.add("LayerNormalization", x, one, zero, axis=-1)

    def split(x: str, *axes: int) -> str:
        return g.add("Transpose", g.add("Reshape", x, shape(0, length, heads, width // heads)), perm=list(axes))

    scale = g.constant(np.array((width // heads) ** -0.5, np.float32))
    root, half, one = (g.constant(np.array(value, np.float32)) for value in (2**-0.5, 0.5, 1.0))
    x = "x"
    for _ in range(layers):
        y = norm(x)
        query, value = (split(g.dense(y, width, width), 0, 2, 1, 3) for _ in range(2))
        scores = g.add("MatMul", query, split(g.dense(y, width, width), 0, 2, 3, 1))
        mixed = g.add("MatMul", g.add("Softmax", g.add("Mul", scores, scale), axis=-1), value)
        mixed = g.add("Reshape", g.add("Transpose", mixed, perm=[0, 2, 1, 3]), shape(0, length, width))
        x = g.add("Add", x, g.dense(mixed, width, width))
        y = g.dense(norm(x), width, 4 * width)
        gelu = g.add("Mul", g.add("Mul", y, half), g.add("Add", g.add("Erf", g.add("Mul", y, root)), one))
        x = g.add("Add", x, g.dense(gelu, 4 * width, width))
    pooled = g.add("ReduceMean", norm(x), axes=[1], keepdims=0)
    return g.finish((length, width), g.dense(pooled, width, 16), (16,))


def perceptron(features: int = 32, width: int = 256, layers: int = 3) -> onnx.ModelProto:
    """A multi-layer perceptron on a row of a table; 8 classes."""
    g = Graph(seed=4)
    x, size = "x", features
    for _ in range(layers):
        x, size = g.add("Relu", g.dense(x, size, width)), width
    return g.finish((features,), g.dense(x, size, 8), (8,))


def boosted_trees(features: int = 32, trees: int = 100, depth: int = 6) -> onnx.ModelProto:
    """Full regression trees whose leaves are summed: an operator of ai.onnx.ml, which not every runtime has."""
    random = np.random.default_rng(5)
    g = Graph(seed=5)
    inner, count = 2**depth - 1, 2 ** (depth + 1) - 1
    places = np.arange(count)
    is_leaf = places >= inner
    nodes = trees * count
    leaves = np.tile(is_leaf, trees)
    x = g.add(
        "TreeEnsembleRegressor", "x", domain="ai.onnx.ml", n_targets=1, post_transform="NONE",
        nodes_treeids=np.repeat(np.arange(trees), count).tolist(),
        nodes_nodeids=np.tile(places, trees).tolist(),
        nodes_featureids=np.where(leaves, 0, random.integers(0, features, nodes)).tolist(),
        nodes_values=np.where(leaves, 0.0, random.uniform(0, 1, nodes)).astype(np.float32).tolist(),
        nodes_modes=["LEAF" if leaf else "BRANCH_LEQ" for leaf in leaves],
        nodes_truenodeids=np.where(leaves, 0, np.tile(2 * places + 1, trees)).tolist(),
        nodes_falsenodeids=np.where(leaves, 0, np.tile(2 * places + 2, trees)).tolist(),
        target_treeids=np.repeat(np.arange(trees), inner + 1).tolist(),
        target_nodeids=np.tile(places[is_leaf], trees).tolist(),
        target_ids=[0] * (trees * (inner + 1)),
        target_weights=random.standard_normal(trees * (inner + 1)).astype(np.float32).tolist(),
    )  # fmt: skip
    return g.finish((features,), x, (1,))
