"""Any request and reply survives both protocols unchanged, and no bytes whatever bring anything but errors of ours."""

import contextlib
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from protos import inference
from runtime.errors import EdgewardError, PeerFailedError
from runtime.tensors import DATATYPES, Array, dtype_of
from runtime.wire import grpc_codec, grpc_descriptions, rest_codec, rest_descriptions
from runtime.wire.values import InferenceRequest, InferenceResponse, Parameters, RequestedOutput

STEADY = settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])

texts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)
values = (
    st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"), max_size=8)
)
parameters = st.dictionaries(texts, values, max_size=3)


@st.composite
def tensors(draw: st.DrawFn, in_json: bool) -> Array:
    """Any tensor that binary, or JSON, can carry."""
    datatype = draw(st.sampled_from(sorted(DATATYPES - {"FP16", "BF16"} if in_json else DATATYPES)))
    shape = draw(npst.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
    if datatype == "BYTES":
        text = st.text(st.characters(codec="utf-8"), max_size=6).map(str.encode)
        return draw(npst.arrays(np.object_, shape, elements=text if in_json else st.binary(max_size=6)))
    if datatype == "BF16":
        return draw(npst.arrays(np.uint16, shape)).view(dtype_of("BF16"))
    is_finite = in_json and datatype in {"FP32", "FP64"}
    elements = {"allow_nan": False, "allow_infinity": False} if is_finite else None
    return draw(npst.arrays(dtype_of(datatype), shape, elements=elements))


@st.composite
def requests(draw: st.DrawFn, in_json: bool) -> InferenceRequest:
    outputs = draw(st.lists(st.builds(RequestedOutput, texts, parameters), max_size=2, unique_by=lambda o: o.name))
    return InferenceRequest(
        model=draw(texts),
        inputs=draw(st.dictionaries(texts, tensors(in_json), max_size=3)),
        version=draw(st.sampled_from(["", "1", "12"])),
        id=draw(st.sampled_from(["", "id-1"])),
        outputs=tuple(outputs),
        parameters=draw(parameters),
    )


def assert_same_tensors(got: Mapping[str, Array], wanted: Mapping[str, Array]) -> None:
    assert list(got) == list(wanted)
    for name, value in wanted.items():
        assert (got[name].dtype, got[name].shape) == (value.dtype, value.shape)
        if value.dtype == np.object_:
            assert got[name].tolist() == value.tolist()
        else:
            assert got[name].tobytes() == value.tobytes()


def assert_same_parameters(got: Parameters, wanted: Parameters) -> None:
    assert {k: (type(v), v) for k, v in got.items()} == {k: (type(v), v) for k, v in wanted.items()}


def assert_same_request(got: InferenceRequest, wanted: InferenceRequest) -> None:
    assert_same_tensors(got.inputs, wanted.inputs)
    assert_same_parameters(got.parameters, wanted.parameters)
    assert [o.name for o in got.outputs] == [o.name for o in wanted.outputs]
    for ours, theirs in zip(got.outputs, wanted.outputs, strict=True):
        assert_same_parameters(ours.parameters, theirs.parameters)
    assert replace(got, inputs={}, parameters={}, outputs=()) == replace(wanted, inputs={}, parameters={}, outputs=())


def as_response(request: InferenceRequest) -> InferenceResponse:
    return InferenceResponse(request.model, request.version, request.inputs, request.id, request.parameters)


def assert_same_response(got: InferenceResponse, wanted: InferenceResponse) -> None:
    assert (got.model, got.version, got.id) == (wanted.model, wanted.version, wanted.id)
    assert_same_tensors(got.outputs, wanted.outputs)
    assert_same_parameters(got.parameters, wanted.parameters)


@STEADY
@given(requests(in_json=False))
def test_grpc_keeps_requests_and_replies(request: InferenceRequest) -> None:
    data = grpc_codec.encode_request(request).SerializeToString()
    assert_same_request(grpc_codec.decode_request(inference.ModelInferRequest.FromString(data)), request)
    reply = grpc_codec.encode_response(as_response(request)).SerializeToString()
    back = grpc_codec.decode_response(inference.ModelInferResponse.FromString(reply))
    assert_same_response(back, as_response(request))


@STEADY
@given(requests(in_json=False))
def test_rest_keeps_binary_requests_and_replies(request: InferenceRequest) -> None:
    body = rest_codec.encode_request(request, binary=True)
    got, wanted = rest_codec.decode_request(request.model, request.version, body.joined(), body.header_length)
    assert_same_request(got, request)
    assert wanted.of("any") is True
    reply = rest_codec.encode_response(as_response(request), wanted)
    assert_same_response(rest_codec.decode_response(reply.joined(), reply.header_length), as_response(request))


@STEADY
@given(requests(in_json=True))
def test_rest_keeps_json_requests_and_replies(request: InferenceRequest) -> None:
    body = rest_codec.encode_request(request, binary=False)
    assert body.header_length is None
    got, wanted = rest_codec.decode_request(request.model, request.version, body.joined(), None)
    assert_same_request(got, request)
    assert wanted.of("any") is False
    reply = rest_codec.encode_response(as_response(request), wanted)
    assert_same_response(rest_codec.decode_response(reply.joined(), reply.header_length), as_response(request))


@STEADY
@given(tensors(in_json=True))
def test_nested_json_means_the_same_as_flat(value: Array) -> None:
    nested = value
    if value.dtype == np.object_:
        nested = np.array([item.decode() for item in value.reshape(-1)] or [""], object)[: value.size]
        nested = nested.reshape(value.shape)
    data = nested.tolist() if value.ndim else [nested.item()]
    body = {"inputs": [{"name": "x", "datatype": _datatype(value), "shape": value.shape, "data": data}]}
    got, _ = rest_codec.decode_request("m", "", json.dumps(body).encode(), None)
    assert_same_tensors(got.inputs, {"x": value})


def _datatype(value: Array) -> str:
    message = grpc_codec.encode_request(InferenceRequest("m", {"x": value}))
    datatype: str = message.inputs[0].datatype
    return datatype


@STEADY
@given(requests(in_json=False), st.data())
def test_flipped_and_cut_grpc_bytes_bring_only_our_errors(request: InferenceRequest, data: st.DataObject) -> None:
    raw = _damaged(grpc_codec.encode_request(request).SerializeToString(), data)
    for kind, decode in (
        (inference.ModelInferRequest, grpc_codec.decode_request),
        (inference.ModelInferResponse, grpc_codec.decode_response),
        (inference.RepositoryModelLoadRequest, grpc_descriptions.decode_load_parameters),
        (inference.RepositoryIndexResponse, grpc_descriptions.decode_index),
    ):
        with contextlib.suppress(EdgewardError, DecodeError):  # DecodeError: gRPC refuses such bytes before us
            decode(kind.FromString(raw))


@STEADY
@given(requests(in_json=False), st.booleans(), st.data())
def test_flipped_and_cut_rest_bodies_bring_only_our_errors(
    request: InferenceRequest, binary: bool, data: st.DataObject
) -> None:
    with contextlib.suppress(EdgewardError):
        body = rest_codec.encode_request(request, binary=binary)
        raw = _damaged(body.joined(), data)
        length = data.draw(st.sampled_from([None, body.header_length, "-1", "x", 3, "9" * 30, "٣"]))
        with contextlib.suppress(EdgewardError):
            rest_codec.decode_request("m", "", raw, length)
        with contextlib.suppress(PeerFailedError):
            rest_codec.decode_response(raw, length)


json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
tensor_objects = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["x", "y"]) | json_values,
        "datatype": st.sampled_from(sorted(DATATYPES)) | json_values,
        "shape": st.lists(st.integers(-2, 4) | st.just(2**62), max_size=3)
        | st.lists(st.just(1), min_size=60, max_size=70)
        | json_values,
        "data": st.lists(st.integers(-300, 2**33) | st.floats() | st.booleans() | st.text(max_size=3), max_size=4)
        | json_values,
        "parameters": st.dictionaries(st.sampled_from(["binary_data_size", "p"]), json_values) | json_values,
    },
)


