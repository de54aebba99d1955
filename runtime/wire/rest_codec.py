"""Inference on REST: bodies of `POST /v2/models/NAME/infer` to requests and replies and back, for both ends.

JSON and Triton's binary tensor extension, which may be mixed tensor by tensor. How tensors travel is the transport's
business: `binary_data*` parameters become `WantedBinary` or the encoder's choice, and the data plane never sees them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from runtime.errors import InvalidInputError, PeerFailedError
from runtime.tensors import Array, Chunk, datatype_of, from_raw, to_raw
from runtime.wire.json_tensor import from_json, to_json
from runtime.wire.memory import TensorMemory, refuse_memory, take_slot
from runtime.wire.rest_body import BinaryPart, Body, json_kind, split
from runtime.wire.values import (
    BINARY_DATA_OUTPUT,
    InferenceRequest,
    InferenceResponse,
    Parameter,
    Placed,
    RequestedOutput,
)


@dataclass(frozen=True, slots=True)
class WantedBinary:
    """Which outputs the caller wants as raw bytes: what an output says for itself, else what the request says."""

    every: bool = False
    """The request parameter `binary_data_output`."""
    by_output: Mapping[str, bool] = field(default_factory=dict)
    """The output parameter `binary_data`, where given."""

    def of(self, output: str) -> bool:
        """Whether this output goes as raw bytes."""
        return self.by_output.get(output, self.every)


def decode_request(
    model: str,
    version: str,
    body: Chunk,
    header_length: str | int | None,
    deadline: float | None = None,
    memory: TensorMemory | None = None,
) -> tuple[InferenceRequest, WantedBinary]:
    """The request that a client sent, and how it wants its outputs; binary inputs are read-only views of `body`.

    `header_length` is the header `Inference-Header-Content-Length` as received, None without it. `memory`: where tensors are
    read that the body only points to; None refuses them.
    """
    document, binary = split(body, header_length)
    parameters = _decode_parameters("the request", document)
    refuse_memory("the request", parameters)
    every = _take_flag(parameters, BINARY_DATA_OUTPUT)
    by_output: dict[str, bool] = {}
    outputs: list[RequestedOutput] = []
    for item in _objects(document, "outputs"):
        name = _text_of(item, "name", "an output")
        of_output = _decode_parameters(f"output {name!r}", item)
        wanted = _take_flag(of_output, "binary_data")
        if wanted is not None:
            by_output[name] = wanted
        if any(name == output.name for output in outputs):
            raise InvalidInputError(f"output {name!r} is requested twice")
        slot = take_slot(f"output {name!r}", of_output, memory)
        outputs.append(RequestedOutput(name, of_output, slot))
    if "inputs" not in document:
        raise InvalidInputError("the body has no `inputs`; expected a list of tensors")
    request = InferenceRequest(
        model=model,
        inputs=_decode_tensors("input", document, binary, memory),
        version=version,
        id=_text_of(document, "id", "the request", default=""),
        outputs=tuple(outputs),
        parameters=parameters,
        deadline=deadline,
    )
    return request, WantedBinary(every or False, by_output)


def encode_response(
    response: InferenceResponse, wanted: WantedBinary, placed: Mapping[str, Placed] = MappingProxyType({})
) -> Body:
    """The reply's body. `InvalidInputError` when an output wanted as JSON holds what JSON does not carry.

    Outputs in `placed` were written to shared memory. The caller said where, and the body does not say it again: Triton's
    C++ client takes any parameters of an output for those of binary data.
    """
    document: dict[str, Any] = {"model_name": response.model, "model_version": response.version}
    if response.id:
        document["id"] = response.id
    if response.parameters:
        document["parameters"] = dict(response.parameters)
    chunks: list[Chunk] = []
    document["outputs"] = [
        {"name": name, "datatype": datatype_of(value.dtype), "shape": value.shape}
        if name in placed
        else _encode_tensor(name, value, wanted.of(name), chunks)
        for name, value in response.outputs.items()
    ]
    return _body(document, chunks)


def encode_request(request: InferenceRequest, *, binary: bool) -> Body:
    """The request's body; `binary` sends tensors raw and asks for raw outputs, but for outputs that say otherwise."""
    chunks: list[Chunk] = []
    document: dict[str, Any] = {"id": request.id} if request.id else {}
    parameters = {BINARY_DATA_OUTPUT: True, **request.parameters} if binary else dict(request.parameters)
    if parameters:
        document["parameters"] = parameters
    document["inputs"] = [_encode_tensor(name, value, binary, chunks) for name, value in request.inputs.items()]
    if request.outputs:
        # Each says it for itself too: Triton's rule for a request that names its outputs.
        default = {"binary_data": True} if binary else {}
        document["outputs"] = [{"name": o.name, "parameters": {**default, **o.parameters}} for o in request.outputs]
    return _body(document, chunks)


