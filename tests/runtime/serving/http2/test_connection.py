"""One connection without a socket: what it writes, whom it hands what, and what becomes of streams when something is wrong."""

from __future__ import annotations

import gc
import logging
import struct
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from runtime.serving.http2 import connection as http2
from runtime.serving.http2.connection import (
    CONNECTION_WINDOW,
    MAX_FAILED,
    MAX_SETTINGS,
    MAX_STREAMS,
    STREAM_WINDOW,
    Http2Connection,
)
from runtime.serving.http2.fields import Fields, encode_fields
from runtime.serving.http2.frames import ErrorCode, StreamFault
from runtime.serving.http2.incoming import MAX_FRAME_BYTES
from runtime.serving.http2.stream import Receiver, Stream
from runtime.tensors import Chunk
from tests.runtime.serving.fake_transport import Transport
from tests.runtime.serving.raw_http2 import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    PING,
    PREFACE,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    frame,
    frames_in,
    settings,
)

HEADER_TABLE_SIZE, MAX_FRAME_SIZE = 1, 5
HEAD, END = encode_fields([(b":status", b"200")]), encode_fields([(b"grpc-status", b"0")])
OPEN = frame(HEADERS, END_HEADERS, 1, encode_fields([(b"a", b"b")]))


def opened(stream: int, flags: int = 0) -> bytes:
    return frame(HEADERS, END_HEADERS | flags, stream, encode_fields([(b"a", b"b")]))


def widened(stream: int, increment: int) -> bytes:
    return frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", increment))


@dataclass
class Taker:
    """A receiver that keeps what it is handed, and makes room for more at once."""

    stream: Stream
    came: bytearray = field(default_factory=bytearray)
    is_whole: bool = False
    is_lost: bool = False

    def take(self, chunk: Chunk, is_last: bool) -> None:
        self.came += chunk
        self.is_whole = is_last
        self.stream.connection.take_more(self.stream, len(chunk))

    def lose(self) -> None:
        self.is_lost = True


class Client:
    """Both ends of a connection whose application makes a `Taker`, or what `make` makes, of every stream."""

    def __init__(self, make: Callable[[Stream], Receiver | None] = Taker) -> None:
        self.make = make
        self.takers: dict[int, Any] = {}
        self.fields: dict[int, Fields] = {}
        self.transport = Transport()
        self.connections: set[Http2Connection] = set()
        self.connection = Http2Connection(self, self.connections)
        self.connection.connection_made(self.transport)
        self.transport.protocol = self.connection
        self.send(PREFACE + settings())
        self.seen()

    def open(self, stream: Stream, fields: Fields) -> Receiver | None:
        self.fields[stream.id] = fields
        taker = self.takers[stream.id] = self.make(stream)
        return taker

    def send(self, raw: bytes) -> None:
        self.connection.data_received(raw)

    def seen(self) -> list[tuple[int, int, int, bytes]]:
        """(type, flags, stream, payload) of all frames since the last call."""
        self.connection._flush()
        raw = bytes(self.transport.written)
        self.transport.written.clear()
        found = frames_in(raw)
        assert sum(9 + len(payload) for *_, payload in found) == len(raw), "half a frame"
        return found

    def stream(self, id_: int = 1) -> Stream:
        return self.connection.streams[id_]

    def goaway(self) -> ErrorCode | None:
        """Why it was ended, if it was."""
        codes = [ErrorCode(struct.unpack_from(">I", raw, 4)[0]) for kind, _, _, raw in self.seen() if kind == GOAWAY]
        assert bool(codes) == self.transport.is_closed
        return codes[0] if codes else None


async def test_it_greets_and_acknowledges() -> None:
    connection = Http2Connection(Client(), set())
    transport = Transport()
    connection.connection_made(transport)
    connection.data_received(PREFACE[:7])
    assert not connection.is_greeted
    connection.data_received(PREFACE[7:] + settings())
    assert connection.is_greeted
    kinds = [(kind, flags) for kind, flags, *_ in frames_in(bytes(transport.written))]
    assert kinds == [(SETTINGS, 0), (WINDOW_UPDATE, 0), (SETTINGS, ACK)]


async def test_it_is_among_the_connections_while_it_lives() -> None:
    connections: set[Http2Connection] = set()
    connection = Http2Connection(Client(), connections)
    assert not connections, "it cannot be written to before it is made"
    connection.connection_made(Transport())
    assert connections == {connection}
    connection.connection_lost(None)
    assert not connections


