"""REST beyond the shared contract: every other route, headers, packed bodies, caps, keys, hung-up clients, garbage."""

import gzip
import json
import socket
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from runtime.serving.rest.extra_route import document_route
from runtime.serving.rest.infer import TIMEOUT_HEADER
from tests.runtime.serving.clients import Call, HttpClient
from tests.runtime.serving.grpc.test_server import GARBAGE, only_sesame
from tests.runtime.serving.threaded import PATIENCE_S, Threaded, serving

ROW = {"x": np.array([[1, 2, 3]], dtype=np.int64)}
ECHO = "/v2/models/echo/infer"


@pytest.fixture
def client(server: Threaded) -> Iterator[HttpClient]:
    made = HttpClient(server.http, binary=True)
    yield made
    made.close()


def ask(client: HttpClient, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, Any]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    status, _, data = client.request(method, path, body, named)
    return status, json.loads(data)


def packed_infer(client: HttpClient, body: bytes, encoding: str, headers: dict[str, str]) -> tuple[int, Any, bytes]:
    return client.request("POST", ECHO, body, {**headers, "Content-Encoding": encoding})


def test_health_routes_answer_json(client: HttpClient) -> None:
    assert ask(client, "GET", "/v2/health/live") == (200, {"live": True})
    assert ask(client, "GET", "/v2/health/ready") == (200, {"ready": True})
    assert ask(client, "GET", "/v2/models/add/ready") == (200, {"name": "add", "ready": True})
    assert ask(client, "GET", "/v2/models/add/versions/1/ready") == (200, {"name": "add", "ready": True})
    status, body = ask(client, "GET", "/v2/models/nobody/ready")
    assert (status, body["ready"], body["error"]) == (503, False, "model 'nobody' is not ready here")


def test_a_server_that_is_not_ready_says_so() -> None:
    with serving() as server:
        client = HttpClient(server.http, binary=False)
        server.do(lambda: setattr(server.service, "ready", False))
        status, body = ask(client, "GET", "/v2/health/ready")
        assert (status, body["ready"]) == (503, False)
        assert "not ready" in body["error"]
        assert ask(client, "GET", "/v2/health/live") == (200, {"live": True})
        client.close()


def test_descriptions(client: HttpClient) -> None:
    for path in ("/v2", "/v2/"):
        assert ask(client, "GET", path)[1]["name"] == "fake"
    for path in ("/v2/models/add", "/v2/models/add/versions/1"):
        status, model = ask(client, "GET", path)
        assert (status, model["inputs"][0]) == (200, {"name": "INPUT0", "datatype": "INT32", "shape": [-1, 16]})
        assert ask(client, "GET", f"{path}/config")[1]["max_batch_size"] == 8
    assert ask(client, "GET", "/v2/models/add/versions/7")[0] == 404


def test_repository_routes(client: HttpClient, server: Threaded) -> None:
    index = ask(client, "POST", "/v2/repository/index")[1]
    assert {"name": "broken", "version": "1", "state": "UNAVAILABLE", "reason": "its file is gone"} in index
    ready = ask(client, "POST", "/v2/repository/index", b'{"ready": true}')[1]
    assert {entry["state"] for entry in ready} == {"READY"}
    assert ask(client, "POST", "/v2/repository/models/add/load") == (200, {"name": "add", "load": True})
    ask(client, "POST", "/v2/repository/models/add/load", b'{"parameters": {"config": "{}", "file:1/m": "CA=="}}')
    assert server.service.loaded[-2:] == [("add", {}), ("add", {"config": "{}", "file:1/m": b"\x08"})]
    body = b'{"parameters": {"unload_dependents": false}}'
    assert ask(client, "POST", "/v2/repository/models/echo/unload", body)[0] == 200
    assert server.service.unloaded[-1] == "echo"
    assert ask(client, "POST", "/v2/repository/models/nobody/load")[0] == 404
    assert ask(client, "POST", "/v2/repository/models/add/load", b"{")[0] == 400


