"""The codecs of both protocols, both ways on both sides, on one row of digits and on one image of 602 KB."""

from __future__ import annotations

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from protos import inference
from runtime.tensors import Array
from runtime.wire import grpc_codec, rest_codec
from runtime.wire.values import InferenceRequest, InferenceResponse

TENSORS = {"digit": (1, 1, 8, 8), "image": (1, 3, 224, 224)}


@pytest.fixture(params=sorted(TENSORS))
def tensor(request: pytest.FixtureRequest) -> Array:
    """float32 of a size that users send."""
    return np.random.default_rng(1).random(TENSORS[request.param], np.float32)


@pytest.fixture
def asked(tensor: Array) -> InferenceRequest:
    """A request as clients of ours make it."""
    return InferenceRequest("digits", {"image": tensor}, id="1", parameters={"route": "auto"})


@pytest.fixture
def answered(tensor: Array) -> InferenceResponse:
    """A reply of the same size."""
    return InferenceResponse("digits", "1", {"image": tensor}, "1", {"served_by": "edge"})


def test_grpc_decodes_a_request(benchmark: BenchmarkFixture, asked: InferenceRequest) -> None:
    """From the bytes of the message, as the server gets them."""
    wire = grpc_codec.encode_request(asked).SerializeToString()
    decoded = benchmark(lambda: grpc_codec.decode_request(inference.ModelInferRequest.FromString(wire)))
    assert decoded.model == asked.model


def test_grpc_encodes_a_reply(benchmark: BenchmarkFixture, answered: InferenceResponse) -> None:
    """To the bytes that leave the server."""
    assert benchmark(lambda: grpc_codec.encode_response(answered).SerializeToString())


def test_rest_decodes_a_binary_request(benchmark: BenchmarkFixture, asked: InferenceRequest) -> None:
    """From the body, as the server gets it."""
    body = rest_codec.encode_request(asked, binary=True)
    whole, length = body.joined(), body.header_length
    decoded, _ = benchmark(rest_codec.decode_request, "digits", "", whole, length)
    assert decoded.id == asked.id


def test_rest_encodes_a_binary_reply(benchmark: BenchmarkFixture, answered: InferenceResponse) -> None:
    """To the parts of the body that leave the server."""
    wanted = rest_codec.WantedBinary(every=True)
    assert benchmark(rest_codec.encode_response, answered, wanted).header_length is not None


def test_grpc_encodes_a_request(benchmark: BenchmarkFixture, asked: InferenceRequest) -> None:
    """To the bytes that leave the client."""
    assert benchmark(lambda: grpc_codec.encode_request(asked).SerializeToString())


def test_grpc_decodes_a_reply(benchmark: BenchmarkFixture, answered: InferenceResponse) -> None:
    """From the bytes of the message, as the client gets them."""
    wire = grpc_codec.encode_response(answered).SerializeToString()
    decoded = benchmark(lambda: grpc_codec.decode_response(inference.ModelInferResponse.FromString(wire)))
    assert decoded.outputs["image"].shape == answered.outputs["image"].shape


def test_rest_encodes_a_binary_request(benchmark: BenchmarkFixture, asked: InferenceRequest) -> None:
    """To the body that leaves the client."""
    assert benchmark(lambda: rest_codec.encode_request(asked, binary=True).joined())


def test_rest_decodes_a_binary_reply(benchmark: BenchmarkFixture, answered: InferenceResponse) -> None:
    """From the body, as the client gets it."""
    body = rest_codec.encode_response(answered, rest_codec.WantedBinary(every=True))
    whole, length = body.joined(), body.header_length
    decoded = benchmark(rest_codec.decode_response, whole, length)
    assert decoded.outputs["image"].shape == answered.outputs["image"].shape
