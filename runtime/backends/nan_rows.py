"""Rows with NaN, answered with NaN also by what would make a number of it: variants in integers, and engines that drop it.

ONNX's QuantizeLinear and TFLite leave open what NaN becomes; OpenVINO's Relu makes 0 of it. The rest then answers with confidence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from runtime.bundle.manifest import Variant
from runtime.tensors import Array, TensorSpec, dtype_of

SMALL: Final = 8192
"""Values that BLAS still goes over on the caller's thread (OpenBLAS: up to 10,000), and faster than numpy begins to reduce."""


class NanRows:
    """Of one variant whose model takes `inputs` (preprocessed) and gives `outputs`, both in canonical terms."""

    def __init__(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> None:
        self._inputs = [(spec.name, spec.is_batched) for spec in inputs if spec.dtype.kind == "f"]
        self._outputs = [(spec.name, spec.is_batched) for spec in outputs if spec.dtype.kind == "f"]

    def kept(self, inputs: Mapping[str, Array], outputs: dict[str, Array]) -> dict[str, Array]:
        """`outputs`, with NaN in every float of the rows whose inputs hold one; of all rows where an input without rows does.

        Integers and bytes stay as the variant gave them. Infinities are no business of this: they are the largest number
        there is, and end where a variant's numbers end.
        """
        for name, _ in self._inputs:
            if _holds_nan(inputs[name]):
                return self._marked(inputs, outputs)
        return outputs

    def _marked(self, inputs: Mapping[str, Array], outputs: dict[str, Array]) -> dict[str, Array]:
        found = [one for one in self._inputs if _holds_nan(inputs[one[0]])]
        rows: Array | None = None
        if all(is_batched for _, is_batched in found):
            rows = np.logical_or.reduce(
                [np.isnan(inputs[name]).reshape(len(inputs[name]), -1).any(axis=1) for name, _ in found]
            )
        marked = dict(outputs)
        for name, is_batched in self._outputs:
            value = outputs[name].copy()  # an engine's own memory may be read-only
            if rows is not None and is_batched and len(value) == len(rows):
                value[rows] = np.nan
            else:
                value[...] = np.nan
            marked[name] = value
        return marked


def _holds_nan(value: Array) -> bool:
    """Whether any of `value` is NaN: then the sum of its squares is, and its minimum; without NaN neither can be, for no infinity
    is taken from another. NaN is not itself.
    """
    seen = np.vdot(value, value) if value.size <= SMALL else np.minimum.reduce(value, axis=None)
    return bool(seen != seen)


def swallows_nan(variant: Variant, passes_nan: bool, inputs: Sequence[TensorSpec]) -> bool:
    """Whether NaN becomes a number: by the engine, the variant's precision, or because a float of the model becomes an integer."""
    if not passes_nan or "int" in variant.precision:
        return True
    floats = {spec.name for spec in inputs if spec.dtype.kind == "f"}
    return any(
        name in floats
        and (place.scale is not None or (place.datatype is not None and dtype_of(place.datatype).kind in "iu"))
        for name, place in variant.mapping.inputs.items()
    )