@pytest.mark.parametrize(
    ("method", "path", "status", "words"),
    [
        ("GET", "/", 404, "begin with /v2"),
        ("GET", "/v2/nothing", 404, "no route GET '/v2/nothing'"),
        ("POST", "/v2/models/..%2F..%2Fetc%2Fpasswd/infer", 404, "no route"),
        ("POST", "/v2/models/..%2F..%2Fetc%2Fpasswd", 404, "no route"),
        ("GET", "/v2/models/%2e%2e", 400, "'..' cannot be a model name"),
        ("POST", "/v2/models/a%00b/infer", 400, "'a\\x00b' cannot be a model name"),
        ("POST", "/v2/models//infer", 400, "the model name is empty"),
        ("POST", "/v2/repository/models/..%5c..%5cx/load", 400, "cannot be a model name"),
        ("GET", "/v2/models/" + "a" * 300, 400, "(300 characters)"),
        ("GET", "/v2/models/echo/infer", 405, "allowed: POST"),
        ("PUT", "/v2/models/echo/infer", 405, "allowed: POST"),
        ("DELETE", "/v2/models/echo", 405, "allowed: GET"),
        ("GET", "/v2/cudasharedmemory/region/a/status", 400, "region 'a' is not registered"),
        ("POST", "/v2/systemsharedmemory/region/a/register", 400, "the body is not JSON"),
        ("GET", "/v2/models/nobody/stats", 404, "no model 'nobody'"),
        ("PUT", "/v2/logging", 405, "allowed: GET, HEAD, POST"),
    ],
)
def test_every_refusal_is_json(client: HttpClient, method: str, path: str, status: int, words: str) -> None:
    seen, body = ask(client, method, path)
    assert (seen, list(body)) == (status, ["error"])
    assert words in body["error"]


@pytest.mark.parametrize("length", ["-1", "x", "", "1e3", "9" * 30, "0", "100000"])
def test_a_bad_header_length_is_refused(client: HttpClient, length: str) -> None:
    body, _ = client.encode(Call("echo", ROW))
    status, reply = ask(client, "POST", ECHO, body, Inference_Header_Content_Length=length)
    assert status == 400
    assert "Inference-Header-Content-Length" in reply["error"]
    assert client.send(Call("echo", ROW)).status == "OK"


def test_the_timeout_header_becomes_the_deadline(client: HttpClient) -> None:
    body, headers = client.encode(Call("deadline", ROW))
    _, reply_headers, data = client.request(
        "POST", "/v2/models/deadline/infer", body, {**headers, TIMEOUT_HEADER: "15000"}
    )
    assert 0 < client.decode(reply_headers, data).outputs["left_s"][0] <= 15
    assert client.send(Call("deadline", ROW)).outputs["left_s"][0] == -1
    for wrong in ("soon", "0", "-5", "nan", "inf"):
        status, _, data = client.request("POST", "/v2/models/deadline/infer", body, {**headers, TIMEOUT_HEADER: wrong})
        assert status == 400
        assert TIMEOUT_HEADER in json.loads(data)["error"]


# -------------------------------------------------------------- packed bodies

PACKERS = {"gzip": gzip.compress, "deflate": zlib.compress}


@pytest.mark.parametrize("encoding", PACKERS)
def test_packed_requests_and_replies(client: HttpClient, encoding: str) -> None:
    value = np.zeros((4, 1_000_000), dtype=np.float32)
    body, headers = client.encode(Call("echo", {"x": value}))
    headers |= {"Content-Encoding": encoding, "Accept-Encoding": encoding}
    status, reply_headers, data = client.request("POST", ECHO, PACKERS[encoding](body), headers)
    assert (status, reply_headers["Content-Encoding"]) == (200, encoding)
    assert len(data) < value.nbytes // 50
    unpacked = gzip.decompress(data) if encoding == "gzip" else zlib.decompress(data)
    assert np.array_equal(client.decode(reply_headers, unpacked).outputs["x"], value)


@pytest.mark.parametrize("accept", ["", "identity", "br", "gzip;q=0", "deflate;q=x"])
def test_replies_are_not_packed_unless_asked(client: HttpClient, accept: str) -> None:
    body, headers = client.encode(Call("echo", {"x": np.zeros(10_000, dtype=np.uint8)}))
    _, reply_headers, _ = client.request("POST", ECHO, body, {**headers, "Accept-Encoding": accept})
    assert reply_headers["Content-Encoding"] is None


def test_a_packed_body_that_does_not_unpack_is_refused(client: HttpClient) -> None:
    body, headers = client.encode(Call("echo", ROW))
    good = gzip.compress(body)
    for bad, encoding, status in (
        (b"not gzip", "gzip", 400),
        (good[:-12], "gzip", 400),
        (good + b"more", "gzip", 400),
        (body, "br", 501),
    ):
        seen, _, data = packed_infer(client, bad, encoding, headers)
        assert seen == status, data
        assert "error" in json.loads(data)
    assert packed_infer(client, good, "gzip, identity", headers)[0] == 200


