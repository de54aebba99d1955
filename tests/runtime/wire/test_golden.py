"""Bytes that tritonclient writes, kept as files: we read them right, and write the same ourselves."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from protos import inference
from runtime.wire import grpc_codec, rest_codec
from runtime.wire.values import InferenceRequest, InferenceResponse, RequestedOutput

GOLDEN = Path(__file__).parent / "golden"
IMAGE = np.arange(6, dtype=np.float32).reshape(1, 2, 3) / 4
TEXT = [[b"hello", b"", b"\xff\x00"]]
HALF = np.array([0.5, -2.0], dtype=np.float16)


def test_raw_grpc_request_reads_as_meant_and_is_written_the_same() -> None:
    data = (GOLDEN / "grpc_request.bin").read_bytes()
    request = grpc_codec.decode_request(inference.ModelInferRequest.FromString(data), deadline=5.0)
    assert (request.model, request.version, request.id, request.deadline) == ("digits", "3", "r-1", 5.0)
    assert request.parameters == {"route": "edge"}
    assert request.outputs == (RequestedOutput("scores", {"classification": 2}),)
    np.testing.assert_array_equal(request.inputs["image"], IMAGE, strict=True)
    np.testing.assert_array_equal(request.inputs["half"], HALF, strict=True)
    assert request.inputs["text"].tolist() == TEXT
    assert grpc_codec.encode_request(request).SerializeToString(deterministic=True) == data


def test_typed_grpc_request_reads_as_meant() -> None:
    data = (GOLDEN / "grpc_typed_request.bin").read_bytes()
    inputs = grpc_codec.decode_request(inference.ModelInferRequest.FromString(data)).inputs
    np.testing.assert_array_equal(inputs["image"], IMAGE, strict=True)
    np.testing.assert_array_equal(inputs["tiny"], np.array([-128, 0, 127], np.int8), strict=True)
    np.testing.assert_array_equal(inputs["flag"], np.array([True, False]), strict=True)
    assert inputs["text"].tolist() == TEXT


def test_grpc_reply_is_written_as_triton_does() -> None:
    data = (GOLDEN / "grpc_response.bin").read_bytes()
    response = InferenceResponse("digits", "3", {"scores": IMAGE}, id="r-1", parameters={"served_by": "edge"})
    assert grpc_codec.encode_response(response).SerializeToString(deterministic=True) == data
    back = grpc_codec.decode_response(inference.ModelInferResponse.FromString(data))
    np.testing.assert_array_equal(back.outputs["scores"], IMAGE, strict=True)
    assert back.parameters == {"served_by": "edge"}


def test_binary_rest_request_reads_as_meant() -> None:
    length, body = (GOLDEN / "rest_binary_request.bin").read_bytes().split(b"\n", 1)
    request, wanted = rest_codec.decode_request("digits", "3", body, length.decode())
    assert request.id == "r-1"
    assert [output.name for output in request.outputs] == ["scores", "label"]
    assert (wanted.of("scores"), wanted.of("label")) == (True, False)
    np.testing.assert_array_equal(request.inputs["image"], IMAGE, strict=True)
    np.testing.assert_array_equal(request.inputs["half"], HALF, strict=True)
    assert request.inputs["text"].tolist() == TEXT


def test_json_rest_request_reads_as_meant() -> None:
    request, wanted = rest_codec.decode_request("digits", "", (GOLDEN / "rest_request.json").read_bytes(), None)
    np.testing.assert_array_equal(request.inputs["image"], IMAGE, strict=True)
    assert request.inputs["words"].tolist() == [[b"a", "ü".encode()]]
    assert wanted.of("anything") is True  # tritonclient asks for binary where no output is named
    assert request.parameters == {}


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("tritonclient") is None, reason="tritonclient is not installed")
def test_tritonclient_still_writes_the_same(tmp_path: Path) -> None:
    subprocess.run([sys.executable, GOLDEN / "make.py", tmp_path], check=True, timeout=60)
    for made in tmp_path.iterdir():
        assert made.read_bytes() == (GOLDEN / made.name).read_bytes(), made.name


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("tritonclient") is None, reason="tritonclient is not installed")
def test_tritonclient_reads_our_rest_replies(tmp_path: Path) -> None:
    scores = np.array([[1, 2]], dtype=np.int64)
    label = np.array([b"seven", b"\xfe"], dtype=np.object_)
    wanted = rest_codec.WantedBinary(by_output={"label": True})
    body = rest_codec.encode_response(InferenceResponse("m", "1", {"scores": scores, "label": label}), wanted)
    (tmp_path / "body").write_bytes(body.joined())
    code = (
        "import sys, tritonclient.http as http\n"
        "body = open(sys.argv[1], 'rb').read()\n"
        "result = http.InferenceServerClient.parse_response_body(body, header_length=int(sys.argv[2]))\n"
        "print(result.as_numpy('scores').tolist(), result.as_numpy('label').tolist())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "body", str(body.header_length)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.stdout, done.returncode) == ("[[1, 2]] [b'seven', b'\\xfe']\n", 0), done.stderr


def test_our_json_request_has_the_protocols_fields() -> None:
    request = InferenceRequest("m", {"x": np.array([[1, 2]], dtype=np.int32)}, parameters={"route": "edge"})
    body = rest_codec.encode_request(request, binary=False)
    assert body.header_length is None
    assert body.joined() == (
        b'{"parameters":{"route":"edge"},"inputs":[{"name":"x","datatype":"INT32","shape":[1,2],"data":[1,2]}]}'
    )
