"""Whatever bytes come as a request: the caller is told, the server is never at fault and goes on."""

import json
from typing import Any

import grpc
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protos import inference
from tests.runtime.serving.clients import Call, HttpClient, infer_message
from tests.runtime.serving.threaded import PATIENCE_S, Threaded

ROW = {"x": np.array([[1, 2, 3]], dtype=np.int64)}
GOOD = infer_message(Call("echo", ROW)).SerializeToString()

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=4), max_leaves=8)
shapes = st.lists(st.integers(-(2**70), 2**70) | st.integers(-2, 4), max_size=4) | values
tensors = st.fixed_dictionaries(
    {},
    optional={
        "name": st.just("x") | values,
        "datatype": st.sampled_from(["FP32", "INT8", "BYTES", "BF16", "BOOL", "FP128"]) | values,
        "shape": shapes,
        "data": values,
        "parameters": st.fixed_dictionaries({}, optional={"binary_data_size": values | st.integers(-1, 40)}) | values,
    },
)
bodies = st.fixed_dictionaries(
    {},
    optional={
        "id": values,
        "inputs": st.lists(tensors, max_size=3) | values,
        "outputs": st.lists(st.fixed_dictionaries({"name": values}, optional={"parameters": values}), max_size=2)
        | values,
        "parameters": st.fixed_dictionaries({}, optional={"timeout": values, "binary_data_output": values}) | values,
    },
)


@settings(max_examples=200, deadline=None)
@given(body=bodies, tail=st.binary(max_size=40), length=st.none() | st.integers(-2, 300))
def test_any_json(server: Threaded, body: Any, tail: bytes, length: int | None) -> None:
    client = HttpClient(server.http, binary=True)
    try:
        head = json.dumps(body).encode()
        headers = {"Inference-Header-Content-Length": str(len(head) if length is None else length)} if tail else {}
        status, _, data = client.request("POST", "/v2/models/echo/infer", head + tail, headers)
        assert status in (200, 400, 404, 501), data
        if status != 200:
            assert list(json.loads(data)) == ["error"]
    finally:
        client.close()


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b'{"inputs":' * 20_000,
        b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [1' + b"0" * 5000 + b"]}]}",
        b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [4294967296, 4294967296], "data": []}]}',
        b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1], "data": [1]}]}',
        b"\xff\xfe",
        b"",
    ],
    ids=["deep list", "deep object", "huge number", "overflowing shape", "negative shape", "not UTF-8", "empty"],
)
def test_bombs(server: Threaded, body: bytes) -> None:
    client = HttpClient(server.http, binary=False)
    status, _, data = client.request("POST", "/v2/models/echo/infer", body)
    assert status == 400
    assert json.loads(data)["error"]
    assert client.send(Call("echo", ROW)).status == "OK"
    client.close()


@settings(max_examples=200, deadline=None)
@given(edits=st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), min_size=1, max_size=6))
def test_any_bytes_on_grpc(server: Threaded, edits: list[tuple[int, int]]) -> None:
    raw = bytearray(GOOD)
    for at, value in edits:
        raw[at] = value
    with grpc.insecure_channel(server.grpc) as channel:
        call = channel.unary_unary(inference.METHODS["ModelInfer"].path).future(bytes(raw), timeout=PATIENCE_S)
        assert call.code() in (
            grpc.StatusCode.OK,
            grpc.StatusCode.INVALID_ARGUMENT,
            grpc.StatusCode.NOT_FOUND,
            grpc.StatusCode.UNIMPLEMENTED,
            grpc.StatusCode.RESOURCE_EXHAUSTED,
        ), call.details()
