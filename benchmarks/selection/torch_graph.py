"""A graph of `networks` as an exported program of PyTorch, with the same weights: the few operators they use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import onnx
import torch
from onnx import helper, numpy_helper
from torch.nn import functional

Attributes = Mapping[str, Any]
_EXAMPLE_ROWS = 2


def save_program(model: onnx.ModelProto, target: Path) -> None:
    """Writes the program, with a free batch; `KeyError` names an operator that is not known here."""
    dims = model.graph.input[0].type.tensor_type.shape.dim[1:]
    example = torch.zeros(_EXAMPLE_ROWS, *(dim.dim_value for dim in dims))
    program = torch.export.export(_Network(model), (example,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    torch.export.save(program, str(target))


class _Network(torch.nn.Module):  # type: ignore[misc]
    """Runs the graph's nodes in their order. Scalars and lists of integers are constants, all else are parameters."""

    def __init__(self, model: onnx.ModelProto) -> None:
        super().__init__()
        graph = model.graph
        self._constants: dict[str, Any] = {}
        self._weights: dict[str, str] = {}
        for number, tensor in enumerate(graph.initializer):
            array = numpy_helper.to_array(tensor)
            if array.ndim == 0 or array.dtype.kind == "i":
                self._constants[tensor.name] = array.tolist()
            else:
                self._weights[tensor.name] = f"weight_{number}"
                weight = torch.nn.Parameter(torch.from_numpy(array.copy()), requires_grad=False)
                self.register_parameter(f"weight_{number}", weight)
        self._input, self._output = graph.input[0].name, graph.output[0].name
        self._nodes = [
            (
                _OPERATORS[node.op_type],
                {a.name: helper.get_attribute_value(a) for a in node.attribute},
                list(node.input),
                node.output[0],
            )
            for node in graph.node
        ]

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        values: dict[str, Any] = {**self._constants, self._input: x}
        values |= {name: getattr(self, own) for name, own in self._weights.items()}
        for operator, attributes, inputs, output in self._nodes:
            values[output] = operator(attributes, *(values[name] if name else None for name in inputs))
        return {self._output: values[self._output]}


def _conv(a: Attributes, x: Any, weight: Any, bias: Any = None) -> Any:
    pads = a.get("pads", [0, 0, 0, 0])
    assert pads[:2] == pads[2:], "padded alike on both sides"
    strides, dilations = a.get("strides", [1, 1]), a.get("dilations", [1, 1])
    return functional.conv2d(x, weight, bias, strides, pads[:2], dilations, a.get("group", 1))


def _max_pool(a: Attributes, x: Any) -> Any:
    return functional.max_pool2d(x, a["kernel_shape"], a.get("strides", [1, 1]), a.get("pads", [0, 0])[:2])


def _gemm(a: Attributes, x: Any, weight: Any, bias: Any = None) -> Any:
    return functional.linear(x, weight if a.get("transB") else weight.T, bias)


def _reduce_mean(a: Attributes, x: Any, axes: Any = None) -> Any:
    return x.mean(axes if axes is not None else a["axes"], keepdim=bool(a.get("keepdims", 1)))


def _reshape(a: Attributes, x: Any, shape: list[int]) -> Any:
    return x.reshape([x.shape[at] if size == 0 else size for at, size in enumerate(shape)])


def _layer_norm(a: Attributes, x: Any, weight: Any, bias: Any = None) -> Any:
    return functional.layer_norm(x, weight.shape, weight, bias, a.get("epsilon", 1e-5))


_OPERATORS: dict[str, Callable[..., Any]] = {
    "Add": lambda a, x, y: x + y,
    "Clip": lambda a, x, least, most: x.clamp(least, most),
    "Conv": _conv,
    "Erf": lambda a, x: x.erf(),
    "Flatten": lambda a, x: x.flatten(a.get("axis", 1)),
    "Gemm": _gemm,
    "GlobalAveragePool": lambda a, x: x.mean((2, 3), keepdim=True),
    "Identity": lambda a, x: x,
    "LayerNormalization": _layer_norm,
    "MatMul": lambda a, x, y: x @ y,
    "MaxPool": _max_pool,
    "Mul": lambda a, x, y: x * y,
    "ReduceMean": _reduce_mean,
    "Relu": lambda a, x: x.relu(),
    "Reshape": _reshape,
    "Softmax": lambda a, x: x.softmax(a.get("axis", -1)),
    "Transpose": lambda a, x: x.permute(a["perm"]),
}
