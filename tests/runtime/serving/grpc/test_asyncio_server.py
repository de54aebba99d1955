"""ModelInfer over our own HTTP/2: half messages, mistakes, and what becomes of calls when the server stops."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hpack import Decoder

from protos import inference
from runtime.serving.controls import Controls
from runtime.serving.grpc.asyncio_server import AsyncioGrpcServer, Calls
from runtime.serving.grpc.receiving import Receiving
from runtime.serving.http2.connection import Http2Connection
from runtime.serving.reading import Reading
from runtime.serving.sockets import Endpoint
from runtime.telemetry.context import traceparent
from runtime.wire.values import InferenceRequest, InferenceResponse
from tests.runtime.serving.clients import Call, infer_message
from tests.runtime.serving.fake_service import FakeService
from tests.runtime.serving.fake_transport import Transport
from tests.runtime.serving.raw_http2 import (
    DATA,
    END_STREAM,
    GOAWAY,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    PREFACE,
    RST_STREAM,
    WINDOW_UPDATE,
    call,
    frame,
    frames_in,
    message,
    open_call,
    settings,
)

MAX_MESSAGE_BYTES = 1 << 22
PATIENCE_S = 20
ROW = {"x": np.array([[1, 2, 3]], dtype=np.int64)}
GOOD = infer_message(Call("echo", ROW)).SerializeToString()


class Clients:
    """Connections without sockets to one fake service."""

    def __init__(self, folder: Path, service: Any = None, max_reading_bytes: int = (1 << 20) + 1000) -> None:
        self.service = FakeService() if service is None else service
        self.controls = Controls.under(folder, 1 << 20, "off")
        self.closing = asyncio.Event()
        self.calls = Calls(
            self.service, self.controls, self.closing, None, MAX_MESSAGE_BYTES, False, Receiving(PATIENCE_S)
        )
        self.calls.reading = Reading(max_reading_bytes)
        self._connections: set[Http2Connection] = set()

    def connect(self) -> Client:
        connection, transport = Http2Connection(self.calls, self._connections), Transport()
        connection.connection_made(transport)
        transport.protocol = connection
        connection.data_received(PREFACE + settings())
        return Client(connection, transport)


class Client:
    """One connection."""

    def __init__(self, connection: Http2Connection, transport: Transport) -> None:
        self.connection, self._transport = connection, transport

    def send(self, raw: bytes) -> None:
        self.connection.data_received(raw)

    async def status(self, stream: int) -> dict[bytes, bytes]:
        """The fields that end a call."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                for kind, flags, stream_, block in frames_in(bytes(self._transport.written)):
                    if (kind, stream_) == (HEADERS, stream) and flags & END_STREAM:
                        return dict(Decoder().decode(block, raw=True))
                await asyncio.sleep(0)

    def kinds(self, stream: int) -> list[int]:
        return [kind for kind, _, stream_, _ in frames_in(bytes(self._transport.written)) if stream_ == stream]


@pytest.fixture
async def clients(tmp_path: Path) -> AsyncIterator[Clients]:
    made = Clients(tmp_path)
    yield made
    assert made.calls.reading.held_bytes == 0
    assert made.controls.load.in_flight == 0


async def test_a_whole_call_however_it_is_cut(clients: Clients) -> None:
    raw = message(GOOD)
    client = clients.connect()
    for at, stream in enumerate(range(1, 2 * len(raw), 2)):
        client.send(open_call(stream) + frame(DATA, 0, stream, raw[:at]) + frame(DATA, END_STREAM, stream, raw[at:]))
        assert await client.status(stream) == {b"grpc-status": b"0"}
    client.send(open_call(9999) + frame(DATA, 0, 9999, raw) + frame(DATA, END_STREAM, 9999))
    assert await client.status(9999) == {b"grpc-status": b"0"}


async def test_half_messages_of_all_connections_together_are_bounded(clients: Clients) -> None:
    half = message(bytes(1 << 19), length=1 << 20)
    held = [clients.connect() for _ in range(2)]
    for client in held:
        client.send(open_call(1))
        client.send(frame(DATA, 0, 1, half))
    late = clients.connect()
    late.send(open_call(1) + frame(DATA, 0, 1, half))
    told = await late.status(1)
    assert (told[b"grpc-status"], told[b"retry-after"]) == (b"14", b"1")
    assert b"hold 104" in told[b"grpc-message"]
    late.send(call(3, GOOD))
    assert await late.status(3) == {b"grpc-status": b"0"}, "what comes whole is held by nobody"
    held[0].send(frame(RST_STREAM, 0, 1, bytes(4)))
    late.send(open_call(5) + frame(DATA, 0, 5, half))
    assert 5 in late.connection.streams, "there is room again"
    held[1].connection.connection_lost(None)
    late.connection.connection_lost(None)