def test_a_body_that_unfolds_past_the_cap_is_refused() -> None:
    with serving(max_message_bytes=100_000) as server:
        client = HttpClient(server.http, binary=True)
        bomb = gzip.compress(b"\0" * 50_000_000)
        assert len(bomb) < 100_000
        status, _, data = packed_infer(client, bomb, "gzip", {})
        assert status == 413
        assert "unfolds to more than 100000 bytes" in json.loads(data)["error"]
        assert client.send(Call("echo", ROW)).status == "OK"
        client.close()


# ----------------------------------------------------------------------- caps


def test_a_declared_body_past_the_cap_is_refused_unread() -> None:
    with serving(max_message_bytes=100_000) as server:
        at = server.at.http
        with socket.create_connection((at.host, at.port), timeout=PATIENCE_S) as raw:
            raw.sendall(f"POST {ECHO} HTTP/1.1\r\nhost: x\r\ncontent-length: 100001\r\n\r\n".encode())
            assert raw.recv(1 << 16).startswith(b"HTTP/1.1 413 ")  # and not a byte of the body was sent


def test_a_chunked_body_past_the_cap_is_refused_while_it_is_read() -> None:
    with serving(max_message_bytes=100_000) as server:
        at = server.at.http
        with socket.create_connection((at.host, at.port), timeout=PATIENCE_S) as raw:
            raw.sendall(f"POST {ECHO} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n".encode())
            for _ in range(11):
                raw.sendall(b"2710\r\n" + b" " * 10_000 + b"\r\n")  # 110,000 bytes, and no end
            assert raw.recv(1 << 16).startswith(b"HTTP/1.1 413 ")
        client = HttpClient(server.http, binary=True)
        assert client.send(Call("echo", ROW)).status == "OK"
        client.close()


# ------------------------------------------------------------------- hang-ups


def test_a_client_that_hangs_up_is_withdrawn_from_the_service(server: Threaded, client: HttpClient) -> None:
    body, headers = client.encode(Call("gate", ROW))
    client.connection.request("POST", "/v2/models/gate/infer", body, headers)
    server.ask(server.service.begun.acquire())
    client.connection.sock.close()
    server.ask(server.service.withdrawn.acquire())


def test_a_client_that_leaves_in_the_middle_of_its_body_disturbs_nobody(server: Threaded, client: HttpClient) -> None:
    at = server.at.http
    with socket.create_connection((at.host, at.port), timeout=PATIENCE_S) as raw:
        raw.sendall(f"POST {ECHO} HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\nhalf".encode())
    assert client.send(Call("echo", ROW)).status == "OK"


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
def test_garbage_on_the_port_disturbs_nobody(server: Threaded, client: HttpClient, garbage: bytes) -> None:
    at = server.at.http
    with socket.create_connection((at.host, at.port), timeout=PATIENCE_S) as noisy:
        noisy.sendall(garbage)
        noisy.shutdown(socket.SHUT_WR)
        assert client.send(Call("echo", ROW)).status == "OK"
    assert client.send(Call("echo", ROW)).status == "OK"


def test_what_is_not_http_is_answered_in_json(server: Threaded) -> None:
    at = server.at.http
    with socket.create_connection((at.host, at.port), timeout=PATIENCE_S) as noisy:
        noisy.sendall(GARBAGE["tls"])
        head, _, body = noisy.recv(1 << 16).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert "without TLS" in json.loads(body)["error"]


# ----------------------------------------------------------------------- keys


def test_a_key_is_asked_for_everything_but_health() -> None:
    with serving(authorize=only_sesame) as server:
        client = HttpClient(server.http, binary=True)
        assert client.send(Call("echo", ROW)).status == 401
        assert ask(client, "GET", "/v2", Authorization="Bearer open")[0] == 401
        status, headers, _ = client.request("GET", "/v2/models/echo")
        assert (status, headers["WWW-Authenticate"]) == (401, "Bearer")
        assert ask(client, "GET", "/v2", Authorization="Bearer sesame")[0] == 200
        body, headers = client.encode(Call("echo", ROW))
        assert client.request("POST", ECHO, body, {**headers, "Authorization": "bearer sesame"})[0] == 200
        assert ask(client, "GET", "/v2/health/ready")[0] == 200
        client.close()


def test_a_programs_own_documents_are_served_to_who_has_a_key() -> None:
    async def status() -> dict[str, object]:
        return {"uptime_s": 1.5}

    with serving(authorize=only_sesame, routes=[document_route("/edgeward/status", status)]) as server:
        client = HttpClient(server.http, binary=True)
        assert ask(client, "GET", "/edgeward/status")[0] == 401
        assert ask(client, "GET", "/edgeward/status", Authorization="Bearer sesame") == (200, {"uptime_s": 1.5})
        client.close()
