"""A variant's mapping applied with numpy: from a model's tensor to the variant's own, and back. Called by `opened` alone.

What each part means, and in which order, stands at `runtime.bundle.manifest.TensorMapping`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from runtime.backends.preprocess import Step
from runtime.bundle.manifest import TensorMapping
from runtime.tensors import Array, TensorSpec, dtype_of


def to_own(spec: TensorSpec, mapping: TensorMapping) -> Step | None:
    """The step from a canonical input to the variant's own; None when they are the same."""
    steps: list[Step] = []
    if mapping.transpose is not None:
        steps.append(partial(_transposed, axes=mapping.transpose))
    if mapping.shape is not None:
        steps.append(partial(_reshaped, shape=mapping.shape[1:]))
    if mapping.scale is not None:
        steps.append(
            partial(_quantised, datatype=mapping.datatype or "INT8", scale=mapping.scale, zero_point=mapping.zero_point)
        )
    elif mapping.datatype is not None and mapping.datatype != spec.datatype:
        steps.append(partial(_cast, datatype=mapping.datatype))
    return _chain(steps)


def from_own(spec: TensorSpec, mapping: TensorMapping) -> Step | None:
    """The step from the variant's own output to the canonical one: the steps of `to_own` backwards."""
    steps: list[Step] = []
    if mapping.scale is not None:
        steps.append(partial(_dequantised, datatype=spec.datatype, scale=mapping.scale, zero_point=mapping.zero_point))
    elif mapping.datatype is not None and mapping.datatype != spec.datatype:
        steps.append(partial(_cast, datatype=spec.datatype))
    axes = mapping.transpose
    if mapping.shape is not None:
        # Back to the canonical shape as it lies in the variant's order of axes.
        order = axes if axes is not None else tuple(range(len(spec.shape)))
        steps.append(partial(_reshaped, shape=tuple(spec.shape[a] for a in order[1:])))
    if axes is not None:
        steps.append(partial(_transposed, axes=tuple(int(a) for a in np.argsort(axes))))
    return _chain(steps)


def _chain(given: Sequence[Step | None]) -> Step | None:
    steps = [step for step in given if step is not None]
    if not steps:
        return None
    if len(steps) == 1:
        return steps[0]

    def run(value: Array) -> Array:
        for step in steps:
            value = step(value)
        return value

    return run


def _transposed(value: Array, axes: tuple[int, ...]) -> Array:
    return np.ascontiguousarray(value.transpose(axes))


def _reshaped(value: Array, shape: tuple[int, ...]) -> Array:
    # numpy cannot work out a free dimension of a tensor without elements.
    return value.reshape((len(value), *(shape if value.size else (max(n, 0) for n in shape))))


def _cast(value: Array, datatype: str) -> Array:
    return value.astype(dtype_of(datatype))


def _quantised(value: Array, datatype: str, scale: float, zero_point: int) -> Array:
    """Affine quantisation, `round(x / scale) + zero_point` clipped to the dtype's range (TFLite quantisation spec)."""
    dtype = dtype_of(datatype)
    info = np.iinfo(dtype)
    with np.errstate(over="ignore"):  # an infinite quotient is clipped below, as it should be
        quantised = np.rint(value / np.float32(scale)) + zero_point
    # NaN has no integer, and TFLite leaves it undefined. It becomes the zero point, and `nan_rows` answers for the row.
    result: Array = np.nan_to_num(np.clip(quantised, info.min, info.max), nan=zero_point).astype(dtype)
    return result


def _dequantised(value: Array, datatype: str, scale: float, zero_point: int) -> Array:
    result: Array = (value.astype(np.float32) - np.float32(zero_point)) * np.float32(scale)
    return result.astype(dtype_of(datatype), copy=False)
