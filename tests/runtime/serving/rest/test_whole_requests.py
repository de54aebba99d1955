"""Requests whose head was seen before: answered as if it had not been, however their bytes come, go away or are cut off."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.server import ServerState

from runtime.serving.bearer import Authorize
from runtime.serving.controls import Controls
from runtime.serving.load import Load
from runtime.serving.rest import infer as rest_infer
from runtime.serving.rest.app import rest_app
from runtime.serving.rest.connection import HttpConnection
from runtime.serving.rest.infer import TIMEOUT_HEADER
from runtime.serving.rest.server import HttpServer
from runtime.serving.rest.whole_requests import MAX_HEAD_BYTES, KnownHead, look_up
from runtime.serving.sockets import Endpoint
from runtime.wire.repeats import Repeats
from tests.runtime.serving.fake_service import FakeService
from tests.runtime.serving.grpc.test_server import only_sesame
from tests.runtime.serving.threaded import PATIENCE_S

MAX_BODY_BYTES = 100_000
ROW = np.arange(3, dtype=np.int64)
Answer = tuple[bytes, list[bytes], bytes]
"""Status line, sorted header fields but for the date, body."""


def request(
    model: str = "echo", document: object = None, raw: bytes = b"", version: str = "1.1", **fields: object
) -> bytes:
    if document is None:
        tensor = {"name": "x", "datatype": "INT64", "shape": [3], "parameters": {"binary_data_size": ROW.nbytes}}
        document, raw = {"inputs": [tensor], "parameters": {"binary_data_output": True}}, raw or ROW.tobytes()
    text = json.dumps(document).encode() if not isinstance(document, bytes) else document
    if raw:
        fields["inference_header_content_length"] = len(text)
    named = {"host": "x", "content-length": len(text) + len(raw), **fields}
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in named.items()]
    return "\r\n".join([f"POST /v2/models/{model}/infer HTTP/{version}", *lines, "", ""]).encode() + text + raw


def json_tensor(rows: int) -> dict[str, object]:
    return {"name": "x", "datatype": "INT64", "shape": [rows], "data": [7] * rows}


LEARNT = {
    "binary": request(),
    "JSON": request(document={"id": "a", "inputs": [json_tensor(3)]}),
    "a version": request("echo/versions/1"),
    "an output that is named": request(document={"inputs": [json_tensor(2)], "outputs": [{"name": "x"}]}),
    "a packed reply": request(document={"inputs": [json_tensor(3000)]}, accept_encoding="gzip, deflate"),
    "a small reply that could be packed": request(accept_encoding="gzip"),
    "a large reply": request(document={"inputs": [json_tensor(30_000)]}),
    "a deadline": request(**{TIMEOUT_HEADER: 60_000}),
    "a bad deadline": request(**{TIMEOUT_HEADER: "soon"}),
    "kept alive by its name": request(connection="keep-alive"),
    "an unknown model": request("nobody"),
    "a model that fails": request("fail", {"parameters": {"error": "OverloadedError"}, "inputs": [json_tensor(1)]}),
    "a model that crashes": request("crash"),
    "no JSON": request(document=b"{nonsense"),
    "a header length that is none": request(document=b"{}", inference_header_content_length="x"),
}
NOT_LEARNT = {
    "HTTP/1.0": request(version="1.0"),
    "the last one": request(connection="close"),
    "packed": request(
        document=gzip.compress(json.dumps({"inputs": [json_tensor(1)]}).encode()), content_encoding="gzip"
    ),
    "chunked": request(transfer_encoding="chunked").replace(b"content-length", b"x-length").split(b"\r\n\r\n")[0]
    + b"\r\n\r\n0\r\n\r\n",
    "a long head": request(padding="x" * MAX_HEAD_BYTES),
    "a field twice": request().replace(b"host: x", b"host: x\r\naccept: a\r\naccept: b"),
    "a body over the cap": request(document=b" " * (MAX_BODY_BYTES + 1)),
    "no inference": request().replace(b"/v2/models/echo/infer", b"/v2/repository/index"),
}


@dataclass
class Served:
    service: FakeService
    server: HttpServer
    at: Endpoint
    heads: Repeats[bytes, KnownHead]
    load: Load

    async def ask(self, *parts: bytes, answers: int = 1) -> list[Answer]:
        """What comes back on one connection; fewer than `answers` where the server closes it before."""
        reader, writer = await asyncio.open_connection(self.at.host, self.at.port)
        try:
            return await asyncio.wait_for(exchange(reader, writer, parts, answers), PATIENCE_S)
        finally:
            writer.close()


async def exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, parts: tuple[bytes, ...], answers: int
) -> list[Answer]:
    async def send() -> None:
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0)

    sending = asyncio.create_task(send())
    found: list[Answer] = []
    while len(found) < answers:
        try:
            found.append(await read_answer(reader))
        except asyncio.IncompleteReadError:
            break
    sending.cancel()
    return found


async def read_answer(reader: asyncio.StreamReader) -> Answer:
    status, *fields = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")[:-2]
    assert sum(field.startswith(b"date: ") for field in fields) == 1
    told = sorted(field for field in fields if not field.startswith(b"date: "))
    (length,) = (int(field[16:]) for field in told if field.startswith(b"content-length: "))
    return status, told, await reader.readexactly(length)


@asynccontextmanager
async def serving(folder: Path, authorize: Authorize | None = None, *, learns: bool = True) -> AsyncIterator[Served]:
    service = FakeService()
    controls = Controls.under(folder, MAX_BODY_BYTES, None)
    app = rest_app(service, controls, authorize=authorize, max_body_bytes=MAX_BODY_BYTES)
    heads: Repeats[bytes, KnownHead] = Repeats()
    if learns:
        app.heads = heads  # type: ignore[attr-defined]
        server = HttpServer(app)
    else:

        async def plain(scope: Scope, receive: Receive, send: Send) -> None:
            await app(scope, receive, send)

        server = HttpServer(plain)
    at = server.bind(Endpoint("127.0.0.1", 0))
    await server.start()
    try:
        yield Served(service, server, at, heads, controls.load)
    finally:
        await server.stop(5)


@pytest.mark.parametrize("asked", [*LEARNT.values(), *NOT_LEARNT.values()], ids=[*LEARNT, *NOT_LEARNT])
async def test_what_is_asked_again_is_answered_the_same(tmp_path: Path, asked: bytes) -> None:
    async with serving(tmp_path) as here, serving(tmp_path, learns=False) as plain:
        (expected,) = await plain.ask(asked)
        for _ in range(3):
            assert await here.ask(asked) == [expected]
        assert bool(heads_of(here)) == (asked in LEARNT.values())


def heads_of(served: Served) -> list[bytes]:
    return list(served.heads._kept)


STREAMS = st.lists(
    st.sampled_from([name for name in (*LEARNT, *NOT_LEARNT) if name not in ("a body over the cap", "a large reply")]),
    min_size=1,
    max_size=6,
)


@given(STREAMS, st.lists(st.integers(1, 3000), max_size=12), st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_any_stream_cut_anywhere_is_answered_as_without_a_memory(names: list[str], cuts: list[int], byte: int) -> None:
    stream = b"".join({**LEARNT, **NOT_LEARNT}[name] for name in names)
    if byte < len(stream):  # now and then one byte is wrong
        stream = stream[:byte] + b"~" + stream[byte + 1 :]
    places = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    parts = [stream[start:end] for start, end in pairwise(places)]

    async def both() -> None:
        with TemporaryDirectory() as folder:
            plain, here = connections(Path(folder))
            assert await said_to(here, parts) == await said_to(plain, parts)

    asyncio.run(both())


def connections(folder: Path) -> tuple[Callable[[], HttpConnection], Callable[[], HttpConnection]]:
    """Makers of connections: of one that remembers nothing, and of one that was asked everything before."""
    app = rest_app(FakeService(), Controls.under(folder, MAX_BODY_BYTES, None), max_body_bytes=MAX_BODY_BYTES)

    async def plain(scope: Scope, receive: Receive, send: Send) -> None:
        await app(scope, receive, send)

    def maker(served: ASGIApp) -> Callable[[], HttpConnection]:
        config = HttpServer(served)._config
        config.load()
        state = ServerState()
        state.default_headers = [(b"date", b"today")]
        return lambda: HttpConnection(config, state, {})

    return maker(plain), maker(app)


async def said_to(make: Callable[[], HttpConnection], parts: list[bytes]) -> list[list[bytes]]:
    """All replies to `parts`, each a sorted list of its lines and its body; after every head that can be known is known."""
    for asked in LEARNT.values():
        await feed(make(), [asked])
    written = await feed(make(), parts)
    replies: list[list[bytes]] = []
    while written:
        head, _, rest = written.partition(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        (length,) = (int(line[16:]) for line in lines if line.startswith(b"content-length: "))
        replies.append([lines[0], *sorted(lines[1:]), rest[:length]])
        written = rest[length:]
    return replies


async def feed(connection: HttpConnection, parts: list[bytes]) -> bytes:
    """What a client that sends `parts` gets to read, until the server closes or has no more to say."""
    transport = FakeTransport()
    connection.connection_made(transport)
    for part in parts:
        if transport.is_closed:
            break
        connection.data_received(part)
        for _ in range(400):
            cycle = connection.cycle
            if transport.is_closed or (transport.is_reading and (cycle is None or cycle.response_complete)):
                break
            if transport.is_reading and cycle.more_body:
                break
            await asyncio.sleep(0)
        else:
            raise AssertionError("no answer")
    connection.connection_lost(None)
    return bytes(transport.written)


class FakeTransport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.is_reading = True
        self.is_closed = False

    def write(self, data: Any) -> None:
        self.written += b"" if self.is_closed else data

    def pause_reading(self) -> None:
        self.is_reading = False

    def resume_reading(self) -> None:
        self.is_reading = True

    def is_closing(self) -> bool:
        return self.is_closed

    def close(self) -> None:
        self.is_closed = True


async def test_keys_are_asked_for_every_time(tmp_path: Path) -> None:
    with_key, other = request(authorization="Bearer sesame"), request(authorization="Bearer wrong")
    async with serving(tmp_path, only_sesame) as here:
        for _ in range(2):
            assert [status_of(await here.ask(each)) for each in (with_key, other, request())] == [200, 401, 401]


async def test_a_client_that_goes_away_withdraws_its_request(tmp_path: Path) -> None:
    async with held(tmp_path) as (here, _, writer):
        writer.close()
        await asyncio.wait_for(here.service.withdrawn.acquire(), PATIENCE_S)


async def test_a_connection_that_idles_holds_no_request(tmp_path: Path) -> None:
    async with serving(tmp_path) as here:
        reader, writer = await asyncio.open_connection(here.at.host, here.at.port)
        try:
            for _ in range(2):
                await asyncio.wait_for(exchange(reader, writer, (request(),), 1), PATIENCE_S)
            (connection,) = here.server._server.server_state.connections
            assert connection.cycle.response_complete
            assert connection.cycle.withdraw is None
        finally:
            writer.close()


async def test_a_half_closed_connection_gets_its_answer(tmp_path: Path) -> None:
    async with held(tmp_path) as (here, reader, writer):
        writer.write_eof()
        await asyncio.sleep(0.02)
        here.service.gate.set()
        *interim, final, body = (await asyncio.wait_for(reader.read(), PATIENCE_S)).split(b"\r\n\r\n", 9)
        assert set(interim) <= {b"HTTP/1.1 100 Continue"}
        assert final.startswith(b"HTTP/1.1 200 ")
        assert body.endswith(ROW.tobytes())


async def test_a_server_that_stops_answers_first(tmp_path: Path) -> None:
    async with held(tmp_path) as (here, reader, _):
        stopping = asyncio.create_task(here.server.stop(PATIENCE_S))
        (connection,) = here.server._server.server_state.connections
        while connection.cycle.keep_alive:  # noqa: ASYNC110  (uvicorn has a look ten times a second)
            await asyncio.sleep(0.01)
        here.service.gate.set()
        status, fields, _ = await read_answer(reader)
        assert (status, b"connection: close" in fields) == (b"HTTP/1.1 200 OK", True)
        await asyncio.wait_for(stopping, PATIENCE_S)


async def test_a_server_that_may_not_wait_says_so(tmp_path: Path) -> None:
    async with held(tmp_path) as (here, reader, _):
        await asyncio.wait_for(here.server.stop(0.01), PATIENCE_S)
        assert (await reader.read()).startswith(b"HTTP/1.1 503 ")
        await asyncio.wait_for(here.service.withdrawn.acquire(), PATIENCE_S)


def counted(load: Load) -> tuple[int, int, float]:
    """Requests in flight, answered, and failed."""
    errors = next(family for family in load.families() if family.name == "edgeward_errors_total")
    return load.in_flight, load.answered, sum(value for _, value in errors.samples)


async def test_a_request_that_is_cut_off_is_counted_once(tmp_path: Path) -> None:
    async with held(tmp_path) as (here, reader, _):
        in_flight, answered, failed = counted(here.load)
        assert in_flight == 1
        await asyncio.wait_for(here.server.stop(0.01), PATIENCE_S)
        await asyncio.wait_for(reader.read(), PATIENCE_S)
        assert counted(here.load) == (0, answered, failed + 1)


async def test_a_client_that_leaves_while_its_answer_is_packed_is_counted_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, gate = asyncio.Event(), asyncio.Event()

    async def packed_late(data: Any, encoding: str) -> bytes:
        begun.set()
        await gate.wait()
        return b""

    asked = LEARNT["a packed reply"]
    async with serving(tmp_path) as here:
        await here.ask(asked)
        assert look_up(here.heads, asked) is not None
        monkeypatch.setattr(rest_infer, "pack", packed_late)
        _, answered, failed = counted(here.load)
        _, writer = await asyncio.open_connection(here.at.host, here.at.port)
        writer.write(asked)
        await asyncio.wait_for(begun.wait(), PATIENCE_S)
        connections = here.server._server.server_state.connections
        writer.transport.abort()
        while connections:  # noqa: ASYNC110  (the server has no event for a client that left)
            await asyncio.sleep(0.01)
        gate.set()
        assert counted(here.load) == (0, answered + 1, failed)


async def test_what_is_sent_while_an_answer_is_made_is_answered_after_it(tmp_path: Path) -> None:
    async with held(tmp_path) as (here, reader, writer):
        writer.write(request())
        await writer.drain()
        await asyncio.sleep(0.02)
        here.service.gate.set()
        first, second = await read_answer(reader), await read_answer(reader)
        assert (first[0], second[0]) == (b"HTTP/1.1 200 OK", b"HTTP/1.1 200 OK")
        assert b'"model_name":"gate"' in first[2]
        assert b'"model_name":"echo"' in second[2]


@asynccontextmanager
async def held(folder: Path) -> AsyncIterator[tuple[Served, asyncio.StreamReader, asyncio.StreamWriter]]:
    """A whole request with a known head, under way at a model that waits for its gate."""
    asked = request("gate")
    async with serving(folder) as here:
        here.service.gate.set()
        await here.ask(asked)
        here.service.gate.clear()
        await here.service.begun.acquire()
        assert look_up(here.heads, asked) is not None
        reader, writer = await asyncio.open_connection(here.at.host, here.at.port)
        writer.write(asked)
        await asyncio.wait_for(here.service.begun.acquire(), PATIENCE_S)
        try:
            yield here, reader, writer
        finally:
            here.service.gate.set()
            writer.close()


def status_of(answers: list[Answer]) -> int:
    return int(answers[0][0].split()[1])