@pytest.mark.parametrize(
    "wrong",
    [
        b"\x07\0\0\0\0",
        message(b"x", length=MAX_MESSAGE_BYTES + 1),
        message(b"")[:4],
        message(GOOD) * 2,
        message(GOOD[:-1]),
    ],
    ids=["flag", "too large", "half a prefix", "two", "no request"],
)
async def test_a_message_that_is_none_ends_its_call_and_nothing_of_it_is_kept(clients: Clients, wrong: bytes) -> None:
    client = clients.connect()
    for stream, ends in ((1, END_STREAM), (3, 0)):
        client.send(open_call(stream) + frame(DATA, 0, stream, wrong[:3]) + frame(DATA, ends, stream, wrong[3:]))
        if not ends:
            client.send(frame(DATA, END_STREAM, stream))
        assert (await client.status(stream))[b"grpc-status"] in (b"3", b"8")
    assert not client.connection.streams


async def test_a_mistake_of_the_service_ends_its_call(clients: Clients) -> None:
    client = clients.connect()
    client.send(call(1, infer_message(Call("crash", ROW)).SerializeToString()) + call(3, GOOD))
    assert (await client.status(1))[b"grpc-status"] == b"13"
    assert await client.status(3) == {b"grpc-status": b"0"}


async def test_a_call_that_is_taken_back_is_withdrawn(clients: Clients) -> None:
    client = clients.connect()
    client.send(call(1, infer_message(Call("gate", ROW)).SerializeToString()))
    await clients.service.begun.acquire()
    assert clients.controls.load.in_flight == 1
    client.send(frame(RST_STREAM, 0, 1, bytes(4)))
    async with asyncio.timeout(PATIENCE_S):
        await clients.service.withdrawn.acquire()
    assert client.kinds(1) == []


class Spans(FakeService):
    """Remembers under which of its callers' spans each request came."""

    def __init__(self) -> None:
        super().__init__()
        self.parents: dict[str, Any] = {}

    async def infer(self, request: InferenceRequest) -> InferenceResponse:
        self.parents[request.id] = traceparent.get()
        return await super().infer(request)


async def test_a_call_keeps_its_callers_span_whoever_begins_meanwhile(tmp_path: Path) -> None:
    clients = Clients(tmp_path, Spans())
    tracer: Any = type("Tracer", (), {"around": staticmethod(lambda infer: infer)})()
    object.__setattr__(clients.controls, "tracer", tracer)
    calls = Calls(
        clients.service, clients.controls, clients.closing, None, MAX_MESSAGE_BYTES, False, Receiving(PATIENCE_S)
    )
    clients.calls = calls
    client = clients.connect()
    for stream in (1, 3):
        span = b"00-%032x-%016x-01" % (stream, stream)
        client.send(open_call(stream, inference.METHODS["ModelInfer"].path, (b"traceparent", span)))
    for stream in (1, 3):
        raw = infer_message(Call("echo", ROW, id=str(stream))).SerializeToString()
        client.send(frame(DATA, END_STREAM, stream, message(raw)))
        await client.status(stream)
    parents = clients.service.parents
    assert parents["1"] is not None
    assert parents["1"] != parents["3"]


# -- a whole server


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[tuple[AsyncioGrpcServer, int, FakeService]]:
    service = FakeService()
    server = AsyncioGrpcServer(service, Controls.under(folder, 1 << 20, "off"), max_message_bytes=1 << 24)
    at = server.bind(Endpoint("127.0.0.1", 0))
    await server.start()
    try:
        yield server, at.port, service
    finally:
        await server.stop(0)


@asynccontextmanager
async def connected(port: int, first: bytes) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)  # so that what is not taken stays with the server
    sock.connect(("127.0.0.1", port))
    reader, writer = await asyncio.open_connection(sock=sock, limit=1 << 16)
    writer.write(PREFACE + first)
    await writer.drain()
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def rest_of(reader: asyncio.StreamReader) -> list[tuple[int, int, int, bytes]]:
    async with asyncio.timeout(PATIENCE_S):
        return frames_in(await reader.read(-1))


