"""Replies whose tensors are typed contents: for a caller that says `binary_data_output` is false. All others get raw contents."""

from __future__ import annotations

from collections.abc import Mapping

from protos import inference
from runtime.errors import InvalidInputError
from runtime.tensors import Array, as_bytes_tensor, datatype_of
from runtime.wire.grpc_codec import CONTENTS_OF, encode_head
from runtime.wire.values import BINARY_DATA_OUTPUT, InferenceRequest, InferenceResponse, Placed


def wants_typed(request: InferenceRequest) -> bool:
    """Whether the caller asked for typed contents."""
    return bool(request.parameters) and request.parameters.get(BINARY_DATA_OUTPUT) is False


def encode_typed(response: InferenceResponse, placed: Mapping[str, Placed]) -> inference.ModelInferResponse:
    """The reply's message; `InvalidInputError` for FP16 and BF16, which have no typed contents in the protocol.

    Outputs that are `placed` in shared memory have no contents.
    """
    message = encode_head(response, placed)
    for output in message.outputs:
        if output.name not in placed:
            value = response.outputs[output.name]
            getattr(output.contents, contents_field(output.name, datatype_of(value.dtype))).extend(_elements(value))
    return message


def contents_field(name: str, datatype: str) -> str:
    """The field of the protocol's contents for an output; `InvalidInputError` where there is none."""
    field = CONTENTS_OF.get(datatype)
    if field is None:
        raise InvalidInputError(
            f"output {name!r} is {datatype}, which has no typed contents in the protocol; "
            f"leave {BINARY_DATA_OUTPUT!r} out to get it raw"
        )
    return field


def _elements(value: Array) -> list[object]:
    """Row-major; texts as they are in raw contents."""
    flat: list[object] = (as_bytes_tensor(value) if value.dtype.kind in "OSU" else value).reshape(-1).tolist()
    return flat
