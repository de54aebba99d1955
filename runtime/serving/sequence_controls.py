"""Triton's sequence controls: inputs by which a model is told where in its sequence a request stands.

A model that has inputs named START, END, READY or CORRID gets them from the request's `sequence_*` parameters where the request
does not send them itself. No state is kept here between the requests of a sequence: a model that wants state carries it in its
own inputs and outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from runtime.errors import InvalidInputError
from runtime.tensors import Array, TensorSpec
from runtime.wire.values import InferenceRequest, Parameters

_CONTROLS: Mapping[str, Callable[[Parameters], object]] = {
    "START": lambda parameters: parameters.get("sequence_start", False),
    "END": lambda parameters: parameters.get("sequence_end", False),
    "READY": lambda parameters: True,
    "CORRID": lambda parameters: parameters.get("sequence_id", 0),
}


def with_controls(request: InferenceRequest, inputs: Sequence[TensorSpec]) -> InferenceRequest:
    """The request with the control inputs that it left out, [rows, 1] each; as it is where it is not of a sequence."""
    if "sequence_id" not in request.parameters:
        return request
    missing = [spec for spec in inputs if spec.name in _CONTROLS and spec.name not in request.inputs]
    first = next(iter(request.inputs.values()), None)
    if not missing or first is None or first.ndim == 0:
        return request
    added = {spec.name: _control(spec, len(first), request.parameters) for spec in missing}
    return replace(request, inputs={**request.inputs, **added})


def _control(spec: TensorSpec, rows: int, parameters: Parameters) -> Array:
    value = _CONTROLS[spec.name](parameters)
    try:
        return np.full((rows, 1), value, dtype=spec.dtype)
    except (ValueError, OverflowError, TypeError) as error:
        raise InvalidInputError(
            f"'sequence_id' is {value!r:.80}; model input {spec.name!r} is {spec.dtype}: send an id that fits it"
        ) from error
