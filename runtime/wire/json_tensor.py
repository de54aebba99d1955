"""A tensor's elements as JSON: nested or flat lists to arrays, and arrays to flat lists.

JSON carries neither FP16 and BF16 (as in Triton: binary only) nor NaN and infinity. Elements keep their kind: no
boolean passes for a number, no 1.0 for an integer.
"""

from __future__ import annotations

from itertools import chain
from typing import Any

import numpy as np

from runtime.errors import InvalidInputError
from runtime.tensors import Array, as_bytes_tensor, count_elements, datatype_of, dtype_of

_BINARY_ONLY = frozenset({"FP16", "BF16"})
_FLOATS = frozenset({"FP32", "FP64"})
_AS_BINARY = (
    "use gRPC or the binary tensor extension "
    "(`binary_data_size` of an input, `binary_data: true` of a requested output)"
)


def from_json(name: str, datatype: str, shape: tuple[int, ...], data: object) -> Array:
    """The tensor that `data` holds, flat or nested like `shape`, in row-major order."""
    dtype = dtype_of(datatype)
    count = count_elements(shape)
    if datatype in _BINARY_ONLY:
        raise InvalidInputError(f"tensor {name!r} is {datatype}, which JSON does not carry; {_AS_BINARY}")
    if not isinstance(data, list):
        raise InvalidInputError(f"tensor {name!r} has {type(data).__name__} data; expected a list of elements")
    flat = _flatten(name, shape, data)
    if len(flat) != count:
        raise InvalidInputError(
            f"tensor {name!r} has {len(flat)} elements in its data, but shape {list(shape)} takes {count}"
        )
    _check_kinds(name, datatype, flat)
    if datatype == "BYTES":
        return _from_strings(name, flat).reshape(shape)
    try:
        with np.errstate(over="ignore"):
            value = np.array(flat, dtype=dtype)
    except OverflowError:
        raise InvalidInputError(f"tensor {name!r} has an element that {datatype} cannot hold") from None
    if datatype in _FLOATS and not np.isfinite(value).all():
        at = int(np.argmin(np.isfinite(value)))
        raise InvalidInputError(f"element {at} of tensor {name!r} is larger than {datatype} can hold")
    return value.reshape(shape)


def to_json(name: str, value: Array) -> list[Any]:
    """The elements as a flat list; `InvalidInputError` for what JSON cannot carry."""
    datatype = datatype_of(value.dtype)
    if datatype in _BINARY_ONLY:
        raise InvalidInputError(f"tensor {name!r} is {datatype}, which JSON does not carry; {_AS_BINARY}")
    if datatype == "BYTES":
        return [_text(name, at, item) for at, item in enumerate(as_bytes_tensor(value).reshape(-1).tolist())]
    if datatype in _FLOATS and not np.isfinite(value).all():
        raise InvalidInputError(f"tensor {name!r} holds NaN or infinity, which JSON does not carry; {_AS_BINARY}")
    return list(value.reshape(-1).tolist())


def _flatten(name: str, shape: tuple[int, ...], data: list[Any]) -> list[Any]:
    if not data or not isinstance(data[0], list):
        return data
    level = data
    if len(level) != (shape[0] if shape else 1):
        raise InvalidInputError(f"tensor {name!r} has {len(level)} lists in its data, but its shape is {list(shape)}")
    for axis, size in enumerate(shape[1:], start=1):
        if not all(isinstance(item, list) and len(item) == size for item in level):
            raise InvalidInputError(
                f"the nested data of tensor {name!r} is no {list(shape)}: dimension {axis} is not {size} everywhere"
            )
        level = list(chain.from_iterable(level))
    return level


def _check_kinds(name: str, datatype: str, flat: list[Any]) -> None:
    allowed: set[type]
    match datatype:
        case "BOOL":
            allowed, expected = {bool}, "true or false"
        case "BYTES":
            allowed, expected = {str}, "a string"
        case "FP32" | "FP64":
            allowed, expected = {int, float}, "a number"
        case _:
            allowed, expected = {int}, "an integer"
    kinds = set(map(type, flat))
    if kinds <= allowed:
        return
    at = next(i for i, item in enumerate(flat) if type(item) not in allowed)
    raise InvalidInputError(f"element {at} of tensor {name!r} is {flat[at]!r:.80}; {datatype} takes {expected}")


def _from_strings(name: str, flat: list[str]) -> Array:
    value = np.empty(len(flat), dtype=np.object_)
    try:
        value[:] = [item.encode() for item in flat]
    except UnicodeEncodeError as error:
        raise InvalidInputError(f"tensor {name!r} has a string that is no valid Unicode: {error.reason}") from None
    return value


def _text(name: str, at: int, item: bytes) -> str:
    try:
        return item.decode()
    except UnicodeDecodeError:
        raise InvalidInputError(
            f"element {at} of tensor {name!r} is not UTF-8, which JSON needs; {_AS_BINARY}"
        ) from None
