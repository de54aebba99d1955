"""What a LiteRT interpreter says of its model's tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from runtime.errors import BundleError, InvalidInputError
from runtime.tensors import TensorSpec, datatype_of

Details = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Tensors:
    """Those of one file, by the signature's names where it has one signature over its main graph, otherwise by their own."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    in_index: Mapping[str, int]
    """The interpreter's number of every input."""
    out_index: Sequence[tuple[str, int]]
    shapes: Mapping[str, tuple[int, ...]]
    """That the file has its inputs in, and that are allocated first."""
    has_strings: bool
    """Whether an output is BYTES."""


def read_tensors(file: str, interpreter: Any) -> Tensors:
    """What `interpreter`, made of `file`, has; `BundleError` for a dtype that no tensor here can have."""
    in_names, out_names = _signature_names(interpreter)
    details_in: list[Details] = interpreter.get_input_details()
    details_out: list[Details] = interpreter.get_output_details()
    inputs = tuple(_spec(details, in_names, file) for details in details_in)
    outputs = tuple(_spec(details, out_names, file) for details in details_out)
    return Tensors(
        inputs,
        outputs,
        {spec.name: int(details["index"]) for spec, details in zip(inputs, details_in, strict=True)},
        [(spec.name, int(details["index"])) for spec, details in zip(outputs, details_out, strict=True)],
        {spec.name: tuple(int(n) for n in details["shape"]) for spec, details in zip(inputs, details_in, strict=True)},
        any(spec.datatype == "BYTES" for spec in outputs),
    )


def _signature_names(interpreter: Any) -> tuple[dict[int, str], dict[int, str]]:
    """Names by tensor index from the model's only signature; empty where it has none, several, or another graph's."""
    signatures = interpreter.get_signature_list()
    if len(signatures) != 1:
        return {}, {}
    runner = interpreter.get_signature_runner(next(iter(signatures)))
    in_names = {int(details["index"]): str(name) for name, details in runner.get_input_details().items()}
    out_names = {int(details["index"]): str(name) for name, details in runner.get_output_details().items()}
    main_in = {int(details["index"]) for details in interpreter.get_input_details()}
    main_out = {int(details["index"]) for details in interpreter.get_output_details()}
    return (in_names, out_names) if set(in_names) == main_in and set(out_names) == main_out else ({}, {})


def _spec(details: Details, names: Mapping[int, str], file: str) -> TensorSpec:
    name = names.get(int(details["index"]), str(details["name"]))
    try:
        datatype = datatype_of(np.dtype(details["dtype"]))
    except InvalidInputError as error:
        raise BundleError(f"tensor {name!r} of {file} is {details['dtype'].__name__}: {error}") from error
    # Models of before 2020 have no signature of shapes; it is empty then, and the shape is the only one.
    signature = details.get("shape_signature")
    shape = signature if signature is not None and len(signature) == len(details["shape"]) else details["shape"]
    return TensorSpec(name, datatype, tuple(int(n) for n in shape))
