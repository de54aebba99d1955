"""One serving process: ports, drains, signals. Real processes where signals are meant."""

import asyncio
import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import numpy as np
import pytest

from protos import inference
from runtime.config import load_settings
from runtime.errors import PortInUseError, WrongUseError
from runtime.serving.grpc import calls as grpc_calls
from runtime.serving.grpc.calls import REFUSAL_DELAY_S, unary_handler
from runtime.serving.grpc.front import why_not_native
from runtime.serving.server import Listening, Server, serve
from runtime.serving.settings import ServerSettings
from runtime.serving.sockets import Endpoint
from tests.runtime.serving.clients import Call, GrpcClient, HttpClient, grpc_call, infer_message
from tests.runtime.serving.fake_service import FakeService
from tests.runtime.serving.grpc.test_server import until_refused
from tests.runtime.serving.threaded import PATIENCE_S, serving

ROOT = Path(__file__).parents[3]
ROW = {"x": np.array([[1, 2, 3]], dtype=np.int64)}
GATE = "/v2/models/gate/infer"


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        yield taken.getsockname()[1]


@pytest.mark.parametrize("protocol", ["grpc", "http"])
async def test_a_port_in_use_is_said_before_anything_runs(taken_port: int, protocol: str) -> None:
    ports = {"grpc_port": 0, "http_port": 0, f"{protocol}_port": taken_port}
    with pytest.raises(PortInUseError) as caught:
        await Server(FakeService(), ServerSettings(**ports)).start()
    text = str(caught.value)
    assert f"port {taken_port} on 127.0.0.1 is in use" in text
    assert f"--{protocol}-port" in text


async def test_two_servers_do_not_share_a_grpc_port() -> None:
    first = Server(FakeService(), ServerSettings(grpc_port=0, http_port=0))
    at = await first.start()
    with pytest.raises(PortInUseError):
        await Server(FakeService(), ServerSettings(grpc_port=at.grpc.port, http_port=0)).start()
    await first.stop(1)


async def test_a_port_is_free_again_after_stop() -> None:
    ports = {"grpc_port": 0, "http_port": 0}
    for _ in range(3):
        server = Server(FakeService(), ServerSettings(**ports))
        at = await server.start()
        ports = {"grpc_port": at.grpc.port, "http_port": at.http.port}
        assert await server.stop(1)


@pytest.mark.parametrize("host", ["no.such.host.invalid", "203.0.113.7"])
async def test_a_host_that_is_not_ours_is_said(host: str) -> None:
    with pytest.raises(WrongUseError, match=re.escape(host)):
        await Server(FakeService(), ServerSettings(host=host, grpc_port=0, http_port=0)).start()


def test_one_port_for_both_is_refused() -> None:
    with pytest.raises(WrongUseError, match="both 9000"):
        load_settings(ServerSettings, flags={"grpc_port": 9000, "http_port": 9000}, environ={})


@pytest.mark.parametrize(("authorize", "is_warned"), [(None, True), (lambda value: None, False)])
async def test_a_public_address_without_a_key_is_warned_of(
    caplog: pytest.LogCaptureFixture, authorize: Callable[[str | None], None] | None, is_warned: bool
) -> None:
    server = Server(FakeService(), ServerSettings(host="0.0.0.0", grpc_port=0, http_port=0), authorize)
    with caplog.at_level(logging.WARNING):
        await server.start()
    await server.stop(1)
    assert any("without an API key" in record.message for record in caplog.records) is is_warned


@pytest.mark.parametrize("host", ["localhost", "::1"])
def test_names_and_ipv6_are_reached_on_both_protocols(host: str) -> None:
    if host == "::1" and not has_ipv6():
        pytest.skip("this machine has no IPv6 loopback")
    with serving(host=host) as server:
        for client in (GrpcClient(server.grpc), HttpClient(server.http, binary=True)):
            assert client.send(Call("echo", ROW)).status == "OK"
            client.close()


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


async def test_a_failing_on_started_stops_the_server() -> None:
    def fail(at: Listening) -> None:
        found.append(at)
        raise RuntimeError("no terminal")

    found: list[Listening] = []
    with pytest.raises(RuntimeError, match="no terminal"):
        await serve(FakeService(), ServerSettings(grpc_port=0, http_port=0), on_started=fail)
    for at in (found[0].grpc, found[0].http):
        with pytest.raises(OSError, match="refused"):
            socket.create_connection((at.host, at.port))


# --------------------------------------------------------------------- drain


def test_a_drain_answers_what_was_accepted_over_http() -> None:
    with serving() as server:
        clients = [HttpClient(server.http, binary=True) for _ in range(4)]
        for client in clients:
            body, headers = client.encode(Call("gate", ROW))
            client.connection.request("POST", GATE, body, headers)
        for _ in clients:
            server.ask(server.service.begun.acquire())
        server.do(server.stop.set)
        until_refused(server.at.http)
        assert not server.service.drained, "the service takes requests until the transports are done"
        server.do(server.service.gate.set)
        for client in clients:
            response = client.connection.getresponse()
            assert response.status == 200
            assert client.decode(response.headers, response.read()).outputs["x"].tolist() == [[1, 2, 3]]
            client.close()
    assert server.service.drained


