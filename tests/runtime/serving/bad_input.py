"""Requests that are wrong in one way each, by what is wrong: Triton's own classes of bad input, as cases."""

import json
import struct
from typing import Any

from protos import inference
from tests.runtime.serving.clients import Call, infer_message
from tests.runtime.serving.real import INPUTS


def document(**first: Any) -> dict[str, Any]:
    """A good JSON request, its first input changed."""
    inputs = [
        {"name": name, "datatype": "INT32", "shape": [1, 16], "data": value.reshape(-1).tolist()}
        for name, value in INPUTS.items()
    ]
    return {"inputs": [{**inputs[0], **first}, inputs[1]]}


JSON_REQUESTS = {
    "negative dimension": (document(shape=[-1, 16]), 400, "negative dimension -1"),
    "dimension beyond 64 bits": (document(shape=[2**70, 16]), 400, "asks for more than"),
    "dims that overflow together": (document(shape=[2**31, 2**33]), 400, "asks for more than"),
    "overflow beside a zero": (document(shape=[0, 2**40]), 400, "asks for more than"),
    "shape × dtype overflow": (document(shape=[2**31 - 1, 1], datatype="INT64"), 400, "16 elements in its data"),
    "shape of too many dims": (document(shape=[1] * 100), 400, "100 dimensions"),
    "shape of strings": (document(shape=["1", "16"]), 400, "expected a list of integers"),
    "shape of floats": (document(shape=[1.0, 16.0]), 400, "expected a list of integers"),
    "fewer elements than the shape": (document(data=[1, 2, 3]), 400, "has 3 elements in its data"),
    "element of another kind": (document(data=["1"] * 16), 400, "INT32 takes an integer"),
    "element beyond the datatype": (document(data=[2**40] * 16), 400, "INT32 cannot hold"),
    "unknown datatype": (document(datatype="FP128"), 400, "unknown datatype 'FP128'"),
    "datatype of another model": (document(datatype="FP32"), 400, "is float32 [1, 16]; model 'simple' wants"),
    "unknown input": (document(name="nobody"), 400, "'INPUT0' is missing"),
    "null byte in an input's name": (document(name="INPUT0\0"), 400, "'INPUT0' is missing"),
    "input given twice": (document(name="INPUT1"), 400, "'INPUT1' is given twice"),
    "no inputs": ({}, 400, "no `inputs`"),
    "inputs of another kind": ({"inputs": 3}, 400, "expected a list of objects"),
    "unknown output": ({**document(), "outputs": [{"name": "x"}]}, 400, "unknown output 'x'"),
    "binary size and data": (document(parameters={"binary_data_size": 64}), 400, "has both"),
    "binary size beyond the body": (
        {"inputs": [{"name": "INPUT0", "datatype": "INT32", "shape": [1, 16], "parameters": {"binary_data_size": 64}}]},
        400,
        "only 0 bytes of the body are left",
    ),
    "negative binary size": (
        {"inputs": [{"name": "INPUT0", "datatype": "INT32", "shape": [1, 16], "parameters": {"binary_data_size": -1}}]},
        400,
        "expected a number of bytes",
    ),
    "region that nobody registered": (
        {
            "inputs": [
                {
                    "name": "INPUT0",
                    "datatype": "INT32",
                    "shape": [1, 16],
                    "parameters": {"shared_memory_region": "r", "shared_memory_byte_size": 64},
                }
            ]
        },
        400,
        "region 'r' is not registered",
    ),
    "region without a size": (document(parameters={"shared_memory_region": "r"}), 400, "'shared_memory_byte_size'"),
    "negative offset in a region": (
        document(parameters={"shared_memory_region": "r", "shared_memory_byte_size": 1, "shared_memory_offset": -1}),
        400,
        "expected a number of bytes",
    ),
    "region that is no name": (
        document(parameters={"shared_memory_region": 7, "shared_memory_byte_size": 1}),
        400,
        "expected a region's name",
    ),
    "region of the whole request": ({**document(), "parameters": {"shared_memory_region": "r"}}, 400, "means nothing"),
}

