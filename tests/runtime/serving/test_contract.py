"""What every transport owes its caller: one suite, run over each of them and over Triton's own clients."""

import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from runtime import errors
from runtime.errors import EdgewardError
from runtime.serving.rest.infer import JOIN_BYTES
from runtime.wire.status import INTERNAL_TEXT, TABLE
from tests.runtime.serving.clients import Call, Client, GrpcClient, HttpClient, numpy_of
from tests.runtime.serving.fake_service import SECRET
from tests.runtime.serving.threaded import Threaded

CLIENTS = (
    "grpc",
    "native-grpc",
    "grpcio-grpc",
    "rest-binary",
    "rest-json",
    "triton-grpc",
    "triton-native-grpc",
    "triton-grpcio-grpc",
    "triton-http",
)
BINARY_ONLY = ("FP16", "BF16")


def triton() -> Any:
    pytest.importorskip("tritonclient.grpc", reason="tritonclient[grpc,http] is not installed")
    pytest.importorskip("tritonclient.http", reason="tritonclient[grpc,http] is not installed")
    from tests.runtime.serving import triton_clients

    return triton_clients


@pytest.fixture(params=CLIENTS)
def client(request: pytest.FixtureRequest, server: Threaded) -> Iterator[Client]:
    match request.param:
        case "grpc":
            made = GrpcClient(server.grpc)
        case "native-grpc":
            made = GrpcClient(request.getfixturevalue("native_server").grpc)
        case "grpcio-grpc":
            made = GrpcClient(request.getfixturevalue("grpcio_server").grpc)
        case "triton-native-grpc":
            made = triton().TritonGrpc(request.getfixturevalue("native_server").grpc)
        case "triton-grpcio-grpc":
            made = triton().TritonGrpc(request.getfixturevalue("grpcio_server").grpc)
        case "rest-binary":
            made = HttpClient(server.http, binary=True)
        case "rest-json":
            made = HttpClient(server.http, binary=False)
        case "triton-grpc":
            made = triton().TritonGrpc(server.grpc)
        case _:
            made = triton().TritonHttp(server.http)
    yield made
    made.close()


def rows(count: int) -> dict[str, np.ndarray]:
    first = np.arange(count * 16, dtype=np.int32).reshape(count, 16)
    return {"INPUT0": first, "INPUT1": np.full_like(first, 3)}


def same(left: np.ndarray, right: np.ndarray) -> bool:
    return left.dtype == right.dtype and left.shape == right.shape and left.tolist() == right.tolist()


@pytest.mark.parametrize("count", [1, 7])
def test_a_request_is_answered_with_every_output(client: Client, count: int) -> None:
    inputs = rows(count)
    outcome = client.send(Call("add", inputs, id="r-1"))
    assert (outcome.status, outcome.model, outcome.version, outcome.id) == ("OK", "add", "1", "r-1")
    assert list(outcome.outputs) == ["OUTPUT0", "OUTPUT1"]
    assert same(outcome.outputs["OUTPUT0"], inputs["INPUT0"] + 3)
    assert same(outcome.outputs["OUTPUT1"], inputs["INPUT0"] - 3)


def test_only_the_outputs_asked_for_come_back(client: Client) -> None:
    outcome = client.send(Call("add", rows(1), outputs=("OUTPUT1",), version="1"))
    assert list(outcome.outputs) == ["OUTPUT1"]


@pytest.mark.parametrize(
    "datatype",
    [
        "BOOL",
        "UINT8",
        "UINT16",
        "UINT32",
        "UINT64",
        "INT8",
        "INT16",
        "INT32",
        "INT64",
        "FP16",
        "FP32",
        "FP64",
        "BF16",
        "BYTES",
    ],
)
def test_every_datatype_goes_there_and_back(client: Client, datatype: str) -> None:
    if datatype == "BF16" and type(client).__name__.startswith("Triton") and not triton().takes_bfloat16():
        pytest.skip("this tritonclient takes no ml_dtypes.bfloat16")
    if datatype in BINARY_ONLY and isinstance(client, HttpClient) and not client.binary:
        pytest.skip(f"JSON does not carry {datatype}")
    if datatype == "BYTES":
        value = np.array([[b"", "grüße".encode()], [b"a\0b", b"x" * 300]], dtype=object)
    else:
        value = np.array([[0, 1, 1], [1, 0, 1]]).astype(numpy_of(datatype))
        if datatype not in ("BOOL",):
            value = value * value.dtype.type(3)
    outcome = client.send(Call("echo", {"x": value}))
    assert outcome.status == "OK", outcome.text
    assert same(outcome.outputs["x"], value)


