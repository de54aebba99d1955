"""A call as its handler sees it, over a connection without a socket: every call ends, and nothing of it is kept."""

from __future__ import annotations

import asyncio
import gc
import struct
import weakref
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import pytest
from hpack import Decoder

from runtime.errors import ModelNotReadyError, OverloadedError
from runtime.serving.grpc.handler_call import MAX_UNSENT_BYTES, HandlerCall
from runtime.serving.grpc.heads import read_head
from runtime.serving.http2.connection import STREAM_WINDOW, Http2Connection
from runtime.serving.http2.fields import Fields
from runtime.serving.http2.stream import Stream
from runtime.serving.reading import Reading
from tests.runtime.serving.fake_transport import Transport
from tests.runtime.serving.raw_http2 import (
    DATA,
    END_STREAM,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    PREFACE,
    RST_STREAM,
    WINDOW_UPDATE,
    frame,
    frames_in,
    message,
    open_call,
    settings,
)

Handler = Callable[[Any, HandlerCall], Awaitable[Any]]
PATIENCE_S = 20


class Caller:
    """A client whose calls all go to `handler`."""

    def __init__(self, handler: Handler, *, is_unary: bool = False, reading: Reading | None = None) -> None:
        make: Any = grpc.stream_unary_rpc_method_handler if is_unary else grpc.stream_stream_rpc_method_handler
        self._handler = make(handler)
        self.reading = Reading() if reading is None else reading
        self.calls: dict[int, HandlerCall] = {}
        self.tasks: dict[int, asyncio.Task[None]] = {}
        self.transport = Transport()
        self.connection = Http2Connection(self, set())
        self.connection.connection_made(self.transport)
        self.transport.protocol = self.connection
        self.send(PREFACE + settings())

    def open(self, stream: Stream, fields: Fields) -> HandlerCall:
        call = self.calls[stream.id] = HandlerCall(stream, read_head(fields), 4 << 20, self.reading)
        self.tasks[stream.id] = call.run(self._handler)
        return call

    def send(self, raw: bytes) -> None:
        self.connection.data_received(raw)

    def seen(self, kind: int) -> list[bytes]:
        """Payloads of all frames of that kind on stream 1."""
        self.connection._flush()
        return [
            raw for kind_, _, stream, raw in frames_in(bytes(self.transport.written)) if (kind_, stream) == (kind, 1)
        ]

    def messages(self) -> list[bytes]:
        raw, found = b"".join(self.seen(DATA)), []
        while raw:
            size = int.from_bytes(raw[1:5], "big")
            found.append(raw[5 : 5 + size])
            raw = raw[5 + size :]
        return found

    def ending(self) -> dict[bytes, bytes]:
        return dict(Decoder().decode(self.seen(HEADERS)[-1], raw=True))

    async def over(self) -> None:
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.wait([self.tasks[1]])
        assert self.reading.held_bytes == 0


def data(raw: bytes, flags: int = 0) -> bytes:
    return frame(DATA, flags, 1, raw)


async def turns(count: int = 10) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def echo(_: Any, call: HandlerCall) -> None:
    while (raw := await call.read()) is not grpc.aio.EOF:
        await call.write(raw)


async def test_each_message_is_read_and_written_in_order() -> None:
    caller = Caller(echo)
    caller.send(open_call(1) + data(message(b"one") + message(b"two")[:6]))
    await turns()
    assert caller.messages() == [b"one"]
    caller.send(data(message(b"two")[6:]) + data(message(b""), END_STREAM))
    await caller.over()
    assert caller.messages() == [b"one", b"two", b""]
    assert caller.ending() == {b"grpc-status": b"0"}
    assert not caller.connection.streams


async def test_a_unary_answer_is_one_write() -> None:
    async def answer(_: Any, call: HandlerCall) -> bytes:
        return bytes(await call.read())

    caller = Caller(answer, is_unary=True)
    caller.send(open_call(1) + data(message(b"asked"), END_STREAM))
    writes: list[bytes] = []
    caller.transport.write = writes.append  # type: ignore[method-assign, assignment]
    await caller.over()
    assert [kind for kind, *_ in frames_in(b"".join(writes))] == [HEADERS, DATA, HEADERS]
    assert len(writes) == 1


