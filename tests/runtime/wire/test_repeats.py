"""Messages that repeat: whatever is looked up is what the codecs would have made, and what is out of the ordinary goes to them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protos import inference
from runtime.errors import EdgewardError, InvalidInputError
from runtime.tensors import Array
from runtime.wire import grpc_codec, grpc_repeats, rest_codec, rest_repeats
from runtime.wire.repeats import MAX_KEPT, OneMore, Repeats
from runtime.wire.values import InferenceRequest, InferenceResponse, Placed, RequestedOutput

ROW = np.arange(6, dtype=np.float32).reshape(2, 3)
WORDS = np.array([b"a", b"", "\u00e4".encode()], dtype=np.object_)
BRAIN = grpc_codec.decode_request(
    inference.ModelInferRequest(
        inputs=[inference.ModelInferRequest.InferInputTensor(name="x", datatype="BF16", shape=[2])],
        raw_input_contents=[b"\x80\x3f\x00\x40"],
    )
).inputs["x"]

REQUESTS = {
    "plain": InferenceRequest("m", {"x": ROW}),
    "with an id": InferenceRequest("m", {"x": ROW}, "3", "äü-7"),
    "two inputs": InferenceRequest("m", {"x": ROW, "y": ROW.astype(np.int64)}),
    "large": InferenceRequest("m", {"x": np.ones((3, 224, 224), np.float32)}),
    "outputs and parameters": InferenceRequest(
        "m", {"x": ROW}, outputs=(RequestedOutput("p", {"classification": 2}),), parameters={"route": "auto", "n": 2}
    ),
    "bytes": InferenceRequest("m", {"x": WORDS}),
    "bytes beside numbers": InferenceRequest("m", {"w": WORDS, "x": ROW}),
    "no rows": InferenceRequest("m", {"x": ROW[:0]}),
    "a scalar": InferenceRequest("m", {"x": np.array(2.5)}),
    "bfloat16": InferenceRequest("m", {"x": BRAIN}),
    "no inputs": InferenceRequest("m", {}),
}
RESPONSES = {
    "plain": InferenceResponse("m", "1", {"p": ROW}, "", {"served_by": "edge"}),
    "with an id": InferenceResponse("m", "1", {"p": ROW}, "äü-7", {"served_by": "edge"}),
    "two outputs": InferenceResponse("m", "1", {"p": ROW, "q": ROW.astype(np.int64)}),
    "large": InferenceResponse("m", "1", {"p": np.ones((3, 224, 224), np.float32)}),
    "not contiguous": InferenceResponse("m", "1", {"p": ROW.T}),
    "bytes": InferenceResponse("m", "1", {"p": WORDS}),
    "no rows": InferenceResponse("m", "1", {"p": ROW[:0]}),
    "a scalar": InferenceResponse("m", "1", {"p": np.array(2.5)}),
    "bfloat16": InferenceResponse("m", "1", {"p": BRAIN}),
    "no outputs": InferenceResponse("m", "1", {}),
}

NO_JSON = {"bfloat16"}
WANTED = (rest_codec.WantedBinary(True), rest_codec.WantedBinary(True, {"p": False}), rest_codec.WantedBinary())


def shown(request: InferenceRequest) -> list[Any]:
    """Everything of a request, to be compared."""
    inputs = [
        (name, str(v.dtype), v.shape, v.tobytes() if v.dtype != object else v.tolist())
        for name, v in request.inputs.items()
    ]
    return [
        request.model,
        request.version,
        request.id,
        request.outputs,
        dict(request.parameters),
        request.deadline,
        inputs,
    ]


def other_values(request: InferenceRequest) -> InferenceRequest:
    """One that differs in nothing but the numbers and the id."""
    return InferenceRequest(
        request.model,
        {
            name: value if value.dtype == object else (value + value.dtype.type(1))
            for name, value in request.inputs.items()
        },
        request.version,
        request.id and request.id + "!",
        request.outputs,
        request.parameters,
    )


@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS)
def test_grpc_requests_decode_the_same_every_time(request_: InferenceRequest) -> None:
    decode = grpc_repeats.RequestDecoder()
    for each in (request_, other_values(request_), request_, *REQUESTS.values(), request_):
        message = grpc_codec.encode_request(each)
        assert shown(decode(message.SerializeToString(), 5.0)) == shown(grpc_codec.decode_request(message, 5.0))


@pytest.mark.parametrize(
    ("name", "binary"),
    [(name, binary) for name in REQUESTS for binary in (True, False) if binary or name not in NO_JSON],
)
def test_rest_requests_decode_the_same_every_time(name: str, binary: bool) -> None:
    request_ = REQUESTS[name]
    decode = rest_repeats.RequestDecoder()
    for each in (request_, other_values(request_), request_):
        body = rest_codec.encode_request(each, binary=binary)
        length = None if body.header_length is None else str(body.header_length)
        found, wanted = decode("m", "3", body.joined(), length, 5.0)
        expected, expected_wanted = rest_codec.decode_request("m", "3", body.joined(), length, 5.0)
        assert shown(found) == shown(expected)
        assert wanted == expected_wanted


@pytest.mark.parametrize("response", RESPONSES.values(), ids=RESPONSES)
def test_grpc_replies_mean_the_same_every_time(response: InferenceResponse) -> None:
    encode = grpc_repeats.ReplyEncoder()
    for each in (response, *RESPONSES.values(), response, response):
        wire = encode(each)
        assert inference.ModelInferResponse.FromString(b"".join(wire)) == grpc_codec.encode_response(each)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [(name, wanted) for name in RESPONSES for wanted in WANTED if wanted.of("p") or name not in NO_JSON],
)
def test_rest_replies_are_the_same_every_time(name: str, wanted: rest_codec.WantedBinary) -> None:
    response = RESPONSES[name]
    encode = rest_repeats.ReplyEncoder()
    expected = rest_codec.encode_response(response, wanted)
    for _ in range(3):
        body = encode(response, wanted)
        assert (body.joined(), body.header_length) == (expected.joined(), expected.header_length)


def test_parameters_that_change_are_not_those_of_the_last_reply() -> None:
    grpc, rest = grpc_repeats.ReplyEncoder(), rest_repeats.ReplyEncoder()
    for value in (1, True, 1.0, "1", 1):  # equal, most of them, and not the same on the wire
        response = InferenceResponse("m", "1", {"p": ROW}, "", {"n": value})
        assert inference.ModelInferResponse.FromString(b"".join(grpc(response))) == grpc_codec.encode_response(response)
        wanted = rest_codec.WantedBinary(True)
        assert rest(response, wanted).joined() == rest_codec.encode_response(response, wanted).joined()


def test_outputs_in_shared_memory_have_no_bytes_in_the_reply() -> None:
    response, placed = RESPONSES["plain"], {"p": Placed("r", 0, ROW.nbytes)}
    encode = grpc_repeats.ReplyEncoder()
    encode(response)
    assert inference.ModelInferResponse.FromString(b"".join(encode(response, placed))) == grpc_codec.encode_response(
        response, placed
    )
    rest = rest_repeats.ReplyEncoder()
    wanted = rest_codec.WantedBinary(True)
    rest(response, wanted)
    assert rest(response, wanted, placed) == rest_codec.encode_response(response, wanted, placed)


def test_a_request_after_one_like_it_is_checked_as_closely() -> None:
    good = grpc_codec.encode_request(REQUESTS["two inputs"])
    decode = grpc_repeats.RequestDecoder()
    decode(good.SerializeToString())
    for contents in ([b"1234"], [b"1", b"2"], [ROW.tobytes(), b""], [ROW.tobytes()] * 3):
        bad = inference.ModelInferRequest()
        bad.CopyFrom(good)
        bad.raw_input_contents[:] = contents
        assert told(lambda: decode(bad.SerializeToString())) == told(lambda: grpc_codec.decode_request(bad))  # noqa: B023
    body = rest_codec.encode_request(REQUESTS["two inputs"], binary=True)
    rest, length = rest_repeats.RequestDecoder(), str(body.header_length)
    rest("m", "", body.joined(), length)
    for bad_body in (body.joined()[:-1], body.joined() + b"1", bytes(body.chunks[0])):
        assert told(lambda: rest("m", "", bad_body, length)) == told(  # noqa: B023
            lambda: rest_codec.decode_request("m", "", bad_body, length)  # noqa: B023
        )


def told(call: Callable[[], object]) -> str:
    with pytest.raises(InvalidInputError) as caught:
        call()
    return str(caught.value)


def test_typed_contents_are_never_taken_for_raw_ones() -> None:
    tensor = inference.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=[2])
    tensor.contents.fp32_contents.extend([1, 2])
    message = inference.ModelInferRequest(model_name="m", inputs=[tensor])
    decode = grpc_repeats.RequestDecoder()
    for _ in range(2):
        assert decode(message.SerializeToString()).inputs["x"].tolist() == [1, 2]


WIRE = grpc_codec.encode_request(REQUESTS["two inputs"]).SerializeToString()


@given(st.data())
@settings(deadline=None)
def test_bytes_that_were_changed_anywhere_mean_what_the_codec_says(data: st.DataObject) -> None:
    decode = grpc_repeats.RequestDecoder()
    decode(WIRE)
    at = data.draw(st.integers(0, len(WIRE) - 1))
    changed = data.draw(
        st.sampled_from(
            [
                WIRE[:at],
                WIRE + WIRE[:at],
                WIRE[:at] + bytes([data.draw(st.integers(0, 255))]) + WIRE[at + 1 :],
                WIRE + b"\x1a\x02" + data.draw(st.binary(min_size=2, max_size=2)),
                b"\x1a\x02id" + WIRE + b"\x1a\x82\x00ad",
            ]
        )
    )

    def by_codec() -> InferenceRequest:
        return grpc_codec.decode_request(grpc_codec.parse(inference.ModelInferRequest, changed))

    for _ in range(2):
        assert outcome(lambda: decode(changed)) == outcome(by_codec)


def outcome(call: Callable[[], InferenceRequest]) -> object:
    try:
        return shown(call())
    except EdgewardError as error:
        return type(error), str(error)


def test_a_name_that_ends_like_the_tensor_is_not_taken_for_it() -> None:
    """Fields may stand in any order: this message begins with its tensor, and ends with the same bytes in the model's name."""
    tensor = inference.ModelInferRequest.InferInputTensor(name="x", datatype="UINT8", shape=[4])
    inputs = inference.ModelInferRequest(inputs=[tensor]).SerializeToString()

    def message(name: bytes) -> bytes:
        return b"\x3a\x04ABCD" + inputs + b"\x0a\x05m" + name

    decode = grpc_repeats.RequestDecoder()
    for name in (b"ABCD", b"WXYZ", b"ABCD"):
        request = decode(message(name))
        assert request.model == "m" + name.decode()
        assert request.inputs["x"].tobytes() == b"ABCD"


