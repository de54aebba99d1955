"""What a tensor is: numpy dtypes and the protocol's datatypes, shapes with a free batch, and bytes on the wire.

Inside, tensors are C-contiguous numpy arrays; BYTES tensors are object arrays of `bytes`. Nothing here knows a transport.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from runtime.errors import InvalidInputError

Array = npt.NDArray[Any]
Chunk = bytes | memoryview
"""A piece of a message: bytes, or a view of what is not to be copied."""

# Open Inference Protocol v2, "Tensor Data Types"; BF16 is kept apart because numpy itself has no such dtype.
_NUMPY_OF: dict[str, npt.DTypeLike] = {
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
    "BYTES": np.object_,
}
DATATYPES: frozenset[str] = frozenset(_NUMPY_OF) | {"BF16"}
_DATATYPE_OF: dict[np.dtype[Any], str] = {np.dtype(dtype): name for name, dtype in _NUMPY_OF.items()}

# 2**31 elements is beyond any request cap; it keeps a product of hostile dimensions out of the arithmetic that follows.
MAX_ELEMENTS = 2**31 - 1
# numpy's own limit since 2.0; a reshape beyond it raises ValueError.
MAX_DIMENSIONS = 64


@cache
def dtype_of(datatype: str) -> np.dtype[Any]:
    """The numpy dtype of a protocol datatype such as "FP32"; `InvalidInputError` for an unknown one."""
    if datatype == "BF16":
        from ml_dtypes import bfloat16

        brain: np.dtype[Any] = np.dtype(bfloat16)
        return brain
    try:
        return np.dtype(_NUMPY_OF[datatype])
    except KeyError:
        raise InvalidInputError(
            f"unknown datatype {datatype!r}; expected one of {', '.join(sorted(DATATYPES))}"
        ) from None


def datatype_of(dtype: np.dtype[Any]) -> str:
    """The protocol datatype of a numpy dtype; strings and bytes of any length are BYTES."""
    name = _DATATYPE_OF.get(dtype)
    if name is not None:
        return name
    if dtype.kind in "SU":
        return "BYTES"
    if dtype.name == "bfloat16":
        return "BF16"
    raise InvalidInputError(
        f"numpy dtype {dtype} has no datatype in the protocol; cast it to one of {', '.join(sorted(DATATYPES))}"
    )


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """The name, datatype and shape that a model declares for one tensor; -1 stands for a dimension free to vary."""

    name: str
    datatype: str
    shape: tuple[int, ...]

    @property
    def dtype(self) -> np.dtype[Any]:
        """The numpy dtype of `datatype`."""
        return dtype_of(self.datatype)

    @property
    def is_batched(self) -> bool:
        """Whether the first dimension is the batch, free to vary."""
        return bool(self.shape) and self.shape[0] == -1

    def row_bytes(self) -> int:
        """Bytes of one row with every free dimension taken as 1 (8 an element for BYTES, the size of a reference)."""
        return math.prod(max(n, 1) for n in self.shape[1:]) * self.dtype.itemsize

    def __str__(self) -> str:
        return f"{self.datatype} {show_shape(self.shape)}"


def show_shape(shape: Sequence[int]) -> str:
    """`[batch, 3, 224, 224]`: a shape as people write it, a free first dimension named batch and others `?`."""
    words = ["batch" if i == 0 and n == -1 else "?" if n == -1 else str(n) for i, n in enumerate(shape)]
    return f"[{', '.join(words)}]"


def count_elements(shape: Sequence[int]) -> int:
    """How many elements a concrete shape holds; `InvalidInputError` for a negative or absurd dimension."""
    if len(shape) > MAX_DIMENSIONS:
        raise InvalidInputError(f"a shape of {len(shape)} dimensions; at most {MAX_DIMENSIONS} are possible")
    total = 1
    is_empty = False
    for size in shape:
        if size < 0:
            raise InvalidInputError(
                f"shape {list(shape)} has the negative dimension {size}; a request gives every dimension"
            )
        if size == 0:
            is_empty = True  # goes on: numpy refuses an overflow beside the 0 too
            continue
        total *= size
        if total > MAX_ELEMENTS:
            raise InvalidInputError(f"shape {list(shape)} asks for more than {MAX_ELEMENTS} elements")
    return 0 if is_empty else total


def check_inputs(model: str, specs: Sequence[TensorSpec], inputs: Mapping[str, Array]) -> int:
    """`InputCheck.rows`, for who asks once."""
    return InputCheck(model, specs).rows(inputs)


class InputCheck:
    """Whether inputs are exactly what a model's specs ask for; made once, asked at every call."""

    __slots__ = ("_last", "_model", "_specs", "_wanted")

    def __init__(self, model: str, specs: Sequence[TensorSpec]) -> None:
        self._model = model
        self._specs = specs
        self._wanted = [(spec, spec.name, spec.dtype, spec.shape, spec.shape[1:]) for spec in specs]
        self._last: tuple[str, np.dtype[Any], tuple[int, ...], int] | None = None
        """The input, its dtype, shape and rows of the last call that fitted, of a model with one: calls mostly are like it."""

    def rows(self, inputs: Mapping[str, Array]) -> int:
        """The number of rows of `inputs`; `InvalidInputError` says what does not fit.

        All batched inputs carry the same number of rows. A model without a batched input counts as one row.
        """
        last = self._last
        if last is not None and len(inputs) == 1:
            only = inputs.get(last[0])
            if only is not None and only.dtype is last[1] and only.shape == last[2]:
                return last[3]
        rows = -1
        for spec, name, dtype, wanted, tail in self._wanted:
            value = inputs.get(name)
            if value is None:
                raise _missing_input(self._model, self._specs, inputs, spec)
            shape = value.shape
            if (
                value.dtype != dtype
                or len(shape) != len(wanted)
                or (shape[1:] != tail and not all(map(_same_size, shape[1:], tail)))
            ):
                raise _misfit(self._model, spec, value)
            if not wanted:
                continue
            if wanted[0] != -1:
                if shape[0] != wanted[0]:
                    raise _misfit(self._model, spec, value)
            elif rows == -1:
                rows = shape[0]
            elif shape[0] != rows:
                raise InvalidInputError(
                    f"input {spec.name!r} has {shape[0]} rows, but the inputs before it have {rows}; "
                    f"every input of model {self._model!r} carries the same batch"
                )
        if len(inputs) != len(self._wanted):
            raise _extra_input(self._model, self._specs, inputs)
        rows = 1 if rows == -1 else rows
        if len(self._wanted) == 1:
            only = inputs[self._specs[0].name]
            self._last = self._specs[0].name, only.dtype, only.shape, rows
        return rows


