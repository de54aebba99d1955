"""ModelInfer on gRPC: the protocol's messages to `InferenceRequest` and `InferenceResponse` and back, for both ends.

Copies of a tensor. In, two: protobuf takes the bytes over, and hands them out as `bytes`, which tensors are read-only views
of; none where the head of the message was seen before (`grpc_repeats`). Out, one: `serialize_response` puts large tensors behind
the rest of the message itself, where protobuf would copy three times (to `bytes`, into the message, into the wire's bytes).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TypeVar

import numpy as np
from google.protobuf.message import DecodeError, Message

from protos import inference
from runtime.errors import InvalidInputError, PeerFailedError
from runtime.tensors import Array, count_elements, datatype_of, dtype_of, from_raw, to_raw
from runtime.wire.memory import OFFSET, REGION, SIZE, TensorMemory, refuse_memory, take_slot
from runtime.wire.values import InferenceRequest, InferenceResponse, Parameter, Parameters, Placed, RequestedOutput

# Where the protocol keeps a datatype's elements; FP16 and BF16 have no such place.
CONTENTS_OF = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
_NARROW = frozenset({"INT8", "INT16", "UINT8", "UINT16"})

# Below this protobuf's copies cost less than the Python around one of our own.
LARGE_BYTES = 1 << 16
# Field 6, length-delimited: `raw_output_contents`. Fields may stand in any order, so these may come last.
RAW_OUTPUT_TAG = bytes([6 << 3 | 2])

_INT64_MIN, _INT64_MAX, _UINT64_MAX = -(2**63), 2**63 - 1, 2**64 - 1

M = TypeVar("M", bound=Message)

_Tensor = inference.ModelInferRequest.InferInputTensor | inference.ModelInferResponse.InferOutputTensor
_ParameterMap = Mapping[str, inference.InferParameter]


def parse(kind: type[M], raw: bytes) -> M:
    """The message in `raw`; `InvalidInputError` when it is not one."""
    try:
        return kind.FromString(raw)
    except DecodeError:
        raise InvalidInputError(
            f"the {len(raw)} bytes received are not a message {kind.DESCRIPTOR.full_name}"
        ) from None


def decode_request(
    message: inference.ModelInferRequest, deadline: float | None = None, memory: TensorMemory | None = None
) -> InferenceRequest:
    """The request that a client sent. `InvalidInputError` says which tensor or parameter does not hold together.

    `memory`: where tensors are read that the message only points to; None refuses them.
    """
    return InferenceRequest(
        model=message.model_name,
        inputs=_decode_tensors("input", message.inputs, message.raw_input_contents, memory),
        version=message.model_version,
        id=message.id,
        outputs=_decode_outputs(message.outputs, memory) if message.outputs else (),
        parameters=_decode_request_parameters(message.parameters) if message.parameters else {},
        deadline=deadline,
    )


def encode_response(
    response: InferenceResponse, placed: Mapping[str, Placed] = MappingProxyType({})
) -> inference.ModelInferResponse:
    """The reply's message, its tensors always raw: tritonclient reads nothing else.

    Outputs in `placed` were written to shared memory; the message says where, and has no bytes in their place.
    """
    message = encode_head(response, placed)
    raw = message.raw_output_contents
    for name, value in response.outputs.items():
        raw.append(b"" if name in placed else _raw_bytes(value))
    return message


def serialize_response(response: InferenceResponse, placed: Mapping[str, Placed] = MappingProxyType({})) -> bytes:
    """The bytes of `encode_response`'s message, large tensors copied once."""
    if sum(value.nbytes for value in response.outputs.values()) < LARGE_BYTES:
        return encode_response(response, placed).SerializeToString()
    parts: list[bytes | memoryview] = [encode_head(response, placed).SerializeToString()]
    for name, value in response.outputs.items():
        raw = b"" if name in placed else to_raw(value)
        parts += (RAW_OUTPUT_TAG, varint(len(raw)), raw)
    return b"".join(parts)