def test_a_tensor_without_elements_goes_there_and_back(client: Client) -> None:
    value = np.empty((0, 4), dtype=np.float32)
    outcome = client.send(Call("echo", {"x": value}))
    assert outcome.status == "OK", outcome.text
    assert same(outcome.outputs["x"], value)


def test_a_large_tensor_goes_there_and_back(client: Client) -> None:
    if isinstance(client, HttpClient) and not client.binary:
        pytest.skip("JSON of this size takes long")
    value = np.random.default_rng(1).random((JOIN_BYTES // 2,), dtype=np.float32)
    assert value.nbytes > JOIN_BYTES
    outcome = client.send(Call("echo", {"x": value, "y": value[::-1].copy()}))
    assert same(outcome.outputs["x"], value)
    assert same(outcome.outputs["y"], value[::-1])


def test_parameters_go_there_and_back(client: Client) -> None:
    parameters = {"flag": True, "count": -5, "ratio": 0.25, "route": "edge"}
    outcome = client.send(Call("echo", rows(1), parameters=parameters))
    assert outcome.parameters == parameters


def test_timeout_in_microseconds_becomes_the_deadline(client: Client) -> None:
    outcome = client.send(Call("deadline", rows(1), parameters={"timeout": 15_000_000}))
    assert 0 < outcome.outputs["left_s"][0] <= 15


@pytest.mark.parametrize("kind", sorted(TABLE, key=lambda cls: cls.__name__), ids=lambda cls: cls.__name__)
def test_every_error_has_its_status_and_text(client: Client, kind: type[EdgewardError]) -> None:
    name = kind.__name__
    outcome = client.send(Call("fail", rows(1), parameters={"error": name}))
    assert outcome.status == (TABLE[kind].http if client.is_http else TABLE[kind].grpc)
    assert outcome.text == f"{name} was asked for"
    if isinstance(client, GrpcClient | HttpClient):
        assert outcome.hints["edgeward-error"] == name
        assert outcome.hints.get("retry-after") == ("3" if kind is errors.OverloadedError else None)


def test_what_nobody_foresaw_is_logged_once_and_not_shown(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        outcome = client.send(Call("crash", rows(1)))
    assert outcome.status == (500 if client.is_http else "INTERNAL")
    assert outcome.text == INTERNAL_TEXT
    assert [record.exc_info[1].args for record in caplog.records if record.exc_info] == [(SECRET,)]


@pytest.mark.parametrize(
    ("call", "grpc_code", "http_status", "words"),
    [
        (Call("nobody", rows(1)), "NOT_FOUND", 404, "no model 'nobody'"),
        (Call("add", rows(1), version="9"), "NOT_FOUND", 404, "version '9'"),
        (Call("add", {"INPUT0": rows(1)["INPUT0"]}), "INVALID_ARGUMENT", 400, "wants INPUT0 and INPUT1"),
        (Call("add", rows(1), version="1 or 1"), "INVALID_ARGUMENT", 400, "model version '1 or 1'"),
        (Call("..", rows(1)), "INVALID_ARGUMENT", 400, "'..' cannot be a model name"),
        (Call("add", rows(1), parameters={"timeout": -1}), "INVALID_ARGUMENT", 400, "parameter 'timeout' is -1"),
    ],
    ids=lambda value: None if not isinstance(value, str) else value,
)
def test_a_wrong_request_is_told_what_is_wrong(
    client: Client, call: Call, grpc_code: str, http_status: int, words: str
) -> None:
    if isinstance(client, HttpClient):
        call = Call(call.model, call.inputs, call.version.replace(" ", "%20"), parameters=call.parameters)
    elif type(client).__name__ == "TritonHttp" and " " in call.version:
        pytest.skip("Triton's HTTP client does not quote versions")
    outcome = client.send(call)
    assert outcome.status == (http_status if client.is_http else grpc_code), outcome.text
    assert words in outcome.text
