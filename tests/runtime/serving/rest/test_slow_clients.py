"""Clients that stop in the middle: refused with a word, while everybody else is served."""

import asyncio
import json
import select
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_asyncio
from starlette.types import Receive, Scope, Send

from runtime.errors import OverloadedError
from runtime.serving.reading import Reading
from runtime.serving.rest.body import read_body
from runtime.serving.rest.server import HttpServer
from runtime.serving.rest.slow_clients import ClientPatience, SlowClients, Stage
from runtime.serving.sockets import Endpoint
from tests.runtime.serving.clients import Call, HttpClient
from tests.runtime.serving.rest.test_app import ECHO, ROW
from tests.runtime.serving.threaded import PATIENCE_S, Threaded, serving

BIG = 1 << 25
SHORT = ClientPatience(head_s=0.2, body_s=0.2, answer_s=0.2)


class App:
    """Reads a whole body, then sends `BIG` bytes."""

    def __init__(self) -> None:
        self.gone = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        while (message := await receive())["type"] == "http.request" and message["more_body"]:
            pass
        if message["type"] == "http.disconnect":
            self.gone.set()
            return
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % BIG)]})
        for _ in range(1 << 5):
            await send({"type": "http.response.body", "body": bytes(BIG >> 5), "more_body": True})
        await send({"type": "http.response.body", "body": b""})
        self.gone.set()


@pytest_asyncio.fixture
async def short() -> AsyncIterator[tuple[App, Endpoint]]:
    """A server without patience."""
    app = App()
    server = HttpServer(app, patience=SHORT)
    at = server.bind(Endpoint("127.0.0.1", 0))
    await server.start()
    yield app, at
    await server.stop(1.0)


async def answer_to(at: Endpoint, sent: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(at.host, at.port)
    writer.write(sent)
    answer = await asyncio.wait_for(reader.read(), PATIENCE_S)
    writer.close()
    return answer


@pytest.mark.parametrize(
    ("sent", "what"),
    [
        (b"POST /x HTTP/1.1\r\nhost: x\r\ncontent-le", b"request's head stopped"),
        (b"POST /x HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nhalf", b"request's body stopped"),
        (b"POST /x HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab", b"request's body stopped"),
    ],
    ids=["head", "body", "chunked"],
)
async def test_a_request_that_stops_is_ended_with_a_word(short: tuple[App, Endpoint], sent: bytes, what: bytes) -> None:
    answer = await answer_to(short[1], sent)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert what in answer


async def test_a_connection_without_a_request_is_closed(short: tuple[App, Endpoint]) -> None:
    assert await answer_to(short[1], b"") == b""


async def test_a_head_that_drips_is_not_waited_for(short: tuple[App, Endpoint]) -> None:
    reader, writer = await asyncio.open_connection(short[1].host, short[1].port)
    answer = asyncio.create_task(reader.read())
    writer.write(b"POST /x HTTP/1.1\r\nx: ")
    while not answer.done():
        writer.write(b"y")
        await asyncio.sleep(0.02)
    assert (await answer).startswith(b"HTTP/1.1 408 ")
    writer.close()


async def test_a_client_that_does_not_pick_up_its_answer_is_let_go(short: tuple[App, Endpoint]) -> None:
    app, at = short
    with socket.create_connection((at.host, at.port)) as lazy:
        lazy.sendall(b"GET /x HTTP/1.1\r\nhost: x\r\n\r\n")
        await asyncio.wait_for(app.gone.wait(), PATIENCE_S)


class Connection:
    """What `SlowClients` reads of a connection."""

    def __init__(self, *, waits: bool = False, more_body: bool = True, buffered: int = 0) -> None:
        self.cycle: Any = None if waits else SimpleNamespace(response_complete=False, more_body=more_body)
        self.timeout_keep_alive_task = None
        self.buffered = buffered
        self.transport = SimpleNamespace(get_write_buffer_size=lambda: self.buffered)
        self.moves = 0


def test_who_moves_is_waited_for() -> None:
    slow = SlowClients(ClientPatience(head_s=10, body_s=10, answer_s=10))
    body, answer, head, server = (
        Connection(),
        Connection(buffered=100),
        Connection(waits=True),
        Connection(more_body=False),
    )
    everybody = [body, answer, head, server]
    assert slow.look(everybody, 0.0) == []
    body.moves, answer.buffered, head.moves = 1, 50, 1
    assert slow.look(everybody, 9.0) == []
    assert slow.look(everybody, 11.0) == [(head, Stage.HEAD)], "a head has its time as a whole"
    assert slow.look([body, answer, server], 19.5) == [(body, Stage.BODY), (answer, Stage.ANSWER)]


def test_a_connection_that_went_is_forgotten() -> None:
    slow = SlowClients(ClientPatience(body_s=10))
    one = Connection()
    slow.look([one], 0.0)
    slow.look([], 5.0)
    assert slow.look([one], 20.0) == []


# ----------------------------------------------------------- a whole server


@pytest.fixture(scope="module")
def server() -> Iterator[Threaded]:
    with serving() as threaded:
        yield threaded


def test_the_deadline_holds_while_the_body_is_received(server: Threaded) -> None:
    at = server.at.http
    with socket.create_connection((at.host, at.port), timeout=PATIENCE_S) as raw:
        head = f"POST {ECHO} HTTP/1.1\r\nhost: x\r\nedgeward-timeout-ms: 200\r\ncontent-length: 1000\r\n\r\nhalf"
        raw.sendall(head.encode())
        answer = raw.recv(1 << 16)
    assert answer.startswith(b"HTTP/1.1 504 ")
    assert "before the request was here whole" in json.loads(answer.partition(b"\r\n\r\n")[2])["error"]


def test_a_half_closed_request_that_takes_long_gets_its_answer(server: Threaded) -> None:
    client = HttpClient(server.http, binary=True)
    body, headers = client.encode(Call("gate", ROW))
    client.connection.request("POST", "/v2/models/gate/infer", body, headers)
    server.ask(server.service.begun.acquire())
    client.connection.sock.shutdown(socket.SHUT_WR)
    server.ask(asyncio.sleep(0.1))  # several probes
    server.do(server.service.gate.set)
    assert client.connection.getresponse().status == 200
    client.close()
    server.do(server.service.gate.clear)


def test_bodies_under_way_hold_no_more_than_their_bound() -> None:
    with serving(max_message_bytes=200 << 20) as server:
        at = server.at.http
        part = bytes(48 << 20)
        slow = [socket.create_connection((at.host, at.port), timeout=PATIENCE_S) for _ in range(6)]
        try:
            for one in slow:
                one.sendall(f"POST {ECHO} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(part) + 1}\r\n\r\n".encode())
                with suppress(ConnectionResetError, BrokenPipeError):  # of who is refused before its last byte is out
                    one.sendall(part)
            refused, _, _ = select.select(slow, [], [], PATIENCE_S)
            (one,) = refused  # five of 48 MiB fit into 256 MiB
            answer = one.recv(1 << 16)
            assert answer.startswith(b"HTTP/1.1 503 ")
            assert b"retry-after" in answer.lower()
        finally:
            for one in slow:
                one.close()
        client = HttpClient(server.http, binary=True)
        assert client.send(Call("echo", ROW)).status == "OK"
        client.close()


async def test_what_was_held_is_given_back() -> None:
    reading = Reading(10)
    parts = iter([b"12345678", b"90", b"1"])

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": next(parts), "more_body": True}

    with pytest.raises(OverloadedError, match="at most 10"):
        await read_body({}, receive, 100, reading)
    assert reading.held_bytes == 0
