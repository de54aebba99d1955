"""Bad REST requests get a text that names the tensor, what came and what was expected; outputs come as they were asked."""

import json
from typing import Any

import numpy as np
import pytest

from runtime.errors import EdgewardError, InvalidInputError, PeerFailedError, UnsupportedError
from runtime.wire.rest_codec import WantedBinary, decode_request, decode_response, encode_request, encode_response
from runtime.wire.values import InferenceRequest, InferenceResponse, RequestedOutput


def tensor(**fields: Any) -> dict[str, Any]:
    given = {"name": "x", "datatype": "FP32", "shape": [2], "data": [1, 2], **fields}
    return {key: value for key, value in given.items() if value is not ...}


def binary(size: Any, **fields: Any) -> dict[str, Any]:
    return tensor(data=..., parameters={"binary_data_size": size}, **fields)


def decode(document: Any, behind: bytes | None = None, length: str | int | None = None) -> InferenceRequest:
    header = document if isinstance(document, bytes) else json.dumps(document).encode()
    if behind is not None and length is None:
        length = str(len(header))
    return decode_request("m", "", header + (behind or b""), length)[0]


def refusal(*arguments: Any, **named: Any) -> str:
    with pytest.raises(InvalidInputError) as caught:
        decode(*arguments, **named)
    return str(caught.value)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"datatype": "FP16"}, "'x' is FP16, which JSON does not carry; use gRPC or the binary tensor extension"),
        ({"datatype": "FP33"}, "input 'x': unknown datatype 'FP33'"),
        ({"datatype": 3}, "`datatype` of tensor 'x' is 3; expected a string"),
        ({"name": ...}, "`name` of an input is None; expected a string"),
        ({"shape": [-1, 2]}, "negative dimension -1"),
        ({"shape": [2**31, 2**31]}, "more than 2147483647 elements"),
        ({"shape": [0, 10**30]}, "more than 2147483647 elements"),
        ({"shape": [1.0]}, "the shape of tensor 'x' is [1.0]; expected a list of integers"),
        ({"shape": [True]}, "the shape of tensor 'x' is [True]"),
        ({"shape": "2"}, "expected a list of integers"),
        ({"shape": [1] * 65}, "65 dimensions; at most 64"),
        ({"shape": [3]}, "'x' has 2 elements in its data, but shape [3] takes 3"),
        ({"data": ...}, "neither `data` nor the parameter `binary_data_size`"),
        ({"data": 1}, "'x' has int data; expected a list of elements"),
        ({"data": [1, "2"]}, "element 1 of tensor 'x' is '2'; FP32 takes a number"),
        ({"data": [1, None]}, "element 1 of tensor 'x' is None; FP32 takes a number"),
        ({"data": [1, True]}, "element 1 of tensor 'x' is True; FP32 takes a number"),
        ({"data": [1, 1e39]}, "element 1 of tensor 'x' is larger than FP32 can hold"),
        ({"data": [1, 10**400]}, "'x' has an element that FP32 cannot hold"),
        ({"datatype": "INT8", "data": [1, 128]}, "'x' has an element that INT8 cannot hold"),
        ({"datatype": "UINT64", "data": [1, -1]}, "'x' has an element that UINT64 cannot hold"),
        ({"datatype": "INT32", "data": [1, 1.0]}, "element 1 of tensor 'x' is 1.0; INT32 takes an integer"),
        ({"datatype": "BOOL", "data": [True, 1]}, "element 1 of tensor 'x' is 1; BOOL takes true or false"),
        ({"datatype": "BYTES", "data": ["a", 1]}, "element 1 of tensor 'x' is 1; BYTES takes a string"),
        ({"datatype": "BYTES", "data": ["a", "\ud800"]}, "'x' has a string that is no valid Unicode"),
        ({"shape": [2, 2], "data": [[1, 2], [3]]}, "no [2, 2]: dimension 1 is not 2 everywhere"),
        ({"shape": [2, 2], "data": [[1, 2]]}, "'x' has 1 lists in its data, but its shape is [2, 2]"),
        ({"shape": [2], "data": [[1], [2]]}, "element 0 of tensor 'x' is [1]"),
        ({"parameters": {"binary_data_size": 8}}, "both `data` and the parameter `binary_data_size`"),
        ({"parameters": {"p": {}}}, "parameter 'p' of tensor 'x' is a JSON object"),
        ({"parameters": []}, "`parameters` of tensor 'x' is a JSON array; expected an object"),
    ],
)
def test_bad_tensors(fields: dict[str, Any], says: str) -> None:
    assert says in refusal({"inputs": [tensor(**fields)]})


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ({}, "the body has no `inputs`"),
        ({"inputs": {}}, "`inputs` is {}; expected a list of objects"),
        ({"inputs": [1]}, "`inputs` is [1]; expected a list of objects"),
        ({"inputs": [tensor(), tensor()]}, "input 'x' is given twice"),
        ({"inputs": [], "outputs": [{"name": "y"}, {"name": "y"}]}, "output 'y' is requested twice"),
        ({"inputs": [], "outputs": [{"name": "y", "parameters": {"binary_data": 1}}]}, "'binary_data' is 1"),
        ({"inputs": [], "parameters": {"binary_data_output": "yes"}}, "'binary_data_output' is 'yes'"),
        ({"inputs": [], "parameters": {"p": None}}, "parameter 'p' of the request is a JSON null"),
        ({"inputs": [], "id": 7}, "`id` of the request is 7; expected a string"),
        (b"[]", "the body is a JSON array; expected an object"),
        (b"", "the body is not JSON"),
        (b"{", "the body is not JSON"),
        (b"\xff", "the body is not UTF-8 at byte 0"),
        (b'{"inputs": NaN}', "the token NaN, which JSON does not know"),
        (b'{"inputs": -Infinity}', "the token -Infinity"),
        (b'{"inputs": ' + b"[" * 100_000, "nested too deeply"),
        (b'{"inputs": ' + b"9" * 5000 + b"}", "the body is not JSON"),
        (b'{"inputs": [], "parameters": {"p": 1e999}}', "larger than a double can hold"),
    ],
)
def test_bad_documents(document: Any, says: str) -> None:
    assert says in refusal(document)