@STEADY
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "inputs": st.lists(tensor_objects, max_size=3) | json_values,
            "outputs": st.lists(tensor_objects, max_size=3) | json_values,
            "model_name": st.text(max_size=3) | json_values,
            "id": json_values,
            "parameters": json_values,
        },
    )
)
def test_strange_json_brings_only_our_errors(document: dict[str, Any]) -> None:
    body = json.dumps(document).encode()
    with contextlib.suppress(EdgewardError):
        rest_codec.decode_request("m", "", body, None)
    document["outputs"] = document.pop("inputs", None)
    with contextlib.suppress(PeerFailedError):
        rest_codec.decode_response(json.dumps(document).encode(), None)
    with contextlib.suppress(EdgewardError):
        rest_descriptions.decode_load_parameters(body)
    for decode in (rest_descriptions.decode_server, rest_descriptions.decode_model):
        with contextlib.suppress(PeerFailedError):
            decode(document)
    with contextlib.suppress(PeerFailedError):
        rest_descriptions.decode_index([document])


@STEADY
@given(st.binary(max_size=200))
def test_random_bytes_bring_only_our_errors(raw: bytes) -> None:
    with contextlib.suppress(EdgewardError):
        rest_codec.decode_request("m", "", raw, None)
    with contextlib.suppress(EdgewardError):
        rest_codec.decode_request("m", "", raw, len(raw) // 2)
    with contextlib.suppress(EdgewardError, DecodeError):
        grpc_codec.decode_request(inference.ModelInferRequest.FromString(raw))


def _damaged(raw: bytes, data: st.DataObject) -> bytes:
    damaged = bytearray(raw)
    for _ in range(data.draw(st.integers(1, 3))):
        if damaged:
            at = data.draw(st.integers(0, len(damaged) - 1))
            damaged[at] = data.draw(st.integers(0, 255))
    return bytes(damaged[: data.draw(st.integers(0, len(damaged)))] if data.draw(st.booleans()) else damaged)
