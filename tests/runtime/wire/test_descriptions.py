"""Servers, models, configs and the index on both protocols."""

import base64
import json

import pytest
from google.protobuf import json_format

from protos import inference
from runtime.errors import InvalidInputError, PeerFailedError
from runtime.tensors import DATATYPES, TensorSpec
from runtime.wire import grpc_descriptions, rest_descriptions
from runtime.wire.model_config import config_json, data_type, encode_config
from runtime.wire.values import IndexEntry, ModelDescription, ModelState, ServerDescription

SERVER = ServerDescription("edgeward", "0.1.0", ("model_configuration", "binary_tensor_data"))
MODEL = ModelDescription(
    name="digits",
    versions=("1", "2"),
    platform="onnxruntime_onnx",
    inputs=(TensorSpec("image", "FP32", (-1, 1, 8, 8)),),
    outputs=(TensorSpec("scores", "FP32", (-1, 10)), TensorSpec("label", "BYTES", (-1,))),
    max_batch_size=32,
    parameters={"backend": "onnxruntime-cpu", "threads": 2},
)
INDEX = [IndexEntry("digits", "1", ModelState.READY), IndexEntry("bad", "", ModelState.UNAVAILABLE, "no file")]


def test_the_server_on_both() -> None:
    assert grpc_descriptions.decode_server(grpc_descriptions.encode_server(SERVER)) == SERVER
    assert rest_descriptions.decode_server(rest_descriptions.server_json(SERVER)) == SERVER


def test_a_model_on_both_with_its_batch_in_the_shapes() -> None:
    metadata, config = grpc_descriptions.encode_model(MODEL), encode_config(MODEL)
    assert list(metadata.inputs[0].shape) == [-1, 1, 8, 8]
    back = grpc_descriptions.decode_model(metadata, config)
    assert back == rest_descriptions.decode_model(rest_descriptions.model_json(MODEL), config_json(MODEL))
    assert (back.inputs, back.outputs, back.max_batch_size) == (MODEL.inputs, MODEL.outputs, 32)
    assert back.parameters == {"backend": "onnxruntime-cpu", "threads": "2"}  # ModelConfig has strings only
    assert grpc_descriptions.decode_model(metadata).max_batch_size == 0


def test_a_batched_models_config_leaves_the_batch_out() -> None:
    config = encode_config(MODEL).config
    assert (config.name, config.platform, config.backend) == ("digits", "onnxruntime_onnx", "onnxruntime")
    assert (config.max_batch_size, list(config.input[0].dims)) == (32, [1, 8, 8])
    assert config.input[0].data_type == inference.DataType.TYPE_FP32
    label = config.output[1]
    assert (label.data_type, list(label.dims), label.HasField("reshape")) == (13, [1], True)
    assert list(label.reshape.shape) == []


def test_a_model_without_batch_keeps_every_dimension() -> None:
    fixed = ModelDescription("m", ("1",), "litert_tflite", (TensorSpec("x", "INT8", (-1, 3)),), (), 0)
    assert list(encode_config(fixed).config.input[0].dims) == [-1, 3]


def test_the_json_config_says_what_the_message_says() -> None:
    document = config_json(MODEL)
    message = json_format.ParseDict(json.loads(json.dumps(document)), inference.ModelConfig())
    assert message == encode_config(MODEL).config


@pytest.mark.parametrize("datatype", sorted(DATATYPES))
def test_every_datatype_has_a_config_type(datatype: str) -> None:
    assert data_type(datatype) > 0


def test_the_index_on_both() -> None:
    assert grpc_descriptions.decode_index(grpc_descriptions.encode_index(INDEX)) == INDEX
    assert rest_descriptions.decode_index(rest_descriptions.index_json(INDEX)) == INDEX
    assert grpc_descriptions.decode_index(grpc_descriptions.encode_index(INDEX, only_ready=True)) == INDEX[:1]
    assert rest_descriptions.decode_index(rest_descriptions.index_json(INDEX, only_ready=True)) == INDEX[:1]
    with pytest.raises(PeerFailedError, match="model state 'NAPPING'; expected LOADING, READY"):
        rest_descriptions.decode_index([{"name": "m", "state": "NAPPING"}])


def test_index_requests() -> None:
    assert rest_descriptions.decode_index_request(b"") is False
    assert rest_descriptions.decode_index_request(b'{"ready": true}') is True
    with pytest.raises(InvalidInputError, match="`ready` is 1; expected true or false"):
        rest_descriptions.decode_index_request(b'{"ready": 1}')


def test_load_parameters_on_both_files_as_bytes() -> None:
    parameters = {"config": "{}", "file:1/model.onnx": b"\x00\xff", "unload_dependents": True, "n": 3}
    message = grpc_descriptions.encode_load("m", parameters)
    assert grpc_descriptions.decode_load_parameters(message) == parameters
    body = json.dumps(rest_descriptions.encode_load_parameters(parameters)).encode()
    assert base64.b64encode(b"\x00\xff") in body
    assert rest_descriptions.decode_load_parameters(body) == parameters
    assert rest_descriptions.decode_load_parameters(b"") == {}


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b'{"parameters": {"file:x": "*"}}', "'file:x' is not base64"),
        (b'{"parameters": {"file:x": 1}}', "'file:x' is a JSON number; expected a base64 string"),
        (b'{"parameters": {"x": []}}', "'x' is a JSON array"),
        (b'{"parameters": 1}', "`parameters` is a JSON number"),
    ],
)
def test_bad_load_parameters(body: bytes, says: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        rest_descriptions.decode_load_parameters(body)
    assert says in str(caught.value)


def test_health_and_errors_as_json() -> None:
    assert rest_descriptions.live_json(True) == {"live": True}
    assert rest_descriptions.ready_json(False) == {"ready": False}
    assert rest_descriptions.model_ready_json("m", True) == {"name": "m", "ready": True}
    assert rest_descriptions.error_json(InvalidInputError("bad x")) == {"error": "bad x"}
    assert "secret" not in str(rest_descriptions.error_json(OSError("secret")))