@pytest.mark.parametrize(
    ("length", "says"),
    [
        ("-1", "Inference-Header-Content-Length is '-1'; expected the number of bytes of JSON"),
        ("12x", "is '12x'"),
        ("", "is ''"),
        ("٣", "is '٣'"),
        ("1e3", "is '1e3'"),
        ("9" * 400, "expected the number of bytes"),
        ("999", "is 999, but the body has only"),
        ("0", "is 0; the body starts with a JSON object"),
        ("3", "the body is not JSON"),
    ],
)
def test_bad_header_lengths(length: str, says: str) -> None:
    assert says in refusal({"inputs": []}, length=length)


@pytest.mark.parametrize(
    ("item", "behind", "says"),
    [
        (binary(8), b"1234", "`binary_data_size` of tensor 'x' is 8, but only 4 bytes of the body are left"),
        (binary(4), b"1234", "'x' has 4 bytes, but FP32 [2] takes 8"),
        (binary(8), b"123456789", "1 bytes left over after its inputs"),
        (binary(-1), b"", "is -1; expected a number of bytes"),
        (binary(True), b"", "is True; expected a number of bytes"),
        (binary(8.0), b"12345678", "is 8.0; expected a number of bytes"),
        (binary(10**30), b"", "but only 0 bytes"),
    ],
)
def test_bad_binary_parts(item: dict[str, Any], behind: bytes, says: str) -> None:
    assert says in refusal({"inputs": [item]}, behind)


def test_binary_without_its_header_says_which_header() -> None:
    body = json.dumps({"inputs": [binary(8)]}).encode() + b"\xff1234567"
    assert "need the header Inference-Header-Content-Length" in refusal(body)