async def test_one_task_reads_while_another_writes() -> None:
    """As ModelStreamInfer does: who waits for room must not keep who waits for a message from hearing of it."""
    heard: list[Any] = []

    async def both(_: Any, call: HandlerCall) -> None:
        async def read() -> None:
            while (raw := await call.read()) is not grpc.aio.EOF:
                heard.append(raw)

        async with asyncio.TaskGroup() as group:
            group.create_task(read())
            await asyncio.sleep(0)
            await call.write(bytes(2 * MAX_UNSENT_BYTES))  # waits
            await call.write(b"last")

    caller = Caller(both)
    caller.send(open_call(1))
    await turns()
    caller.send(data(message(b"one")))
    await turns()
    assert heard == [b"one"]
    wide = struct.pack(">I", 4 << 20)
    caller.send(frame(WINDOW_UPDATE, 0, 0, wide) + frame(WINDOW_UPDATE, 0, 1, wide) + data(message(b"two"), END_STREAM))
    await caller.over()
    assert heard == [b"one", b"two"]
    assert caller.messages() == [bytes(2 * MAX_UNSENT_BYTES), b"last"]


async def test_a_writer_waits_for_a_client_that_takes_nothing() -> None:
    written = 0

    async def pour(_: Any, call: HandlerCall) -> None:
        nonlocal written
        while True:
            await call.write(bytes(1000))
            written += 1000

    caller = Caller(pour)
    caller.send(settings((INITIAL_WINDOW_SIZE, 0)) + open_call(1))
    await turns(50)
    assert written <= MAX_UNSENT_BYTES
    caller.send(frame(RST_STREAM, 0, 1, struct.pack(">I", 8)))
    await caller.over()
    assert caller.tasks[1].cancelled()


async def test_a_client_sends_no_further_than_its_messages_are_read() -> None:
    go_on = asyncio.Event()

    async def late(_: Any, call: HandlerCall) -> None:
        await go_on.wait()
        await echo(None, call)

    caller = Caller(late)
    whole = message(bytes(1 << 16))
    count = STREAM_WINDOW // len(whole)
    caller.send(open_call(1) + b"".join(data(whole) for _ in range(count)))
    await turns()
    assert not caller.seen(WINDOW_UPDATE)
    assert caller.reading.held_bytes >= count << 16, "what nobody has read is counted"
    assert caller.calls[1].awaited_since is None, "it is not the client that is slow"
    go_on.set()
    await turns(100)
    (more,) = caller.seen(WINDOW_UPDATE)
    assert struct.unpack(">I", more)[0] == count * len(whole)
    assert caller.reading.held_bytes == 0


async def test_a_large_message_needs_no_more_than_its_window() -> None:
    """Of a message that is not whole all is used up as it comes: the handler cannot read it before."""
    caller = Caller(echo)
    raw = message(bytes(3 * STREAM_WINDOW))
    caller.send(open_call(1))
    window = STREAM_WINDOW
    while raw:
        part, raw = raw[: min(window, 100_000)], raw[min(window, 100_000) :]
        assert part, "the client starves"
        caller.transport.written.clear()
        caller.send(data(part))
        window += sum(struct.unpack(">I", more)[0] for more in caller.seen(WINDOW_UPDATE)) - len(part)
    await turns()
    assert caller.calls[1].awaited_since is None
    caller.send(data(message(b"x")[:3]))
    assert caller.calls[1].awaited_since == caller.connection.heard_at
    caller.send(frame(RST_STREAM, 0, 1, bytes(4)))
    await caller.over()


async def test_messages_that_nobody_reads_are_bounded_for_all_calls_together() -> None:
    async def never(_: Any, call: HandlerCall) -> None:
        await asyncio.Event().wait()

    caller = Caller(never, reading=Reading(2000))
    caller.send(open_call(1) + data(message(bytes(1000))))
    await turns()
    caller.send(data(message(bytes(1000))))
    assert caller.ending()[b"grpc-status"] == b"14"
    assert caller.ending()[b"retry-after"] == b"1"
    assert caller.reading.held_bytes == 0
    caller.tasks[1].cancel()
    await caller.over()


