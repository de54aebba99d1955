"""Bad gRPC requests get a text that names the tensor, what came and what was expected."""

from typing import Any

import numpy as np
import pytest

from protos import inference
from runtime.errors import InvalidInputError, PeerFailedError, UnsupportedError
from runtime.wire.grpc_codec import (
    decode_request,
    decode_response,
    encode_request,
    encode_response,
    serialize_response,
)
from runtime.wire.values import InferenceRequest, InferenceResponse, Placed


def typed(datatype: str, shape: list[int], **contents: Any) -> inference.ModelInferRequest:
    tensor = inference.ModelInferRequest.InferInputTensor(name="x", datatype=datatype, shape=shape)
    tensor.contents.CopyFrom(inference.InferTensorContents(**contents))
    return inference.ModelInferRequest(model_name="m", inputs=[tensor])


def raw(datatype: str, shape: list[int], *contents: bytes) -> inference.ModelInferRequest:
    tensor = inference.ModelInferRequest.InferInputTensor(name="x", datatype=datatype, shape=shape)
    return inference.ModelInferRequest(model_name="m", inputs=[tensor], raw_input_contents=contents)


@pytest.mark.parametrize(
    ("datatype", "field", "values"),
    [
        ("BOOL", "bool_contents", [True, False]),
        ("INT8", "int_contents", [-128, 127]),
        ("INT16", "int_contents", [-32768, 32767]),
        ("INT32", "int_contents", [-(2**31), 2**31 - 1]),
        ("INT64", "int64_contents", [-(2**63), 2**63 - 1]),
        ("UINT8", "uint_contents", [0, 255]),
        ("UINT16", "uint_contents", [0, 65535]),
        ("UINT32", "uint_contents", [0, 2**32 - 1]),
        ("UINT64", "uint64_contents", [0, 2**64 - 1]),
        ("FP32", "fp32_contents", [0.5, -1.0]),
        ("FP64", "fp64_contents", [1e300, -0.1]),
        ("BYTES", "bytes_contents", [b"", b"\xff"]),
    ],
)
def test_typed_contents_of_every_datatype(datatype: str, field: str, values: list[Any]) -> None:
    request = decode_request(typed(datatype, [2, 1], **{field: values}))
    assert request.inputs["x"].reshape(-1).tolist() == values
    assert request.inputs["x"].shape == (2, 1)
    # Sent on, it is raw and means the same.
    again = decode_request(encode_request(request))
    assert again.inputs["x"].dtype == request.inputs["x"].dtype
    assert again.inputs["x"].reshape(-1).tolist() == values