async def test_a_whole_answer_is_one_write() -> None:
    client = Client()
    client.send(opened(1) + frame(DATA, END_STREAM, 1, b"asked"))
    assert (bytes(client.takers[1].came), client.takers[1].is_whole) == (b"asked", True)
    client.connection.reply(client.stream(), HEAD, [b"ans", memoryview(b"wer")], END)
    assert client.seen() == [
        (HEADERS, END_HEADERS, 1, HEAD),
        (DATA, 0, 1, b"answer"),
        (HEADERS, END_HEADERS | END_STREAM, 1, END),
    ]
    assert not client.connection.streams


@pytest.mark.parametrize("first", ["settings", "window", "others", "held", "open"])
async def test_an_answer_in_parts_has_the_same_bytes_in_the_same_order(first: str) -> None:
    """Whatever keeps it from going at once."""
    client = Client()
    client.send(opened(1, 0 if first == "open" else END_STREAM) + opened(3, END_STREAM))
    size = 1000
    if first == "settings":
        client.send(settings((INITIAL_WINDOW_SIZE, 0)))
    elif first == "others":
        client.connection.reply(client.stream(3), HEAD, [bytes(100_000)], END)
    elif first == "held":
        client.connection.pause_writing()
    elif first == "window":
        size = 70_000
    client.seen()
    body = bytes(range(250)) * (size // 250)
    client.connection.reply(client.stream(), HEAD, [body[:9], body[9:]], END)
    client.send(settings((INITIAL_WINDOW_SIZE, 1 << 20)) + widened(0, 1 << 20))
    client.connection.resume_writing()
    mine = [(kind, flags, raw) for kind, flags, stream, raw in client.seen() if stream == 1]
    assert mine[0] == (HEADERS, END_HEADERS, HEAD)
    assert b"".join(raw for kind, _, raw in mine if kind == DATA) == body
    ends = [(HEADERS, END_HEADERS | END_STREAM, END)]
    if first == "open":
        ends.append((RST_STREAM, 0, struct.pack(">I", ErrorCode.NO_ERROR)))
    assert mine[-len(ends) :] == ends
    assert 1 not in client.connection.streams


async def test_settings_are_acknowledged_before_anything_goes_by_them() -> None:
    """A client counts by its old window until it has read that we know of the new one (RFC 9113, 6.5.3)."""
    client = Client()
    client.send(opened(1, END_STREAM))
    client.connection.reply(client.stream(), HEAD, [bytes(100_000)], END)
    client.seen()
    client.send(widened(0, 1 << 20) + settings((INITIAL_WINDOW_SIZE, 1 << 20)))
    kinds = [(kind, flags) for kind, flags, *_ in client.seen()]
    assert kinds[0] == (SETTINGS, ACK)
    assert DATA in {kind for kind, _ in kinds}


async def test_what_new_settings_let_go_keeps_to_all_of_them() -> None:
    client = Client()
    client.send(opened(1, END_STREAM) + settings((MAX_FRAME_SIZE, 20_000), (INITIAL_WINDOW_SIZE, 0)))
    client.connection.reply(client.stream(), HEAD, [bytes(60_000)], END)
    client.seen()
    client.send(settings((INITIAL_WINDOW_SIZE, 1 << 20), (MAX_FRAME_SIZE, 16_384)))
    assert max(len(raw) for kind, _, _, raw in client.seen() if kind == DATA) == 16_384


async def test_a_client_that_shrinks_its_table_is_told_that_we_keep_none() -> None:
    """Once, before the next header block (RFC 9113, 4.3.1)."""
    client = Client()
    client.send(opened(1, END_STREAM) + opened(3, END_STREAM) + settings((HEADER_TABLE_SIZE, 100)))
    client.seen()
    for stream in (1, 3):
        client.connection.reply(client.stream(stream), HEAD, [b"x"], END)
    assert [raw for kind, _, _, raw in client.seen() if kind == HEADERS] == [b"\x20" + HEAD, END, HEAD, END]


async def test_an_unread_answer_is_held_until_there_is_room() -> None:
    client = Client()
    client.transport.room_bytes = 1000
    client.send(opened(1, END_STREAM) + settings((INITIAL_WINDOW_SIZE, 1 << 20)) + widened(0, 1 << 20))
    client.connection.reply(client.stream(), HEAD, [bytes(600_000)], END)
    assert not client.transport.is_reading, "who does not take is not listened to"
    assert len(client.transport.written) < 100_000
    for _ in range(10):
        client.seen()
        client.connection.resume_writing()
    assert client.transport.is_reading
    assert not client.connection.streams


async def test_room_is_made_again_for_all_that_came() -> None:
    """Used up, padding, of streams that are over, or that were reset: the client never starves, and nothing is given twice."""
    client = Client()
    client.send(b"".join(opened(stream) for stream in (1, 3, 5)))
    client.connection.end(client.stream(3), END)
    client.send(frame(RST_STREAM, 0, 5, struct.pack(">I", 8)))
    windows = {0: 0, 1: 0, 3: 0, 5: 0}
    part = 1000
    for at in range(3 * CONNECTION_WINDOW // (3 * 3 * part)):
        flags, raw = (0x8, b"\xc8" + bytes(part - 1)) if at % 2 else (0, bytes(part))
        for stream in (1, 3, 5):
            client.send(frame(DATA, flags, stream, raw))
            for id_ in (0, stream):
                windows[id_] += part
        for kind, _, id_, payload in client.seen():
            if kind == WINDOW_UPDATE:
                windows[id_] -= struct.unpack(">I", payload)[0]
        assert 0 <= windows[0] < CONNECTION_WINDOW // 2 + 3 * part
        assert 0 <= windows[1] < STREAM_WINDOW // 2 + part
    assert windows[3] + windows[5] > STREAM_WINDOW, "streams that are over are given nothing"
    assert not client.transport.is_closed


async def test_nothing_is_said_of_a_stream_that_ended_within_its_own_frame() -> None:
    def refusing(stream: Stream) -> Taker:
        class Refuses(Taker):
            def take(self, chunk: Chunk, is_last: bool) -> None:
                stream.connection.end(stream, END)

        return Refuses(stream)

    client = Client(refusing)
    raw = opened(1) + frame(DATA, 0, 1, bytes(MAX_FRAME_BYTES))
    for at in range(0, len(raw), 1 << 16):
        client.send(raw[at : at + (1 << 16)])
    assert [kind for kind, _, stream, _ in client.seen() if stream == 1] == [HEADERS, RST_STREAM]


async def test_a_client_that_overruns_its_stream_loses_it() -> None:
    class Keeps(Taker):
        def take(self, chunk: Chunk, is_last: bool) -> None:
            pass

    client = Client(Keeps)
    client.send(opened(1) + frame(DATA, 0, 1, bytes(STREAM_WINDOW)))
    assert not client.takers[1].is_lost
    client.send(frame(DATA, 0, 1, b"x") + opened(3))
    assert client.takers[1].is_lost
    assert (RST_STREAM, 0, 1, struct.pack(">I", ErrorCode.FLOW_CONTROL_ERROR)) in client.seen()
    assert not client.takers[3].is_lost


async def test_data_behind_the_end_is_refused() -> None:
    client = Client()
    client.send(opened(1, END_STREAM) + frame(DATA, 0, 1, b"more"))
    assert (RST_STREAM, 0, 1, struct.pack(">I", ErrorCode.STREAM_CLOSED)) in client.seen()
    assert client.takers[1].came == b""


async def test_trailers_end_a_request() -> None:
    client = Client()
    client.send(opened(1) + frame(DATA, 0, 1, b"data") + opened(1, END_STREAM))
    assert (bytes(client.takers[1].came), client.takers[1].is_whole) == (b"data", True)


async def test_fields_of_every_stream_count_in_the_table_that_both_sides_keep() -> None:
    """Refused, over, trailers: what they put into the table is there for the next one."""
    client = Client()
    enters = b"\x40" + encode_fields([(b"n", b"v")])[1:]
    client.send(opened(1))
    client.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, enters))  # trailers
    client.connection.end(client.stream(1), END)
    client.send(frame(HEADERS, END_HEADERS, 1, enters))  # of a stream that is over
    client.send(frame(HEADERS, END_HEADERS, 3, b"\xbf\xbe"))
    assert client.fields[3] == ((b"n", b"v"), (b"n", b"v"))


