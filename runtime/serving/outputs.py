"""What of a model's outputs a caller asked for: the named ones, and the classification extension's top-k."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from runtime.errors import InvalidInputError
from runtime.tensors import Array, TensorSpec
from runtime.wire.grpc_typed import contents_field, wants_typed
from runtime.wire.values import InferenceRequest, RequestedOutput


def check_requested(model: str, specs: Sequence[TensorSpec], requested: Sequence[RequestedOutput]) -> None:
    """`InvalidInputError` when an output is asked for that the model does not have, or a parameter of it is wrong."""
    names = [spec.name for spec in specs]
    for output in requested:
        if output.name not in names:
            raise InvalidInputError(
                f"unknown output {output.name!r}; model {model!r} has {', '.join(map(repr, names))}"
            )
        count = output.parameters.get("classification", 0)
        if isinstance(count, bool) or not isinstance(count, int) or count < 0:
            raise InvalidInputError(
                f"parameter 'classification' of output {output.name!r} is {count!r}; expected how many classes, 1 or more"
            )


def check_typed(specs: Sequence[TensorSpec], request: InferenceRequest) -> None:
    """`InvalidInputError` when typed contents are asked for of an output that has none: known before the model runs.

    What is placed in shared memory has no contents, and what is classified is BYTES.
    """
    if not wants_typed(request):
        return
    has_none = {o.name for o in request.outputs if o.slot is not None or o.parameters.get("classification")}
    wanted = {output.name for output in request.outputs} or {spec.name for spec in specs}
    for spec in specs:
        if spec.name in wanted - has_none:
            contents_field(spec.name, spec.datatype)


def select_outputs(
    outputs: Mapping[str, Array], requested: Sequence[RequestedOutput], class_names: Sequence[str] | None
) -> Mapping[str, Array]:
    """The outputs asked for, in the order asked (all of them when none is named), classified where that was asked."""
    if not requested:
        return outputs
    return {
        output.name: classify(outputs[output.name], int(count), class_names)
        if (count := output.parameters.get("classification", 0))
        else outputs[output.name]
        for output in requested
    }


def classify(scores: Array, count: int, class_names: Sequence[str] | None) -> Array:
    """The `count` best classes of scores [row, class], best first, as BYTES "value:index[:name]".

    This is Triton's classification extension. A tensor of one dimension is one row without a batch; of equal scores the
    lower class comes first.
    """
    if scores.dtype == np.object_:
        raise InvalidInputError(
            "a BYTES output cannot be classified; ask for it without the parameter 'classification'"
        )
    flat = scores.reshape(len(scores), -1) if scores.ndim > 1 else scores.reshape(1, -1)
    count = min(count, flat.shape[1])
    best = np.argsort(-flat.astype(np.float64), axis=1, kind="stable")[:, :count]
    result = np.empty(best.shape, dtype=np.object_)
    for row, classes in enumerate(best):
        for place, index in enumerate(classes):
            name = f":{class_names[index]}" if class_names and index < len(class_names) else ""
            result[row, place] = f"{flat[row, index]:f}:{index}{name}".encode()
    return result if scores.ndim > 1 else result[0]