def test_shared_memory_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedError, match="shared_memory_region"):
        decode({"inputs": [tensor(data=..., parameters={"shared_memory_region": "r"})]})


def test_binary_inputs_are_views_of_the_body() -> None:
    value = decode({"inputs": [binary(8)]}, b"12345678").inputs["x"]
    assert not value.flags.owndata
    assert not value.flags.writeable


def test_json_and_binary_inputs_mix() -> None:
    document = {"inputs": [binary(8, name="a"), tensor(name="b"), binary(2, name="c", datatype="BOOL")]}
    inputs = decode(document, np.array([5, 6], np.float32).tobytes() + b"\1\0").inputs
    assert {name: value.tolist() for name, value in inputs.items()} == {"a": [5, 6], "b": [1, 2], "c": [True, False]}


def test_nulls_stand_for_absent_fields() -> None:
    request = decode({"inputs": [tensor(parameters=None)], "outputs": None, "id": None, "parameters": None})
    assert (request.id, request.outputs, request.parameters) == ("", (), {})


RESPONSE = InferenceResponse("m", "1", {"a": np.array([1.5], np.float32), "b": np.array([b"hi"], np.object_)})


def test_an_output_says_for_itself_how_it_comes_else_the_request_does() -> None:
    document = {
        "inputs": [],
        "outputs": [{"name": "a", "parameters": {"binary_data": False, "classification": 3}}, {"name": "b"}],
        "parameters": {"binary_data_output": True, "route": "edge"},
    }
    request, wanted = decode_request("m", "", json.dumps(document).encode(), None)
    assert request.outputs == (RequestedOutput("a", {"classification": 3}), RequestedOutput("b"))
    assert request.parameters == {"route": "edge"}
    body = encode_response(RESPONSE, wanted)
    header = json.loads(bytes(body.chunks[0]))
    assert header["outputs"] == [
        {"name": "a", "datatype": "FP32", "shape": [1], "data": [1.5]},
        {"name": "b", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 6}},
    ]
    assert [bytes(chunk) for chunk in body.chunks[1:]] == [b"\2\0\0\0hi"]
    assert (body.header_length, body.size_bytes) == (len(body.chunks[0]), len(body.chunks[0]) + 6)
    assert body.content_type == "application/octet-stream"


def test_without_a_word_outputs_are_json() -> None:
    body = encode_response(RESPONSE, WantedBinary())
    assert (body.header_length, body.content_type) == (None, "application/json")
    assert [output["data"] for output in json.loads(body.joined())["outputs"]] == [[1.5], ["hi"]]


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (np.array([np.nan], np.float32), "holds NaN or infinity"),
        (np.array([np.inf], np.float64), "holds NaN or infinity"),
        (np.array([1], np.float16), "is FP16, which JSON does not carry"),
        (np.array([b"\xff"], np.object_), "element 0 of tensor 'y' is not UTF-8"),
    ],
)
def test_outputs_that_json_cannot_carry_say_to_ask_for_binary(value: Any, says: str) -> None:
    response = InferenceResponse("m", "1", {"y": value})
    with pytest.raises(InvalidInputError) as caught:
        encode_response(response, WantedBinary())
    assert says in str(caught.value)
    assert "`binary_data: true`" in str(caught.value)
    body = encode_response(response, WantedBinary(every=True))
    back = decode_response(body.joined(), body.header_length).outputs["y"]
    assert (back.dtype, back.shape) == (value.dtype, value.shape)


def test_a_bad_reply_is_the_peers_failure() -> None:
    with pytest.raises(PeerFailedError, match="does not decode: `model_name`"):
        decode_response(b"{}", None)


def test_a_parameter_that_is_no_json_is_refused_before_sending() -> None:
    request = InferenceRequest("m", {}, parameters={"p": float("nan")})
    with pytest.raises(EdgewardError, match="does not go into JSON"):
        encode_request(request, binary=True)