async def test_one_stream_too_many_is_refused_and_the_others_go_on() -> None:
    client = Client()
    client.send(b"".join(opened(2 * at + 1) for at in range(MAX_STREAMS + 1)))
    refused = 2 * MAX_STREAMS + 1
    assert client.seen() == [(RST_STREAM, 0, refused, struct.pack(">I", ErrorCode.REFUSED_STREAM))]
    client.send(frame(DATA, END_STREAM, 1, b"x"))
    assert client.takers[1].is_whole


@pytest.mark.parametrize("where", ["open", "take", "lose"])
async def test_a_mistake_of_ours_costs_one_call(where: str, caplog: pytest.LogCaptureFixture) -> None:
    def make(stream: Stream) -> Receiver:
        class Wrong(Taker):
            def take(self, chunk: Chunk, is_last: bool) -> None:
                if where == "take":
                    raise RuntimeError("a mistake")

            def lose(self) -> None:
                if where == "lose":
                    raise RuntimeError("a mistake")

        if where == "open" and stream.id == 1:
            raise RuntimeError("a mistake")
        return Wrong(stream) if stream.id == 1 else Taker(stream)

    client = Client(make)
    client.send(opened(1) + opened(3) + frame(DATA, 0, 1, b"x"))
    client.send(frame(RST_STREAM, 0, 1, struct.pack(">I", 8)) + frame(DATA, END_STREAM, 3, b"asked"))
    assert client.takers[3].is_whole
    assert "a mistake" in caplog.text
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    if where != "lose":
        assert (RST_STREAM, 0, 1, struct.pack(">I", ErrorCode.INTERNAL_ERROR)) in client.seen()