async def abort(_: Any, call: HandlerCall) -> None:
    await call.abort(grpc.StatusCode.NOT_FOUND, "not here", (("x", "y"),))


async def abort_later(_: Any, call: HandlerCall) -> None:
    await call.write(b"first")
    await call.abort(grpc.StatusCode.NOT_FOUND, "not here")


async def crash(_: Any, call: HandlerCall) -> None:
    raise ValueError("a secret")


async def give_up(_: Any, call: HandlerCall) -> None:
    raise grpc.aio.AbortError


async def refuse(_: Any, call: HandlerCall) -> None:
    raise OverloadedError("full", 3)


@pytest.mark.parametrize(
    ("handler", "status"),
    [(abort, b"5"), (abort_later, b"5"), (crash, b"13"), (give_up, b"13"), (refuse, b"14")],
    ids=lambda value: getattr(value, "__name__", None),
)
async def test_however_a_handler_ends_its_caller_is_told(handler: Handler, status: bytes) -> None:
    caller = Caller(handler)
    caller.send(open_call(1))
    await caller.over()
    ending = caller.ending()
    assert ending[b"grpc-status"] == status
    assert b"secret" not in ending[b"grpc-message"]
    assert (b":status" in ending) == (handler is not abort_later), "a head that was sent is not sent again"
    assert caller.seen(RST_STREAM) == [bytes(4)], "the client need not go on"
    assert not caller.connection.streams


@pytest.mark.parametrize("is_unary", [False, True])
async def test_a_deadline_ends_the_call_and_its_handler(is_unary: bool) -> None:
    async def never(_: Any, call: HandlerCall) -> None:
        remaining_s = call.time_remaining()
        assert remaining_s is not None
        assert remaining_s <= 0.05
        await asyncio.Event().wait()

    caller = Caller(never, is_unary=is_unary)
    caller.send(open_call(1, "/a/b", (b"grpc-timeout", b"50m")))
    await caller.over()
    assert caller.ending()[b"grpc-status"] == b"4"
    assert caller.tasks[1].cancelled()
    assert caller.calls[1].done()


async def test_a_call_that_ends_within_a_message_is_the_callers_mistake() -> None:
    caller = Caller(echo)
    caller.send(open_call(1) + data(message(b"whole")[:7], END_STREAM))
    await caller.over()
    assert caller.ending()[b"grpc-status"] == b"3"


@pytest.mark.parametrize("end", ["reset", "lost", "closed"])
async def test_a_client_that_is_gone_ends_the_handler(end: str) -> None:
    caller = Caller(echo)
    caller.send(open_call(1) + data(message(b"one")) + data(message(b"two")[:6]))
    await turns()
    assert caller.reading.held_bytes > 0
    if end == "reset":
        caller.send(frame(RST_STREAM, 0, 1, bytes(4)))
    elif end == "lost":
        caller.connection.connection_lost(None)
    else:
        caller.connection.close()
    await caller.over()
    assert caller.tasks[1].cancelled()
    with pytest.raises(grpc.aio.AbortError):
        await caller.calls[1].write(b"more")
    with pytest.raises(grpc.aio.AbortError):
        await caller.calls[1].read()


async def test_a_server_that_gives_up_tells_why() -> None:
    caller = Caller(echo)
    caller.send(open_call(1))
    await turns()
    caller.calls[1].give_up(ModelNotReadyError("stopping"))
    caller.calls[1].give_up(ModelNotReadyError("again"))
    await caller.over()
    assert caller.ending()[b"grpc-message"] == b"stopping"


@contextmanager
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


async def test_a_call_that_is_over_is_freed_at_once() -> None:
    """By counting: at thousands of calls a second the collector of cycles would have much to do."""

    async def answer(_: Any, call: HandlerCall) -> bytes:
        return bytes(await call.read())

    for handler, is_unary in ((echo, False), (answer, True)):
        with no_collector():
            caller = Caller(handler, is_unary=is_unary)
            caller.send(open_call(1, "/a/b", (b"grpc-timeout", b"1H")) + data(message(b"x"), END_STREAM))
            await caller.over()
            call = weakref.ref(caller.calls.pop(1))
            caller.tasks.clear()
            await turns()
            assert call() is None