BODIES = {
    "deep JSON": b'{"inputs":' * 50_000,
    "deep list": b"[" * 200_000,
    "huge number": b'{"inputs": [{"shape": [1' + b"0" * 10_000 + b"]}]}",
    "not a number": b'{"inputs": [{"name": "INPUT0", "datatype": "FP32", "shape": [1], "data": [NaN]}]}',
    "null byte": b'{"inputs"\0: []}',
    "not UTF-8": b"\xff\xfe\xfd",
    "empty": b"",
    "truncated": json.dumps(document()).encode()[:-10],
    "lone surrogate": b'{"id": "\\ud800", "inputs": []}',
}


def changed(**first: Any) -> inference.ModelInferRequest:
    """A good gRPC request, its first input changed."""
    message = infer_message(Call("simple", INPUTS))
    for name, value in first.items():
        if name == "shape":
            del message.inputs[0].shape[:]
            message.inputs[0].shape.extend(value)
        else:
            setattr(message.inputs[0], name, value)
    return message


def with_region(region: str = "r", **numbers: int) -> inference.ModelInferRequest:
    message = infer_message(Call("simple", INPUTS))
    message.inputs[0].parameters["shared_memory_region"].string_param = region
    for name, value in numbers.items():
        message.inputs[0].parameters[f"shared_memory_{name}"].int64_param = value
    return message


def raw_and_typed() -> inference.ModelInferRequest:
    message = infer_message(Call("simple", INPUTS))
    message.inputs[0].contents.int_contents.extend(range(16))
    return message


def without_raw(count: int) -> inference.ModelInferRequest:
    message = infer_message(Call("simple", INPUTS))
    del message.raw_input_contents[count:]
    return message


def raw_of(size: int) -> inference.ModelInferRequest:
    message = infer_message(Call("simple", INPUTS))
    message.raw_input_contents[0] = b"\0" * size
    return message


def lying_bytes() -> inference.ModelInferRequest:
    message = inference.ModelInferRequest(model_name="simple")
    message.inputs.add(name="INPUT0", datatype="BYTES", shape=[1])
    message.raw_input_contents.append(struct.pack("<I", 2**32 - 1) + b"abc")
    return message


MESSAGES = {
    "negative dimension": (changed(shape=[-1, 16]), "negative dimension -1"),
    "dims that overflow together": (changed(shape=[2**62, 2**62]), "asks for more than"),
    "shape × dtype overflow": (changed(shape=[2**31 - 1, 1]), "takes 8589934588"),
    "fewer bytes than the shape": (raw_of(60), "has 60 bytes, but INT32 [1, 16] takes 64"),
    "more bytes than the shape": (raw_of(68), "has 68 bytes"),
    "unknown datatype": (changed(datatype="INT128"), "unknown datatype 'INT128'"),
    "no datatype": (changed(datatype=""), "unknown datatype ''"),
    "raw and typed together": (raw_and_typed(), "send all inputs raw or all typed"),
    "fewer raw contents than inputs": (without_raw(1), "raw_input_contents has 1 entries for 2 inputs"),
    "no contents at all": (without_raw(0), "has 0 elements in int_contents"),
    "length of a string beyond the bytes": (lying_bytes(), "claims 4294967295 bytes"),
    "input given twice": (changed(name="INPUT1"), "'INPUT1' is given twice"),
    "region that nobody registered": (with_region(byte_size=64), "region 'r' is not registered"),
    "region without a size": (with_region(), "'shared_memory_byte_size'"),
    "negative size of a region": (with_region(byte_size=-1), "expected a number of bytes"),
    "negative offset in a region": (with_region(byte_size=1, offset=-1), "expected a number of bytes"),
}