async def test_a_fault_of_one_stream_is_its_own() -> None:
    def make(stream: Stream) -> Receiver:
        if stream.id == 1:
            raise StreamFault(ErrorCode.PROTOCOL_ERROR, "not like that")
        return Taker(stream)

    client = Client(make)
    client.send(opened(1) + opened(3, END_STREAM))
    assert client.seen() == [(RST_STREAM, 0, 1, struct.pack(">I", ErrorCode.PROTOCOL_ERROR))]
    assert client.takers[3].is_whole


BAD = {
    "DATA of a stream never opened": (frame(DATA, 0, 5, b"x"), ErrorCode.PROTOCOL_ERROR),
    "DATA of stream 0": (frame(DATA, 0, 0, b"x"), ErrorCode.PROTOCOL_ERROR),
    "RST_STREAM of a stream never opened": (frame(RST_STREAM, 0, 5, bytes(4)), ErrorCode.PROTOCOL_ERROR),
    "short RST_STREAM": (frame(RST_STREAM, 0, 1, bytes(3)), ErrorCode.FRAME_SIZE_ERROR),
    "WINDOW_UPDATE of a stream never opened": (widened(5, 1), ErrorCode.PROTOCOL_ERROR),
    "window of nothing": (widened(0, 0), ErrorCode.PROTOCOL_ERROR),
    "window too wide": (widened(0, 2**31 - 1), ErrorCode.FLOW_CONTROL_ERROR),
    "stream too wide by SETTINGS": (
        widened(1, 1) + settings((INITIAL_WINDOW_SIZE, 2**31 - 1)),
        ErrorCode.FLOW_CONTROL_ERROR,
    ),
    "SETTINGS of a stream": (frame(SETTINGS, 0, 1), ErrorCode.PROTOCOL_ERROR),
    "acknowledgement that says more": (frame(SETTINGS, ACK, 0, bytes(6)), ErrorCode.FRAME_SIZE_ERROR),
    "short PING": (frame(PING, 0, 0, bytes(7)), ErrorCode.FRAME_SIZE_ERROR),
    "PUSH_PROMISE": (frame(PUSH_PROMISE, 0, 1, bytes(4)), ErrorCode.PROTOCOL_ERROR),
    "GOAWAY of a stream": (frame(GOAWAY, 0, 1, bytes(8)), ErrorCode.PROTOCOL_ERROR),
    "no header block": (frame(HEADERS, END_HEADERS, 3, b"\xff"), ErrorCode.COMPRESSION_ERROR),
    "CONTINUATION of nothing": (frame(CONTINUATION, 0, 1), ErrorCode.PROTOCOL_ERROR),
    "SETTINGS flood": (settings() * (MAX_SETTINGS + 1), ErrorCode.ENHANCE_YOUR_CALM),
    "rapid reset": (
        b"".join(opened(2 * at + 3) + frame(RST_STREAM, 0, 2 * at + 3, bytes(4)) for at in range(MAX_FAILED + 1)),
        ErrorCode.ENHANCE_YOUR_CALM,
    ),
    "made you reset": (
        b"".join(opened(2 * at + 3) + widened(2 * at + 3, 0) for at in range(MAX_FAILED + 1)),
        ErrorCode.ENHANCE_YOUR_CALM,
    ),
}