def encode_head(response: InferenceResponse, placed: Mapping[str, Placed]) -> inference.ModelInferResponse:
    """Everything but the raw contents."""
    message = inference.ModelInferResponse(model_name=response.model, model_version=response.version, id=response.id)
    if response.parameters:
        encode_parameters(response.parameters, message.parameters)
    for name, value in response.outputs.items():
        output = message.outputs.add(name=name, datatype=datatype_of(value.dtype), shape=value.shape)
        if placed and (slot := placed.get(name)) is not None:
            encode_parameters({REGION: slot.region, OFFSET: slot.offset, SIZE: slot.size_bytes}, output.parameters)
    return message


def varint(number: int) -> bytes:
    """A length as protobuf writes it: seven bits a byte, the lowest first."""
    digits = bytearray()
    while number > 0x7F:
        digits.append(number & 0x7F | 0x80)
        number >>= 7
    digits.append(number)
    return bytes(digits)


def encode_request(request: InferenceRequest) -> inference.ModelInferRequest:
    """The request's message, its tensors raw. The deadline is not part of it: it travels as the call's timeout."""
    message = inference.ModelInferRequest(model_name=request.model, model_version=request.version, id=request.id)
    if request.parameters:
        encode_parameters(request.parameters, message.parameters)
    raw = message.raw_input_contents
    for name, value in request.inputs.items():
        message.inputs.add(name=name, datatype=datatype_of(value.dtype), shape=value.shape)
        raw.append(_raw_bytes(value))
    for output in request.outputs:
        wanted = message.outputs.add(name=output.name)
        encode_parameters(output.parameters, wanted.parameters)
    return message


def decode_response(message: inference.ModelInferResponse) -> InferenceResponse:
    """The reply that a server sent, raw or typed; `PeerFailedError` when it does not hold together."""
    try:
        return InferenceResponse(
            model=message.model_name,
            version=message.model_version,
            outputs=_decode_tensors("output", message.outputs, message.raw_output_contents),
            id=message.id,
            parameters=decode_parameters(message.parameters),
        )
    except InvalidInputError as error:
        raise PeerFailedError(f"the server's reply does not decode: {error}") from error


def decode_parameters(parameters: _ParameterMap) -> dict[str, Parameter]:
    """Values by name, whichever kind each one is."""
    values: dict[str, Parameter] = {}
    for name, parameter in parameters.items():
        kind = parameter.WhichOneof("parameter_choice")
        if kind is None:
            raise InvalidInputError(f"parameter {name!r} has no value; set one of bool, int64, uint64, double, string")
        values[name] = getattr(parameter, kind)
    return values


def encode_parameters(parameters: Parameters, into: _ParameterMap) -> None:
    """Writes each value as the kind it is: bool, int64 (uint64 where only that holds it), double or string."""
    for name, value in parameters.items():
        parameter = into[name]  # a message map makes the entry it is asked for
        match value:
            case bool():
                parameter.bool_param = value
            case int() if _INT64_MIN <= value <= _INT64_MAX:
                parameter.int64_param = value
            case int() if 0 <= value <= _UINT64_MAX:
                parameter.uint64_param = value
            case int():
                raise InvalidInputError(f"parameter {name!r} is {value}, which does not fit 64 bits")
            case float():
                parameter.double_param = value
            case str():
                parameter.string_param = value
            case _:
                raise InvalidInputError(
                    f"parameter {name!r} is a {type(value).__name__}; expected a bool, number or string"
                )


def _decode_outputs(
    outputs: Sequence[inference.ModelInferRequest.InferRequestedOutputTensor], memory: TensorMemory | None
) -> tuple[RequestedOutput, ...]:
    names = [output.name for output in outputs]
    if len(set(names)) != len(names):
        raise InvalidInputError(f"an output is requested twice: {', '.join(map(repr, names))}")
    return tuple(
        _decode_output(output, memory) if output.parameters else RequestedOutput(output.name) for output in outputs
    )


def _decode_output(
    output: inference.ModelInferRequest.InferRequestedOutputTensor, memory: TensorMemory | None
) -> RequestedOutput:
    parameters = decode_parameters(output.parameters)
    slot = take_slot(f"output {output.name!r}", parameters, memory)
    return RequestedOutput(output.name, parameters, slot)


def _decode_request_parameters(parameters: _ParameterMap) -> Parameters:
    values = decode_parameters(parameters)
    refuse_memory("the request", values)
    return values