@pytest.mark.parametrize("ends", [True, False], ids=["its tensor last", "its id last"])
def test_a_large_tensor_is_a_view_of_its_message(ends: bool) -> None:
    request = REQUESTS["large"] if ends else InferenceRequest("m", dict(REQUESTS["large"].inputs), "", "7")
    wire = grpc_codec.encode_request(request).SerializeToString()
    if not ends:
        wire = wire.replace(b"\x1a\x017", b"", 1) + b"\x1a\x017"
    decode = grpc_repeats.RequestDecoder()
    for _ in range(2):
        found = decode(wire)
        assert shown(found) == shown(request)
        assert np.shares_memory(found.inputs["x"], np.frombuffer(wire, np.uint8))


def test_inputs_own_what_they_show_or_are_read_only() -> None:
    decode = grpc_repeats.RequestDecoder()
    for _ in range(2):
        value: Array = decode(WIRE).inputs["x"]
        assert not value.flags.writeable


def test_a_full_table_forgets() -> None:
    table: Repeats[int, int] = Repeats()
    for number in range(MAX_KEPT):
        table.keep(number, number)
    assert table.get(0) == 0
    table.keep(-1, 7)
    assert (table.get(0), table.get(-1)) == (None, 7)


def test_one_more_parameter_makes_one_mapping_for_as_long_as_it_is_added_to_the_same() -> None:
    one_more, said = OneMore(), {"served_by": "cloud"}
    first = one_more(said, "release", "stable")
    assert first == {"served_by": "cloud", "release": "stable"}
    assert one_more(said, "release", "stable") is first
    assert one_more(said, "release", "candidate") == {"served_by": "cloud", "release": "candidate"}
    assert one_more(said, "release", "stable") is first
    other = one_more(dict(said), "release", "stable")
    assert other == first
    assert other is not first
