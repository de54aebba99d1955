"""Triton's own classes of bad input, one line each: a 4xx or INVALID_ARGUMENT with a clear text, and the server goes on.

Fuzzed bytes are in `test_hostile_bodies` and `test_openapi`; loads in `test_repository`, regions in `test_shared_memory`.
"""

import gzip
import json
import socket
from collections.abc import Iterator

import grpc
import numpy as np
import pytest

from protos import inference
from tests.runtime.serving.bad_input import BODIES, JSON_REQUESTS, MESSAGES, document
from tests.runtime.serving.clients import Call, GrpcClient, HttpClient, grpc_call
from tests.runtime.serving.real import INPUTS, serving_models
from tests.runtime.serving.threaded import PATIENCE_S, Threaded

SIMPLE = "/v2/models/simple/infer"


@pytest.fixture
def rest(real: Threaded) -> Iterator[HttpClient]:
    client = HttpClient(real.http, binary=True)
    yield client
    assert client.send(Call("simple", INPUTS)).status == "OK", "the server goes on"
    client.close()


@pytest.fixture
def rpc(real: Threaded) -> Iterator[GrpcClient]:
    client = GrpcClient(real.grpc)
    yield client
    assert client.send(Call("simple", INPUTS)).status == "OK", "the server goes on"
    client.close()


@pytest.mark.parametrize("name", JSON_REQUESTS)
def test_json_requests(rest: HttpClient, name: str) -> None:
    body, status, words = JSON_REQUESTS[name]
    seen, _, data = rest.request("POST", SIMPLE, json.dumps(body).encode())
    assert seen == status, data
    assert words in json.loads(data)["error"]


@pytest.mark.parametrize("name", BODIES)
def test_bodies(rest: HttpClient, name: str) -> None:
    status, _, data = rest.request("POST", SIMPLE, BODIES[name])
    assert status == 400, data
    assert json.loads(data)["error"]


OTHERS = [
    "/v2/repository/index",
    "/v2/repository/models/simple/load",
    "/v2/repository/models/simple/unload",
    "/v2/systemsharedmemory/region/r/register",
    "/v2/trace/setting",
    "/v2/models/simple/trace/setting",
    "/v2/logging",
]


@pytest.mark.parametrize("path", OTHERS)
@pytest.mark.parametrize("name", ["deep JSON", "deep list", "huge number", "null byte", "not UTF-8"])
def test_bodies_of_other_routes(rest: HttpClient, path: str, name: str) -> None:
    status, _, data = rest.request("POST", path, BODIES[name])
    assert status == 400, data
    assert json.loads(data)["error"]


@pytest.mark.parametrize("length", ["-1", "0", "", "x", "1e3", "0x10", "+5", "٣", "9" * 40, "1000000", " "])
def test_lengths_of_the_json_header(rest: HttpClient, length: str) -> None:
    body, _ = rest.encode(Call("simple", INPUTS))
    status, _, data = rest.request(
        "POST", SIMPLE, body, {"Inference-Header-Content-Length": length.encode().decode("latin-1")}
    )
    assert status == 400, data
    assert "Inference-Header-Content-Length" in json.loads(data)["error"]


NAMES = ["..", "...", "a%00b", "%2e%2e", "..%5c..%5cx", "a%0ab", "x" * 300]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("route", ["GET {}", "GET {}/config", "GET {}/stats", "POST {}/infer", "POST {}/trace/setting"])
def test_names_in_paths(rest: HttpClient, name: str, route: str) -> None:
    method, _, path = route.format(f"/v2/models/{name}").partition(" ")
    status, _, data = rest.request(method, path)
    assert status == 400, data
    assert "cannot be a model name" in json.loads(data)["error"]


@pytest.mark.parametrize("name", ["../../etc/passwd", "..", "a\0b", "a/b", "a\\b", "", "x" * 300, "a\nb"])
def test_names_in_messages(rpc: GrpcClient, name: str) -> None:
    requests = {
        "ModelInfer": inference.ModelInferRequest(model_name=name),
        "ModelMetadata": inference.ModelMetadataRequest(name=name),
        "ModelConfig": inference.ModelConfigRequest(name=name),
        "ModelReady": inference.ModelReadyRequest(name=name),
        "RepositoryModelLoad": inference.RepositoryModelLoadRequest(model_name=name),
        "RepositoryModelUnload": inference.RepositoryModelUnloadRequest(model_name=name),
    }
    if name:  # without a name these mean every model, and the server
        requests["ModelStatistics"] = inference.ModelStatisticsRequest(name=name)
        requests["TraceSetting"] = inference.TraceSettingRequest(model_name=name)
    for rpc_name, message in requests.items():
        with pytest.raises(grpc.RpcError) as caught:
            grpc_call(rpc.channel, rpc_name, message)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT, rpc_name
        assert "model name" in caught.value.details()


@pytest.mark.parametrize("name", MESSAGES)
def test_messages(rpc: GrpcClient, name: str) -> None:
    message, words = MESSAGES[name]
    with pytest.raises(grpc.RpcError) as caught:
        grpc_call(rpc.channel, "ModelInfer", message)
    assert caught.value.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED)
    assert words in caught.value.details()


