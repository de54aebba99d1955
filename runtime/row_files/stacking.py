"""Rows as Python values, made into tensors: all at once where they are alike, else one by one, those that do not fit said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from runtime.errors import InvalidInputError
from runtime.row_files.block import Group, InputSpec, Unreadable
from runtime.tensors import Array, as_bytes_tensor, show_shape


@dataclass(frozen=True, slots=True)
class RawRow:
    """One row before it is a tensor."""

    number: int
    where: str
    values: Mapping[str, Any]
    """By input name: numbers, texts or nested lists of them."""


def stack(specs: Sequence[InputSpec], rows: Sequence[RawRow]) -> tuple[list[Group], list[Unreadable]]:
    """The rows in groups of one shape, each in the order of the file, and those that make no tensors."""
    if not rows:
        return [], []
    whole = _stack_alike(specs, rows)
    if whole is not None:
        return [whole], []
    groups: dict[tuple[tuple[int, ...], ...], list[tuple[int, dict[str, Array]]]] = {}
    unreadable = []
    for row in rows:
        try:
            tensors = {spec.name: tensor_of(spec, row.values[spec.name]) for spec in specs}
        except InvalidInputError as error:
            unreadable.append(Unreadable(row.number, str(error), row.where))
            continue
        groups.setdefault(tuple(tensor.shape for tensor in tensors.values()), []).append((row.number, tensors))
    return [
        Group(
            tuple(number for number, _ in members),
            {spec.name: np.stack([tensors[spec.name] for _, tensors in members]) for spec in specs},
        )
        for members in groups.values()
    ], unreadable


def tensor_of(spec: InputSpec, value: object) -> Array:
    """One row of one input; `InvalidInputError` says what does not fit. Numbers are taken where nothing of them is lost."""
    try:
        raw = np.asarray(value)
    except ValueError as error:
        raise InvalidInputError(f"input {spec.name!r} is a ragged list: {error}") from None
    tensor = _as_dtype(spec, raw)
    if tensor is None:
        raise InvalidInputError(f"input {spec.name!r} is {value!r:.60}; expected {spec.tensor.datatype}")
    if not fits(spec, tensor.shape):
        raise InvalidInputError(
            f"input {spec.name!r} has the shape {list(tensor.shape)}; expected {show_shape(spec.row_shape)}"
        )
    return tensor


def fits(spec: InputSpec, shape: tuple[int, ...]) -> bool:
    """Whether a row of that shape is one of the input."""
    wanted = spec.row_shape
    return len(shape) == len(wanted) and all(want in (-1, size) for want, size in zip(wanted, shape, strict=True))


def _stack_alike(specs: Sequence[InputSpec], rows: Sequence[RawRow]) -> Group | None:
    """All rows in one conversion an input; None where one of them is not like the others."""
    inputs = {}
    for spec in specs:
        try:
            raw = np.asarray([row.values[spec.name] for row in rows])
        except ValueError:
            return None
        tensor = _as_dtype(spec, raw)
        if tensor is None or not fits(spec, tensor.shape[1:]):
            return None
        inputs[spec.name] = tensor
    return Group(tuple(row.number for row in rows), inputs)


def _as_dtype(spec: InputSpec, raw: Array) -> Array | None:
    """`raw` in the input's datatype; None where that would change a value beyond a float's rounding."""
    dtype = spec.tensor.dtype
    if spec.tensor.datatype == "BYTES":
        return as_bytes_tensor(raw) if raw.dtype.kind in "US" else None
    if spec.tensor.datatype == "BOOL":
        return raw if raw.dtype.kind == "b" else None
    if raw.dtype.kind not in "iuf":
        # numpy would take None and texts as objects, and true as 1.
        return None
    if dtype.kind in "iu":
        with np.errstate(invalid="ignore"):
            cast = raw.astype(dtype)
        return cast if np.array_equal(cast, raw) else None
    with np.errstate(over="ignore"):
        return raw.astype(dtype)