def _same_size(size: int, wanted: int) -> bool:
    return size == wanted or wanted == -1


def _missing_input(
    model: str, specs: Sequence[TensorSpec], inputs: Mapping[str, Array], spec: TensorSpec
) -> InvalidInputError:
    given = ", ".join(repr(name) for name in inputs) or "none"
    wants = ", ".join(f"{s.name!r} {s}" for s in specs)
    return InvalidInputError(f"input {spec.name!r} is missing; given: {given}; model {model!r} wants {wants}")


def _extra_input(model: str, specs: Sequence[TensorSpec], inputs: Mapping[str, Array]) -> InvalidInputError:
    known = {spec.name for spec in specs}
    extra = ", ".join(repr(name) for name in inputs if name not in known)
    return InvalidInputError(
        f"unknown input {extra}; model {model!r} wants {', '.join(f'{s.name!r} {s}' for s in specs)}"
    )


def _misfit(model: str, spec: TensorSpec, value: Array) -> InvalidInputError:
    are_numbers = value.dtype.kind in "biuf" and spec.dtype.kind in "biuf"
    step = f"; cast it, as by .astype(numpy.{spec.dtype.name})" if are_numbers and value.dtype != spec.dtype else ""
    return InvalidInputError(
        f"input {spec.name!r} is {_in_numpy(value.dtype)} {list(value.shape)}; "
        f"model {model!r} wants {_in_numpy(spec.dtype)} {show_shape(spec.shape)}{step}"
    )