def test_controls_of_the_wrong_kind(rest: HttpClient) -> None:
    for path, body, words in (
        ("/v2/logging", b"[]", "expected an object"),
        ("/v2/logging", b'{"log_info": "yes"}', "expected true or false"),
        ("/v2/trace/setting", b'{"trace_rate": {}}', "expected a string or a list"),
        ("/v2/trace/setting", b'{"trace_file": "/etc/passwd"}', "no plain file name"),
        ("/v2/systemsharedmemory/region/r/register", b"{}", "`key` is None"),
        ("/v2/systemsharedmemory/region/r/register", b'{"key": "k", "byte_size": 1.5}', "expected numbers of bytes"),
        ("/v2/systemsharedmemory/region/r/register", b'{"key": "../k", "byte_size": 1}', "no key of shared memory"),
        ("/v2/repository/models/simple/load", b'{"parameters": 3}', "expected an object"),
        ("/v2/repository/models/simple/load", b'{"parameters": {"file:1/model.onnx": "*"}}', "is not base64"),
        ("/v2/repository/models/simple/unload", b'{"parameters": {"unload_dependents": 1}}', "expected true or false"),
    ):
        status, _, data = rest.request("POST", path, body)
        assert status == 400, data
        assert words in json.loads(data)["error"]


# --------------------------------------------------------------- the connection


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Threaded]:
    """A server that takes 100 KB at most."""
    with serving_models(tmp_path_factory.mktemp("narrow"), max_message_bytes=100_000) as server:
        yield server


def talk(server: Threaded, *parts: bytes, half_close: bool = False) -> bytes:
    """What the HTTP port answers first to raw bytes; with `half_close`, all until it closes: interim responses may come before."""
    at = server.at.http
    with socket.create_connection((at.host, at.port), timeout=PATIENCE_S) as raw:
        for part in parts:
            raw.sendall(part)
        if half_close:
            raw.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: raw.recv(1 << 16), b""))
        return raw.recv(1 << 16)


def head(**fields: object) -> bytes:
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in {"host": "x", **fields}.items()]
    return "\r\n".join([f"POST {SIMPLE} HTTP/1.1", *lines, "", ""]).encode()


def test_a_body_over_the_cap(narrow: Threaded) -> None:
    assert talk(narrow, head(content_length=100_001)).startswith(b"HTTP/1.1 413 ")
    chunks = b"".join(b"2710\r\n" + b" " * 10_000 + b"\r\n" for _ in range(11))
    assert talk(narrow, head(transfer_encoding="chunked"), chunks).startswith(b"HTTP/1.1 413 ")
    client = HttpClient(narrow.http, binary=False)
    status, _, _ = client.request("POST", SIMPLE, gzip.compress(b" " * 10_000_000), {"Content-Encoding": "gzip"})
    assert status == 413
    client.close()
    rpc = GrpcClient(narrow.grpc)
    big = Call("simple", {name: np.zeros((2000, 16), np.int32) for name in INPUTS})
    assert rpc.send(big).status == "RESOURCE_EXHAUSTED"
    assert rpc.send(Call("simple", INPUTS)).status == "OK"
    rpc.close()


def test_framing_that_is_no_http(real: Threaded, rest: HttpClient) -> None:
    for lines in (
        head(transfer_encoding="chunked") + b"ZZ\r\nno size\r\n",
        head(content_length="-5"),
        head(content_length="1, 2"),
        b"POST\r\n\r\n",
    ):
        assert talk(real, lines).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize(
    "body",
    [head(content_length=1000) + b"half", head(transfer_encoding="chunked") + b"5\r\nab"],
    ids=["content-length", "chunked"],
)
def test_truncated_bodies(real: Threaded, rest: HttpClient, body: bytes) -> None:
    answer = talk(real, body, half_close=True)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"before the request was complete" in answer


def test_a_connection_that_the_client_has_half_closed(real: Threaded, rest: HttpClient) -> None:
    good = json.dumps(document()).encode()
    answer = talk(real, head(content_length=len(good), connection="close") + good, half_close=True)
    *interim, final, body = answer.split(b"\r\n\r\n")
    assert set(interim) <= {b"HTTP/1.1 100 Continue"}
    assert final.startswith(b"HTTP/1.1 200 ")
    assert json.loads(body)["outputs"][0]["data"] == (INPUTS["INPUT0"] + INPUTS["INPUT1"]).reshape(-1).tolist()


def test_slow_clients_hold_up_nobody(real: Threaded, rest: HttpClient) -> None:
    at = real.at.http
    slow = [socket.create_connection((at.host, at.port), timeout=PATIENCE_S) for _ in range(50)]
    try:
        for one in slow:
            one.sendall(head(content_length=1000)[:40])
        assert rest.send(Call("simple", INPUTS)).status == "OK"
        for one in slow:
            one.sendall(head(content_length=1000)[40:] + b"{")
        assert rest.send(Call("simple", INPUTS)).status == "OK"
    finally:
        for one in slow:
            one.close()