@pytest.mark.parametrize(
    ("message", "says"),
    [
        (
            typed("FP16", [1], fp32_contents=[1]),
            "'x' is FP16, which has no typed contents in the protocol; send it raw",
        ),
        (typed("BF16", [1], fp32_contents=[1]), "'x' is BF16, which has no typed contents"),
        (typed("INT8", [2], int_contents=[0, 128]), "element 1 of tensor 'x' is 128; INT8 holds -128 to 127"),
        (typed("INT16", [1], int_contents=[-32769]), "element 0 of tensor 'x' is -32769; INT16 holds -32768 to 32767"),
        (typed("UINT8", [1], uint_contents=[256]), "element 0 of tensor 'x' is 256; UINT8 holds 0 to 255"),
        (typed("UINT16", [1], uint_contents=[65536]), "UINT16 holds 0 to 65535"),
        (typed("FP32", [1], int_contents=[1]), "whose elements belong in fp32_contents; found int_contents"),
        (typed("FP32", [3], fp32_contents=[1, 2]), "has 2 elements in fp32_contents, but shape [3] takes 3"),
        (typed("FP32", [3]), "has 0 elements in fp32_contents, but shape [3] takes 3; raw contents are empty"),
        (typed("FP31", [1], fp32_contents=[1]), "input 'x': unknown datatype 'FP31'; expected one of BF16, BOOL"),
        (raw("FP32", [-1, 2], b"12345678"), "input 'x': shape [-1, 2] has the negative dimension -1"),
        (raw("FP32", [2], b"1234"), "'x' has 4 bytes, but FP32 [2] takes 8"),
        (raw("FP64", [2**31, 2**31, 2**31], b""), "asks for more than 2147483647 elements"),
        (raw("FP64", [0, 2**62, 4], b""), "asks for more than 2147483647 elements"),
        (raw("FP32", [1] * 65, b"1234"), "input 'x': a shape of 65 dimensions; at most 64 are possible"),
        (raw("BYTES", [2**31 - 1], b"\0\0\0\0"), "holds 2147483647 BYTES elements, which take at least"),
        (raw("BYTES", [1], b"\xff\xff\xff\xff1"), "element 0 of tensor 'x' claims 4294967295 bytes, but only 1"),
        (raw("FP32", [1], b"1234", b"1234"), "raw_input_contents has 2 entries for 1 inputs"),
    ],
)
def test_bad_tensors(message: inference.ModelInferRequest, says: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        decode_request(message)
    assert says in str(caught.value)


def test_raw_and_typed_together() -> None:
    message = typed("FP32", [1], fp32_contents=[1])
    message.raw_input_contents.append(b"1234")
    with pytest.raises(InvalidInputError, match="has 1 entries, and 1 of 1 inputs have typed contents too"):
        decode_request(message)


def test_a_name_given_twice() -> None:
    message = raw("FP32", [1], b"1234", b"1234")
    message.inputs.append(message.inputs[0])
    with pytest.raises(InvalidInputError, match="input 'x' is given twice"):
        decode_request(message)
    message = raw("FP32", [1], b"1234")
    message.outputs.add(name="y")
    message.outputs.add(name="y")
    with pytest.raises(InvalidInputError, match="requested twice: 'y', 'y'"):
        decode_request(message)


def test_shared_memory_is_refused_by_name() -> None:
    message = raw("FP32", [1])
    message.inputs[0].parameters["shared_memory_region"].string_param = "r"
    with pytest.raises(UnsupportedError, match="shared_memory_region"):
        decode_request(message)


def test_a_parameter_of_every_kind() -> None:
    message = raw("FP32", [1], b"1234")
    message.parameters["b"].bool_param = True
    message.parameters["i"].int64_param = -1
    message.parameters["u"].uint64_param = 2**64 - 1
    message.parameters["d"].double_param = 0.1
    message.parameters["s"].string_param = "s"
    wanted = {"b": True, "i": -1, "u": 2**64 - 1, "d": 0.1, "s": "s"}
    request = decode_request(message)
    assert request.parameters == wanted
    assert encode_request(request).parameters == message.parameters


def test_bad_parameters() -> None:
    message = raw("FP32", [1], b"1234")
    message.parameters["p"].SetInParent()
    with pytest.raises(InvalidInputError, match="parameter 'p' has no value"):
        decode_request(message)
    with pytest.raises(InvalidInputError, match="which does not fit 64 bits"):
        encode_request(InferenceRequest("m", {}, parameters={"p": 2**64}))
    with pytest.raises(InvalidInputError, match="parameter 'p' is a list; expected a bool, number or string"):
        encode_request(InferenceRequest("m", {}, parameters={"p": []}))  # type: ignore[dict-item]


def test_raw_inputs_are_read_only_views_of_the_message() -> None:
    value = decode_request(raw("FP32", [2], b"12345678")).inputs["x"]
    assert not value.flags.writeable
    assert not value.flags.owndata


def test_arrays_of_any_layout_are_sent_row_major() -> None:
    value = np.arange(6, dtype=np.int32).reshape(2, 3).T
    back = decode_response(encode_response(InferenceResponse("m", "1", {"y": value}))).outputs["y"]
    np.testing.assert_array_equal(back, [[0, 3], [1, 4], [2, 5]])


def test_strings_are_sent_as_bytes() -> None:
    request = InferenceRequest("m", {"x": np.array(["a", "ü"])})
    assert decode_request(encode_request(request)).inputs["x"].tolist() == [b"a", "ü".encode()]


def test_a_bad_reply_is_the_peers_failure() -> None:
    message = inference.ModelInferResponse(model_name="m", raw_output_contents=[b"123"])
    message.outputs.add(name="y", datatype="FP32", shape=[1])
    with pytest.raises(PeerFailedError, match="reply does not decode: tensor 'y' has 3 bytes"):
        decode_response(message)


@pytest.mark.parametrize("count", [1, 127, 128, 20_000, 300_000])
def test_serialized_by_hand_is_the_same_message(count: int) -> None:
    large = np.arange(count, dtype=np.float32)
    outputs = {
        "large": large,
        "strided": large[::2],
        "none": np.zeros((0, 3), np.int8),
        "words": np.array([b"a", b"bc"]),
    }
    outputs["words"] = outputs["words"].astype(object)
    response = InferenceResponse("m", "1", outputs, "id", {"backend": "x"})
    message = encode_response(response)
    assert inference.ModelInferResponse.FromString(serialize_response(response)) == message
    placed = {"large": Placed("region", 8, large.nbytes)}
    again = inference.ModelInferResponse.FromString(serialize_response(response, placed))
    assert again == encode_response(response, placed)
    assert again.raw_output_contents[0] == b""