@pytest.mark.parametrize(("raw", "code"), BAD.values(), ids=BAD)
async def test_a_client_that_breaks_the_protocol_is_told_why_and_loses_all_calls(raw: bytes, code: ErrorCode) -> None:
    client = Client()
    client.send(opened(1))
    client.send(raw)
    assert client.goaway() is code
    assert client.takers[1].is_lost, "its calls go on no longer than it is read"
    assert not client.connection.streams
    client.send(opened(99_999))  # what comes behind is nobody's
    assert 99_999 not in client.takers


async def test_frames_of_other_types_mean_nothing() -> None:
    client = Client()
    client.send(frame(0x99, 0xFF, 0, b"whatever") + opened(1, END_STREAM))
    assert client.takers[1].is_whole


async def test_a_ping_is_answered_and_ours_is_awaited() -> None:
    client = Client()
    client.send(frame(PING, 0, 0, b"12345678"))
    assert client.seen() == [(PING, ACK, 0, b"12345678")]
    client.connection.ping()
    assert client.connection.pinged_at is not None
    client.send(frame(PING, ACK, 0, bytes(8)))
    assert client.connection.pinged_at is None


async def test_an_end_says_what_was_written_before_it_and_which_stream_was_the_last() -> None:
    client = Client()
    client.send(opened(1) + opened(7))
    client.connection.say_goodbye()
    client.connection.take_more(client.stream(), STREAM_WINDOW)  # waits for the end of the turn
    client.connection.close()
    kinds = {kind: payload for kind, _, _, payload in client.seen()}
    assert WINDOW_UPDATE in kinds
    assert struct.unpack_from(">II", kinds[GOAWAY]) == (7, ErrorCode.NO_ERROR)
    assert client.takers[1].is_lost
    assert client.takers[7].is_lost
    assert client.connection.closed_at is not None


async def test_answers_behind_the_end_go_nowhere() -> None:
    """Whatever still runs when the client is gone."""
    client = Client()
    client.send(opened(1, END_STREAM) + opened(3) + opened(5))
    streams = [client.stream(id_) for id_ in (1, 3, 5)]
    client.connection.connection_lost(ConnectionResetError())
    client.transport.is_closed = True
    assert all(taker.is_lost for taker in client.takers.values())
    client.connection.reply(streams[0], HEAD, [b"x"], END)
    client.connection.send_headers(streams[1], HEAD)
    client.connection.send(streams[1], [b"x"])
    client.connection.reset(streams[2], ErrorCode.CANCEL)
    client.connection.ping()
    client.connection.say_goodbye()
    client.connection.close()
    client.connection.resume_writing()
    client.connection._flush()
    assert not client.transport.written


async def test_streams_that_are_over_are_freed_at_once() -> None:
    """By counting, without the collector of cycles: an answered call, one that waited for room, one that was taken back."""

    class Waits(Taker):
        def told(self) -> None:
            pass

    client = Client(Waits)
    client.send(opened(1, END_STREAM) + opened(3, END_STREAM) + opened(5) + opened(7))
    refs = [weakref.ref(client.takers[id_]) for id_ in (1, 3, 5, 7)]
    for id_ in (3, 5):
        client.stream(id_).on_sent = client.takers[id_].told
    client.takers.clear()
    gc.disable()
    try:
        client.connection.reply(client.stream(1), HEAD, [b"x"], END)
        client.connection.reply(client.stream(3), HEAD, [bytes(100_000)], END)
        client.send(widened(0, 1 << 20) + widened(3, 1 << 20))
        client.send(frame(RST_STREAM, 0, 5, bytes(4)))
        client.connection.reset(client.stream(7), ErrorCode.CANCEL)
        assert [ref() for ref in refs] == [None] * 4
    finally:
        gc.enable()


async def test_the_numbers_that_the_client_is_told_are_those_that_hold() -> None:
    client = Client()
    connection = Http2Connection(client, set())
    transport = Transport()
    connection.connection_made(transport)
    (_, _, _, told), (_, _, _, more) = frames_in(bytes(transport.written))
    values = dict(struct.iter_unpack(">HI", told))
    assert values == {3: MAX_STREAMS, 4: STREAM_WINDOW, 5: MAX_FRAME_BYTES, 6: http2.MAX_LIST_BYTES}
    assert 65_535 + struct.unpack(">I", more)[0] == CONNECTION_WINDOW