def statuses(frames: list[tuple[int, int, int, bytes]]) -> dict[int, bytes]:
    return {
        stream: dict(Decoder().decode(block, raw=True))[b"grpc-status"]
        for kind, flags, stream, block in frames
        if kind == HEADERS and flags & END_STREAM
    }


@pytest.mark.slow
async def test_a_stopping_server_answers_what_it_took_and_tells_who_did_not_come_whole(tmp_path: Path) -> None:
    gate = infer_message(Call("gate", ROW)).SerializeToString()
    async with running(tmp_path) as (server, port, service):
        half = open_call(3) + frame(DATA, 0, 3, message(GOOD)[:20])
        async with connected(port, settings() + call(1, gate) + half) as (reader, _):
            await service.begun.acquire()
            stopping = asyncio.create_task(server.stop(0.3))
            await asyncio.sleep(0)
            service.gate.set()
            frames = await rest_of(reader)
            await stopping
        assert statuses(frames) == {1: b"0", 3: b"14"}
        assert [kind for kind, *_ in frames if kind == GOAWAY] == [GOAWAY, GOAWAY]


@pytest.mark.slow
async def test_a_stopping_server_lets_a_slow_client_have_all_of_its_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within its grace: what is written and not taken yet is an answer under way too."""
    monkeypatch.setattr("runtime.serving.grpc.asyncio_server.CLOSE_LIMIT_S", 0.01)
    size = 1 << 23
    large = infer_message(Call("gate", {"x": np.zeros((1, size), np.uint8)})).SerializeToString()
    wide = frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 1 << 30))
    async with running(tmp_path) as (server, port, service):
        first = settings((INITIAL_WINDOW_SIZE, 1 << 30), (5, (1 << 24) - 1)) + wide + open_call(1)
        async with connected(port, first) as (reader, writer):
            raw = message(large)
            for at in range(0, len(raw), 1 << 16):
                writer.write(frame(DATA, END_STREAM if at + (1 << 16) >= len(raw) else 0, 1, raw[at : at + (1 << 16)]))
                await writer.drain()
            await service.begun.acquire()
            service.gate.set()
            stopping = asyncio.create_task(server.stop(PATIENCE_S))
            await asyncio.sleep(0.2)  # longer than that limit
            frames = await rest_of(reader)
            await stopping
        assert statuses(frames) == {1: b"0"}
        assert sum(len(raw) for kind, _, stream, raw in frames if (kind, stream) == (DATA, 1)) > size


async def test_a_second_signal_ends_what_nobody_takes(tmp_path: Path) -> None:
    large = infer_message(Call("echo", {"x": np.zeros((1, 1 << 16), np.uint8)})).SerializeToString()
    async with running(tmp_path) as (server, port, service):
        first = settings((INITIAL_WINDOW_SIZE, 0)) + open_call(1)
        raw = message(large)
        parts = [frame(DATA, 0, 1, raw[at : at + 16_000]) for at in range(0, len(raw), 16_000)]
        async with connected(port, first + b"".join(parts) + frame(DATA, END_STREAM, 1)) as (reader, _):
            async with asyncio.timeout(PATIENCE_S):
                while not service.answered:  # noqa: ASYNC110
                    await asyncio.sleep(0)
                stopping = asyncio.create_task(server.stop(600))
                await asyncio.sleep(0)
                await server.cut_off()
                await stopping
            await rest_of(reader)


async def test_a_stop_while_somebody_connects(tmp_path: Path) -> None:
    """A connection that asyncio has not made yet cannot be told anything."""
    async with running(tmp_path) as (server, _, _):
        protocol = server._connect()
        await server.stop(0.01)
        assert protocol.transport is None


def reset(sock: socket.socket) -> None:
    """Ends a connection without a word of TCP's own."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


async def test_connections_that_are_reset_leave_nothing(tmp_path: Path) -> None:
    gate = infer_message(Call("gate", ROW)).SerializeToString()
    async with running(tmp_path) as (server, port, service):
        for _ in range(5):
            sock = socket.create_connection(("127.0.0.1", port))
            sock.sendall(PREFACE + settings() + call(1, gate) + open_call(3) + frame(DATA, 0, 3, message(GOOD)[:20]))
            async with asyncio.timeout(PATIENCE_S):
                await service.begun.acquire()
                reset(sock)
                await service.withdrawn.acquire()
        async with asyncio.timeout(PATIENCE_S):
            while server._connections:  # noqa: ASYNC110
                await asyncio.sleep(0)
        assert server._calls.reading.held_bytes == 0