def decode_response(body: Chunk, header_length: str | int | None) -> InferenceResponse:
    """The reply that a server sent; `PeerFailedError` when it does not hold together."""
    try:
        document, binary = split(body, header_length)
        return InferenceResponse(
            model=_text_of(document, "model_name", "the reply"),
            version=_text_of(document, "model_version", "the reply", default=""),
            outputs=_decode_tensors("output", document, binary),
            id=_text_of(document, "id", "the reply", default=""),
            parameters=_decode_parameters("the reply", document),
        )
    except InvalidInputError as error:
        raise PeerFailedError(f"the server's reply does not decode: {error}") from error


def _body(document: dict[str, Any], chunks: list[Chunk]) -> Body:
    try:
        header = json.dumps(document, separators=(",", ":"), allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"a parameter does not go into JSON: {error}") from None
    return Body((header, *chunks), len(header)) if chunks else Body((header,))


def _encode_tensor(name: str, value: Array, binary: bool, chunks: list[Chunk]) -> dict[str, Any]:
    tensor: dict[str, Any] = {"name": name, "datatype": datatype_of(value.dtype), "shape": value.shape}
    if binary:
        raw = to_raw(value)
        chunks.append(raw)
        tensor["parameters"] = {"binary_data_size": len(raw)}
    else:
        tensor["data"] = to_json(name, value)
    return tensor


def _decode_tensors(
    what: str, document: Mapping[str, Any], binary: BinaryPart, memory: TensorMemory | None = None
) -> dict[str, Array]:
    values: dict[str, Array] = {}
    for item in _objects(document, f"{what}s"):
        name = _text_of(item, "name", f"an {what}")
        if name in values:
            raise InvalidInputError(f"{what} {name!r} is given twice")
        try:
            values[name] = _decode_tensor(name, item, binary, memory)
        except InvalidInputError as error:
            text = str(error)
            raise InvalidInputError(text if repr(name) in text else f"{what} {name!r}: {text}") from None
    if binary.left_bytes:
        raise InvalidInputError(
            f"the body has {binary.left_bytes} bytes left over after its {what}s; "
            "the sizes in `binary_data_size` add up to the binary part"
        )
    return values


def _decode_tensor(name: str, item: Mapping[str, Any], binary: BinaryPart, memory: TensorMemory | None) -> Array:
    datatype = _text_of(item, "datatype", f"tensor {name!r}")
    shape = _shape_of(name, item)
    parameters = _decode_parameters(f"tensor {name!r}", item)
    size = parameters.get("binary_data_size")
    slot = take_slot(f"tensor {name!r}", parameters, memory) if parameters else None
    if slot is not None:
        if "data" in item or size is not None:
            raise InvalidInputError(f"tensor {name!r} is in shared memory, and has data in the body too; send one")
        return from_raw(name, datatype, shape, slot.read())
    if size is None:
        if "data" not in item:
            raise InvalidInputError(f"tensor {name!r} has neither `data` nor the parameter `binary_data_size`")
        return from_json(name, datatype, shape, item["data"])
    if "data" in item:
        raise InvalidInputError(f"tensor {name!r} has both `data` and the parameter `binary_data_size`; send one")
    if type(size) is not int or size < 0:
        raise InvalidInputError(f"`binary_data_size` of tensor {name!r} is {size!r}; expected a number of bytes")
    if size > binary.left_bytes:
        raise InvalidInputError(
            f"`binary_data_size` of tensor {name!r} is {size}, but only {binary.left_bytes} bytes of the body are left"
        )
    return from_raw(name, datatype, shape, binary.take(size))


def _shape_of(name: str, item: Mapping[str, Any]) -> tuple[int, ...]:
    shape = item.get("shape")
    if not isinstance(shape, list) or not all(type(size) is int for size in shape):
        raise InvalidInputError(f"the shape of tensor {name!r} is {shape!r:.80}; expected a list of integers")
    return tuple(shape)


def _decode_parameters(whose: str, item: Mapping[str, Any]) -> dict[str, Parameter]:
    parameters = item.get("parameters")
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        raise InvalidInputError(f"`parameters` of {whose} is a JSON {json_kind(parameters)}; expected an object")
    for name, value in parameters.items():
        if not isinstance(value, bool | int | float | str):
            raise InvalidInputError(
                f"parameter {name!r} of {whose} is a JSON {json_kind(value)}; expected a boolean, number or string"
            )
        if isinstance(value, float) and not math.isfinite(value):
            raise InvalidInputError(f"parameter {name!r} of {whose} is larger than a double can hold")
    return dict(parameters)


def _take_flag(parameters: dict[str, Parameter], name: str) -> bool | None:
    value = parameters.pop(name, None)
    if value is not None and not isinstance(value, bool):
        raise InvalidInputError(f"parameter {name!r} is {value!r:.80}; expected true or false")
    return value


def _objects(document: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    items = document.get(key)
    if items is None:
        return []
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise InvalidInputError(f"`{key}` is {items!r:.80}; expected a list of objects")
    return items


def _text_of(item: Mapping[str, Any], key: str, whose: str, default: str | None = None) -> str:
    value = item.get(key, default)
    if value is None and default is not None:
        return default
    if not isinstance(value, str):
        raise InvalidInputError(f"`{key}` of {whose} is {value!r:.80}; expected a string")
    return value