def _decode_tensors(
    what: str, tensors: Sequence[_Tensor], raw: Sequence[bytes], memory: TensorMemory | None = None
) -> dict[str, Array]:
    contents = list(raw) if raw else None  # each access of a repeated bytes field is a copy: once
    if contents is not None and len(contents) != len(tensors):
        # A tensor in shared memory takes none.
        expected = sum(REGION not in tensor.parameters for tensor in tensors)
        if len(contents) != expected:
            raise _miscounted(what, len(contents), expected)
    values: dict[str, Array] = {}
    taken = 0
    for tensor in tensors:
        name = tensor.name
        slot = None
        if tensor.parameters:
            slot = take_slot(f"{what} {name!r}", decode_parameters(tensor.parameters), memory)
        if name in values:
            raise InvalidInputError(f"{what} {name!r} is given twice")
        try:
            if slot is not None:
                if tensor.HasField("contents"):
                    raise InvalidInputError(
                        f"{what} {name!r} is in shared memory, and has typed contents too; send one"
                    )
                values[name] = from_raw(name, tensor.datatype, tuple(tensor.shape), slot.read())
            elif contents is None:
                values[name] = _decode_typed(name, tensor)
            # MLServer sends empty contents beside raw ones.
            elif tensor.HasField("contents") and tensor.contents.ListFields():
                raise _both(what, tensors, len(contents))
            else:
                values[name] = from_raw(name, tensor.datatype, tuple(tensor.shape), contents[taken])
                taken += 1
        except InvalidInputError as error:
            text = str(error)
            raise InvalidInputError(text if repr(name) in text else f"{what} {name!r}: {text}") from None
    if contents is not None and taken != len(contents):
        raise _miscounted(what, len(contents), taken)
    return values


def _miscounted(what: str, found: int, expected: int) -> InvalidInputError:
    return InvalidInputError(
        f"raw_{what}_contents has {found} entries for {expected} {what}s; each takes one, in order"
    )


def _both(what: str, tensors: Sequence[_Tensor], raw_count: int) -> InvalidInputError:
    typed = sum(bool(tensor.contents.ListFields()) for tensor in tensors)
    return InvalidInputError(
        f"raw_{what}_contents has {raw_count} entries, and {typed} of {len(tensors)} {what}s have typed contents too; "
        f"send all {what}s raw or all typed"
    )


def _decode_typed(name: str, tensor: _Tensor) -> Array:
    datatype = tensor.datatype
    dtype = dtype_of(datatype)
    shape = tuple(tensor.shape)
    count = count_elements(shape)
    field = CONTENTS_OF.get(datatype)
    if field is None:
        raise InvalidInputError(
            f"tensor {name!r} is {datatype}, which has no typed contents in the protocol; send it raw"
        )
    filled = [descriptor.name for descriptor, _ in tensor.contents.ListFields()]
    if any(other != field for other in filled):
        raise InvalidInputError(
            f"tensor {name!r} is {datatype}, whose elements belong in {field}; found {', '.join(filled)}"
        )
    elements = getattr(tensor.contents, field)
    if len(elements) != count:
        raise InvalidInputError(
            f"tensor {name!r} has {len(elements)} elements in {field}, but shape {list(shape)} takes {count}; "
            "raw contents are empty"
        )
    if datatype == "BYTES":
        value = np.empty(count, dtype=np.object_)
        value[:] = list(elements)
        return value.reshape(shape)
    if datatype in _NARROW:
        return _narrow(name, datatype, np.array(elements, dtype=np.int64)).reshape(shape)
    return np.array(elements, dtype=dtype).reshape(shape)


def _narrow(name: str, datatype: str, wide: Array) -> Array:
    """Elements that the protocol sends as 32 bits, as the 8 or 16 that the datatype has; none may be lost."""
    dtype = dtype_of(datatype)
    limits = np.iinfo(dtype)
    if wide.size and (wide.min() < limits.min or wide.max() > limits.max):
        at = int(np.argmax((wide < limits.min) | (wide > limits.max)))
        raise InvalidInputError(
            f"element {at} of tensor {name!r} is {wide[at]}; {datatype} holds {limits.min} to {limits.max}"
        )
    return wide.astype(dtype)


def _raw_bytes(value: Array) -> bytes:
    if value.dtype.kind in "OSU":
        return bytes(to_raw(value))
    return value.tobytes()
