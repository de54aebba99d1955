"""Which columns of a table make which input: `name`, or `name.0`, `name.1`, ... for an input of several values. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from runtime.errors import InvalidInputError
from runtime.row_files.block import InputSpec


@dataclass(frozen=True, slots=True)
class InputColumns:
    """Where one input stands in a row."""

    spec: InputSpec
    places: tuple[int, ...]
    """Columns, in the order of the flattened values."""
    row_shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ColumnPlan:
    """Where every input stands, and the columns that none is made from."""

    inputs: tuple[InputColumns, ...]
    unused: tuple[str, ...]
    assumed: str = ""
    """What is taken for an input by its place, not by its name, in words."""


def plan_columns(header: Sequence[str], specs: Sequence[InputSpec], where: str) -> ColumnPlan:
    """By name; else, where the model has one input and the table as many columns as that has values, by their order.

    `InvalidInputError` says which input has no columns.
    """
    found = [_by_name(header, spec, where) for spec in specs]
    if len(specs) == 1 and found[0] is None:
        shape = row_shape_for(specs[0], len(header))
        if shape is not None:
            columns = InputColumns(specs[0], tuple(range(len(header))), shape)
            what = f"column {header[0]!r} is" if len(header) == 1 else f"the {len(header)} columns are, in their order,"
            return ColumnPlan((columns,), (), f"{what} taken as {specs[0].name!r}")
    missing = [spec for spec, columns in zip(specs, found, strict=True) if columns is None]
    if missing:
        raise InvalidInputError(
            f"{where} has no columns for input {missing[0].name!r} ({missing[0].tensor}): expected {missing[0].name!r}, or "
            f"'{missing[0].name}.0', '{missing[0].name}.1', ...; it has {_shown(header)}"
        )
    inputs = tuple(columns for columns in found if columns is not None)
    used = {place for columns in inputs for place in columns.places}
    return ColumnPlan(inputs, tuple(name for place, name in enumerate(header) if place not in used))


def row_shape_for(spec: InputSpec, values: int) -> tuple[int, ...] | None:
    """The shape of a row of so many values; None where none fits. One free dimension is worked out, two cannot be."""
    free = [axis for axis, size in enumerate(spec.row_shape) if size == -1]
    known = math.prod(size for size in spec.row_shape if size != -1)
    if not free:
        return spec.row_shape if values == known else None
    if len(free) > 1 or known == 0 or values % known:
        return None
    return tuple(values // known if size == -1 else size for size in spec.row_shape)


def _by_name(header: Sequence[str], spec: InputSpec, where: str) -> InputColumns | None:
    place_of = {name: place for place, name in enumerate(header)}
    if spec.name in place_of:
        places: tuple[int, ...] = (place_of[spec.name],)
    else:
        count = 0
        while f"{spec.name}.{count}" in place_of:
            count += 1
        if not count:
            return None
        places = tuple(place_of[f"{spec.name}.{i}"] for i in range(count))
    shape = row_shape_for(spec, len(places))
    if shape is None:
        raise InvalidInputError(
            f"{where} has {len(places)} columns for input {spec.name!r}, which is {spec.tensor}; "
            f"expected {spec.name}.0 to {spec.name}.{math.prod(max(n, 1) for n in spec.row_shape) - 1}"
        )
    return InputColumns(spec, places, shape)


def _shown(header: Sequence[str], most: int = 12) -> str:
    names = ", ".join(repr(name) for name in header[:most]) or "none"
    return names if len(header) <= most else f"{names}, ... ({len(header)} columns)"
