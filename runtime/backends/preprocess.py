"""Preprocessing applied with numpy: the one implementation, called by `opened` alone.

What each step means, and by which conventions, stands in `runtime.bundle.preprocessing`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, partial

import numpy as np

from runtime.bundle.preprocessing import Cast, ChangeLayout, Normalise, Reorder, Resize, Scale
from runtime.bundle.preprocessing import Step as Declared
from runtime.errors import InvalidInputError
from runtime.tensors import Array, TensorSpec, datatype_of, dtype_of

Step = Callable[[Array], Array]


def steps_of(spec: TensorSpec, declared: Sequence[Declared]) -> Step | None:
    """From what a caller sends for `spec` to the model's tensor; None without steps. The input is never changed.

    `InvalidInputError` when images without pixels are to be resized.
    """
    steps: list[Step] = []
    for step in declared:
        steps.append(_step(step, spec))
        spec = step.apply_to(spec)
    if not steps:
        return None

    def run(value: Array) -> Array:
        for step in steps:
            value = step(value)
        return value

    return run


def _step(step: Declared, spec: TensorSpec) -> Step:
    match step:
        case Resize():
            return partial(_resized, name=spec.name, step=step)
        case Scale():
            return partial(_scaled, by=step.by)
        case Normalise():
            shape = [1] * len(spec.shape)
            shape[step.axis] = len(step.mean)
            mean, std = np.reshape(step.mean, shape), np.reshape(step.std, shape)
            return partial(_normalised, mean=mean, std=std)
        case ChangeLayout():
            return partial(_transposed, axes=step.axes)
        case Reorder():
            return partial(_reordered, order=np.array(step.order), axis=step.axis)
        case Cast():
            return partial(cast, datatype=step.datatype)


def cast(value: Array, datatype: str) -> Array:
    """`value` in another datatype; to an integer, rounded half to even and clipped to its range, NaN becoming 0."""
    dtype = dtype_of(datatype)
    if dtype.kind not in "iu" or value.dtype == dtype:
        return value.astype(dtype, copy=False)
    info = np.iinfo(dtype)
    if value.dtype.kind in "iu":
        return _clipped_integer(value, info).astype(dtype)
    wide = np.rint(value.astype(np.float64))
    # The largest 64-bit integers have no float64: what rounds up to 2**63 would wrap around.
    high = np.nextafter(float(info.max) + 1, 0) if info.bits == 64 else float(info.max)
    result: Array = np.nan_to_num(np.clip(wide, float(info.min), high), nan=0.0).astype(dtype)
    return result


def _clipped_integer(value: Array, info: np.iinfo) -> Array:
    own = np.iinfo(value.dtype)
    result: Array = np.clip(value, max(info.min, own.min), min(info.max, own.max))
    return result


def _counting(value: Array) -> Array:
    """`value` in the float that scale and normalise count in."""
    return value if value.dtype == np.float64 else value.astype(np.float32, copy=False)


def _as_came(result: Array, value: Array) -> Array:
    """Floats keep their datatype, integers become FP32."""
    return result if value.dtype.kind in "iu" else result.astype(value.dtype, copy=False)


def _scaled(value: Array, by: float) -> Array:
    wide = _counting(value)
    return _as_came(wide * wide.dtype.type(by), value)


def _normalised(value: Array, mean: Array, std: Array) -> Array:
    wide = _counting(value)
    return _as_came((wide - mean.astype(wide.dtype)) / std.astype(wide.dtype), value)


def _transposed(value: Array, axes: tuple[int, ...]) -> Array:
    return np.ascontiguousarray(value.transpose(axes))


def _reordered(value: Array, order: Array, axis: int) -> Array:
    return np.ascontiguousarray(value.take(order, axis=axis))


def _resized(value: Array, name: str, step: Resize) -> Array:
    """Along the height, then along the width: bilinear weights are the product of the two."""
    rows, columns = (1, 2) if step.layout == "NHWC" else (2, 3)
    if 0 in (value.shape[rows], value.shape[columns]):
        raise InvalidInputError(
            f"input {name!r} is {list(value.shape)}: images of {value.shape[rows]} x {value.shape[columns]} have no pixels"
        )
    result = value
    for axis, wanted in ((rows, step.height), (columns, step.width)):
        size = value.shape[axis]
        if size == wanted:
            continue
        if step.method == "nearest":
            result = result.take(_nearest(size, wanted), axis=axis)
        else:
            result = _interpolated(result, axis, *_neighbours(size, wanted))
    if value.dtype.kind in "iu" and result.dtype != value.dtype:
        return cast(result, datatype_of(value.dtype))
    return result.astype(value.dtype, copy=False)


def _interpolated(value: Array, axis: int, below: Array, above: Array, share: Array) -> Array:
    """Between the pixels at `below` and those at `above` along `axis`, `share` of the way."""
    # float32 holds every integer of 16 bits, and not those of 32.
    is_wide = value.dtype.itemsize > 2 and value.dtype != np.float32
    wide = np.dtype(np.float64 if is_wide else np.float32)
    shape = [1] * value.ndim
    shape[axis] = len(share)
    low: Array = value.take(below, axis=axis).astype(wide, copy=False)
    high: Array = value.take(above, axis=axis).astype(wide, copy=False)
    result: Array = low + (high - low) * share.reshape(shape).astype(wide)
    return result


def _places(size: int, wanted: int) -> Array:
    """Where the centres of `wanted` pixels lie among the centres of `size` pixels."""
    return (np.arange(wanted) + 0.5) * (size / wanted) - 0.5


@lru_cache(maxsize=64)
def _nearest(size: int, wanted: int) -> Array:
    return np.clip(np.ceil(_places(size, wanted) - 0.5), 0, size - 1).astype(np.intp)


@lru_cache(maxsize=64)
def _neighbours(size: int, wanted: int) -> tuple[Array, Array, Array]:
    """For each new pixel, the old one before it, the old one after it, and how far it lies between them."""
    places = np.clip(_places(size, wanted), 0, size - 1)
    below = np.floor(places).astype(np.intp)
    return below, np.minimum(below + 1, size - 1), places - below
