"""Writes the golden files beside it with tritonclient's own encoders; run once by hand, and by the test that compares.

python tests/runtime/wire/golden/make.py FOLDER
"""

import sys
from pathlib import Path

import numpy as np
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from tritonclient.grpc import service_pb2
from tritonclient.grpc._utils import _get_inference_request

IMAGE = np.arange(6, dtype=np.float32).reshape(1, 2, 3) / 4
TEXT = np.array([[b"hello", b"", b"\xff\x00"]], dtype=np.object_)
HALF = np.array([0.5, -2.0], dtype=np.float16)


def make(kind, name, value, datatype, **how):
    tensor = kind.InferInput(name, list(value.shape), datatype)
    tensor.set_data_from_numpy(value, **how)
    return tensor


def grpc_request() -> bytes:
    inputs = [
        make(triton_grpc, "image", IMAGE, "FP32"),
        make(triton_grpc, "text", TEXT, "BYTES"),
        make(triton_grpc, "half", HALF, "FP16"),
    ]
    outputs = [triton_grpc.InferRequestedOutput("scores", class_count=2)]
    message = _get_inference_request(
        model_name="digits",
        inputs=inputs,
        model_version="3",
        request_id="r-1",
        outputs=outputs,
        sequence_id=0,
        sequence_start=False,
        sequence_end=False,
        priority=0,
        timeout=None,
        parameters={"route": "edge"},
    )
    return message.SerializeToString(deterministic=True)


def grpc_typed_request() -> bytes:
    message = service_pb2.ModelInferRequest(model_name="digits", id="t")
    image = message.inputs.add(name="image", datatype="FP32", shape=[1, 2, 3])
    image.contents.fp32_contents.extend(IMAGE.reshape(-1).tolist())
    tiny = message.inputs.add(name="tiny", datatype="INT8", shape=[3])
    tiny.contents.int_contents.extend([-128, 0, 127])
    text = message.inputs.add(name="text", datatype="BYTES", shape=[1, 3])
    text.contents.bytes_contents.extend(TEXT.reshape(-1).tolist())
    flag = message.inputs.add(name="flag", datatype="BOOL", shape=[2])
    flag.contents.bool_contents.extend([True, False])
    return message.SerializeToString(deterministic=True)


def grpc_response() -> bytes:
    message = service_pb2.ModelInferResponse(model_name="digits", model_version="3", id="r-1")
    message.parameters["served_by"].string_param = "edge"
    message.outputs.add(name="scores", datatype="FP32", shape=[1, 2, 3])
    message.raw_output_contents.append(IMAGE.tobytes())
    return message.SerializeToString(deterministic=True)


def rest_binary_request() -> bytes:
    inputs = [
        make(triton_http, "image", IMAGE, "FP32", binary_data=True),
        make(triton_http, "text", TEXT, "BYTES", binary_data=True),
        make(triton_http, "half", HALF, "FP16", binary_data=True),
    ]
    outputs = [
        triton_http.InferRequestedOutput("scores", binary_data=True),
        triton_http.InferRequestedOutput("label", binary_data=False),
    ]
    body, length = triton_http.InferenceServerClient.generate_request_body(inputs, outputs=outputs, request_id="r-1")
    return f"{length}\n".encode() + body


def rest_json_request() -> bytes:
    inputs = [
        make(triton_http, "image", IMAGE, "FP32", binary_data=False),
        make(triton_http, "words", np.array([["a", "ü"]], dtype=np.object_), "BYTES", binary_data=False),
    ]
    body, length = triton_http.InferenceServerClient.generate_request_body(inputs, request_id="r-2")
    assert length is None
    return body


FILES = {
    "grpc_request.bin": grpc_request,
    "grpc_typed_request.bin": grpc_typed_request,
    "grpc_response.bin": grpc_response,
    "rest_binary_request.bin": rest_binary_request,  # its first line is Inference-Header-Content-Length
    "rest_request.json": rest_json_request,
}

if __name__ == "__main__":
    for name, build in FILES.items():
        Path(sys.argv[1], name).write_bytes(build())