def test_a_call_that_comes_while_the_native_front_closes_is_refused_in_words() -> None:
    """It takes connections to its last moment, and hands what is no ModelInfer to a server behind it that closes sooner."""
    if (why_not := why_not_native(has_tls=False)) is not None:
        pytest.skip(why_not)
    with serving(grpc_front="native") as server:
        rpc, late = GrpcClient(server.grpc), GrpcClient(server.grpc)
        outcomes: list[Any] = []
        accepted = threading.Thread(target=lambda: outcomes.append(rpc.send(Call("gate", ROW))))
        accepted.start()
        server.ask(server.service.begun.acquire())
        server.do(server.stop.set)
        refused: list[str] = []
        while len(refused) < 5:
            try:
                assert grpc_call(late.channel, "ServerReady", inference.ServerReadyRequest()).ready in (True, False)
            except grpc.RpcError as error:
                refused.append(f"{error.code().name}: {error.details()}")
        assert all(words.startswith("UNAVAILABLE: this server is shutting down") for words in refused), refused
        server.do(server.service.gate.set)
        accepted.join(PATIENCE_S)
        assert outcomes[0].status == "OK"
        rpc.close()
        late.close()


async def test_calls_beside_inference_are_answered_late_once_a_server_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    """After its connections have said goodbye: who waits for the answer sends no call that gRPC would end with CANCELLED."""
    done: list[float | str] = []

    async def sleep(seconds: float) -> None:
        done.append(seconds)

    async def read(_: Any) -> bytes:
        return b""

    async def answer(_: Any) -> Any:
        done.append("answered")
        return inference.ServerReadyResponse(ready=False)

    monkeypatch.setattr(grpc_calls, "asyncio", SimpleNamespace(sleep=sleep))
    closing = asyncio.Event()
    handle = unary_handler(inference.ServerReadyRequest, answer, None, closing, read).stream_unary
    await handle(None, None)
    closing.set()
    await handle(None, None)
    assert done == ["answered", REFUSAL_DELAY_S, "answered"]


def test_a_drain_that_takes_too_long_ends_with_an_error_to_the_caller(
    front: str, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(drain_timeout_s=0.3, grpc_front=front) as server:
        rest, rpc = HttpClient(server.http, binary=True), GrpcClient(server.grpc)
        body, headers = rest.encode(Call("gate", ROW))
        rest.connection.request("POST", GATE, body, headers)
        outcomes: list[Any] = []
        thread = threading.Thread(target=lambda: outcomes.append(rpc.send(Call("gate", ROW))))
        thread.start()
        for _ in range(2):
            server.ask(server.service.begun.acquire())
        server.do(server.stop.set)
        response = rest.connection.getresponse()
        assert response.status == 503
        assert "the server stopped before it could answer" in json.loads(response.read())["error"]
        thread.join(PATIENCE_S)
        assert outcomes[0].status in ("UNAVAILABLE", "CANCELLED")
        rest.close()
        rpc.close()
    assert server.service.drained


# ----------------------------------------------------------------- processes


class Process:
    """The fake service's program."""

    def __init__(self, *flags: str) -> None:
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "tests.runtime.serving.fake_service", *flags],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def ports(self) -> dict[str, int]:
        assert self.popen.stdout is not None
        return json.loads(self.popen.stdout.readline())

    def end(self) -> tuple[int, str, str]:
        out, err = self.popen.communicate(timeout=PATIENCE_S)
        return self.popen.returncode, out, err


@pytest.fixture
def start() -> Iterator[Callable[..., Process]]:
    started: list[Process] = []

    def begin(*flags: str) -> Process:
        started.append(Process(*flags))
        return started[-1]

    yield begin
    for process in started:
        process.popen.kill()
        process.popen.communicate()


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM to catch")
@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_accepted_requests_finish_and_exits_0(
    start: Callable[..., Process], kind: signal.Signals
) -> None:
    process = start()
    ports = process.ports()
    client = HttpClient(f"127.0.0.1:{ports['http']}", binary=True)
    body, headers = client.encode(Call("echo", ROW))
    # Accepted, and still on its way in: its body comes when the signal has long been there.
    client.connection.putrequest("POST", "/v2/models/echo/infer")
    for name, value in {**headers, "Content-Length": str(len(body))}.items():
        client.connection.putheader(name, value)
    client.connection.endheaders()
    client.connection.send(body[:5])
    probe = HttpClient(f"127.0.0.1:{ports['http']}", binary=True)
    assert probe.send(Call("echo", ROW)).status == "OK"  # so the half request before it was seen
    probe.close()
    process.popen.send_signal(kind)
    until_refused(Endpoint("127.0.0.1", ports["http"]))
    client.connection.send(body[5:])
    response = client.connection.getresponse()
    assert response.status == 200
    assert client.decode(response.headers, response.read()).outputs["x"].tolist() == [[1, 2, 3]]
    client.close()
    code, out, err = process.end()
    assert (code, json.loads(out)) == (0, {"answered": 2, "drained": True})
    assert err == ""


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM to catch")
def test_a_second_signal_drops_what_hangs(start: Callable[..., Process]) -> None:
    process = start("--drain-timeout-s", "1000")
    ports = process.ports()
    client = HttpClient(f"127.0.0.1:{ports['http']}", binary=True)
    body, headers = client.encode(Call("gate", ROW))
    client.connection.request("POST", GATE, body, headers)
    with grpc.insecure_channel(f"127.0.0.1:{ports['grpc']}") as channel:
        grpc_call(channel, "ModelInfer", infer_message(Call("echo", ROW)))
        process.popen.send_signal(signal.SIGTERM)
        until_refused(Endpoint("127.0.0.1", ports["http"]))
        process.popen.send_signal(signal.SIGTERM)
        response = client.connection.getresponse()
        assert response.status == 503
        client.close()
        code, _, err = process.end()
    assert code == 0
    assert "a second signal: requests under way are dropped" in err