def _in_numpy(dtype: np.dtype[Any]) -> str:
    """The dtype in the words of who makes an array; strings, which numpy has many of, in the protocol's."""
    return "BYTES" if dtype.kind in "OSU" else dtype.name


def to_raw(value: Array) -> bytes | memoryview:
    """The protocol's raw bytes of a tensor: little-endian, row-major; a view (no copy) where the array allows it."""
    if value.dtype.kind in "OSU":
        return _pack_bytes(value)
    if value.dtype.byteorder == ">":
        value = value.astype(value.dtype.newbyteorder("<"))
    if value.dtype.kind == "V" and value.dtype.name == "bfloat16":  # kind first: numpy makes the name anew each time
        value = value.view(np.uint16)
    if value.size == 0:
        return b""
    return np.ascontiguousarray(value).data.cast("B")


def from_raw(name: str, datatype: str, shape: Sequence[int], raw: bytes | memoryview) -> Array:
    """The tensor that raw bytes hold, as a read-only view of them (BYTES: a new object array).

    `InvalidInputError` when the byte count disagrees with datatype and shape.
    """
    count = count_elements(shape)
    if datatype == "BYTES":
        return _unpack_bytes(name, count, raw).reshape(tuple(shape))
    dtype = dtype_of(datatype)
    if len(raw) != count * dtype.itemsize:
        raise InvalidInputError(
            f"tensor {name!r} has {len(raw)} bytes, but {datatype} {list(shape)} takes {count * dtype.itemsize} "
            f"({count} elements of {dtype.itemsize} bytes)"
        )
    return np.frombuffer(raw, dtype).reshape(tuple(shape))


def as_bytes_tensor(value: Array) -> Array:
    """An object array of `bytes`, from an array of strings, bytes or objects of either (strings become UTF-8).

    `InvalidInputError` for any other object: `bytes(5)` would be five zeros.
    """
    flat = [item if type(item) is bytes else _as_bytes(item) for item in value.reshape(-1).tolist()]
    result = np.empty(len(flat), dtype=np.object_)
    result[:] = flat
    return result.reshape(value.shape)


def _as_bytes(item: object) -> bytes:
    match item:
        case str():
            return item.encode("utf-8", "surrogatepass")
        case bytes() | bytearray() | memoryview():
            return bytes(item)
    raise InvalidInputError(f"a BYTES tensor holds a {type(item).__name__} ({item!r:.80}); expected bytes or str")


def _pack_bytes(value: Array) -> bytes:
    parts: list[bytes] = []
    for item in as_bytes_tensor(value).reshape(-1):
        parts.append(struct.pack("<I", len(item)))
        parts.append(item)
    return b"".join(parts)


def _unpack_bytes(name: str, count: int, raw: bytes | memoryview) -> Array:
    """Each element is a little-endian uint32 length and that many bytes (Triton's binary tensor extension)."""
    view = memoryview(raw)
    # Every element takes four bytes at least: checked before anything of that size is allocated.
    if count * 4 > len(view):
        raise InvalidInputError(
            f"tensor {name!r} holds {count} BYTES elements, which take at least {count * 4} bytes; got {len(view)}"
        )
    items = np.empty(count, dtype=np.object_)
    at = 0
    for i in range(count):
        if at + 4 > len(view):
            raise InvalidInputError(
                f"tensor {name!r} ends after {i} of {count} BYTES elements; each starts with a 4-byte length"
            )
        (size,) = struct.unpack_from("<I", view, at)
        at += 4
        if at + size > len(view):
            raise InvalidInputError(
                f"element {i} of tensor {name!r} claims {size} bytes, but only {len(view) - at} are left"
            )
        items[i] = bytes(view[at : at + size])
        at += size
    if at != len(view):
        raise InvalidInputError(
            f"tensor {name!r} has {len(view) - at} bytes left over after its {count} BYTES elements"
        )
    return items
