"""Windows and turns, without a socket: whatever the client opens when, its bytes come in order, and never more than it let us."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.serving.http2.frames import (
    DATA,
    DEFAULT_FRAME_SIZE,
    DEFAULT_WINDOW,
    HEADER,
    MAX_WINDOW,
    ConnectionFault,
    ErrorCode,
    StreamFault,
)
from runtime.serving.http2.sending import QUANTUM_BYTES, Sender
from runtime.serving.http2.stream import Stream
from runtime.tensors import Chunk

STREAMS = 3


class Client:
    """The other side of a `Sender`: takes the frames apart, and keeps its own account of what may come."""

    def __init__(self) -> None:
        self.sender = Sender(self._take, lambda stream: self.ended.append(stream.id), lambda: 0.0)
        connection: Any = None
        self.streams = {id_: Stream(connection, id_, 0.0) for id_ in range(STREAMS)}
        self.window = DEFAULT_WINDOW
        self.windows = dict.fromkeys(self.streams, DEFAULT_WINDOW)
        self.initial = DEFAULT_WINDOW
        self.frame_size = DEFAULT_FRAME_SIZE
        self.came = {id_: bytearray() for id_ in self.streams}
        self.sizes: list[tuple[int, int]] = []
        self.ended: list[int] = []

    def _take(self, parts: list[Chunk]) -> None:
        assert not self.sender.is_held
        raw, at = b"".join(parts), 0
        while at < len(raw):
            high, low, kind, flags, id_ = HEADER.unpack_from(raw, at)
            size = high << 16 | low
            assert (kind, flags) == (DATA, 0)
            assert 0 < size <= self.frame_size
            at += HEADER.size
            self.came[id_] += raw[at : at + size]
            self.sizes.append((id_, size))
            at += size
            self.window -= size
            self.windows[id_] -= size
            assert self.window >= 0
            assert self.windows[id_] >= 0

    def resize(self, initial: int) -> None:
        for id_ in self.windows:
            self.windows[id_] += initial - self.initial
        self.initial = initial
        self.sender.resize(initial, self.streams.values())

    def check(self, sent: dict[int, bytearray]) -> None:
        for id_, stream in self.streams.items():
            assert sent[id_].startswith(self.came[id_])
            assert stream.queued_bytes == len(sent[id_]) - len(self.came[id_])
            has_room = self.window > 0 and self.windows[id_] > 0 and not self.sender.is_held
            assert not (has_room and stream.queue), "what may go waits"


def bytes_like(start: int, size: int) -> bytes:
    return bytes((start + at) % 251 for at in range(size))


SIZES = st.sampled_from([0, 1, 5, 1000, 16_384, 16_385, 70_000])
STEPS = st.one_of(
    st.tuples(st.just("send"), st.integers(0, STREAMS - 1), st.lists(SIZES, max_size=3)),
    st.tuples(st.just("widen"), st.sampled_from([1, 9, 20_000, 100_000])),
    st.tuples(st.just("widen stream"), st.integers(0, STREAMS - 1), st.sampled_from([1, 9, 20_000, 100_000])),
    st.tuples(st.just("resize"), st.sampled_from([0, 1, 65_535, 1 << 20])),
    st.tuples(st.just("frame size"), st.sampled_from([16_384, 20_000, 1 << 20])),
    st.tuples(st.just("hold"), st.booleans()),
    st.tuples(st.just("spend"), st.integers(0, STREAMS - 1), st.sampled_from([10, 16_384, 70_000])),
)


@given(st.lists(STEPS, max_size=25))
def test_any_order_of_windows_and_answers(steps: list[tuple[Any, ...]]) -> None:
    client = Client()
    sender, sent = client.sender, {id_: bytearray() for id_ in client.streams}
    for step in steps:
        match step:
            case ("send", id_, sizes):
                chunks = [bytes_like(len(sent[id_]) + at, size) for at, size in enumerate(sizes)]
                sent[id_] += b"".join(chunks)
                sender.send(client.streams[id_], chunks)
            case ("widen", increment):
                client.window += increment
                sender.widen(increment)
            case ("widen stream", id_, increment):
                client.windows[id_] += increment
                sender.widen_stream(client.streams[id_], increment)
            case ("resize", initial):
                client.resize(initial)
            case ("frame size", size):
                client.frame_size = sender.frame_size = size
            case ("hold", is_held):
                sender.is_held = is_held
                if not is_held:
                    sender.go_on()
            case ("spend", id_, size):
                if sender.spend(client.streams[id_], size):
                    client.window -= size
                    client.windows[id_] -= size
                    assert min(client.window, client.windows[id_]) >= 0
                    assert size <= client.frame_size
                    assert not any(stream.queue and client.windows[s] > 0 for s, stream in client.streams.items())
        client.check(sent)
    sender.is_held = False
    client.window += 1 << 21
    sender.widen(1 << 21)
    client.resize(1 << 22)
    assert client.came == sent, "in the end all of it has come"


def test_streams_take_turns() -> None:
    client = Client()
    client.sender.is_held = True
    for stream in client.streams.values():
        client.sender.send(stream, [bytes(QUANTUM_BYTES + 1)])
    client.window += 1 << 20
    client.resize(1 << 20)
    client.sender.widen(1 << 20)
    client.sender.is_held = False
    client.sender.go_on()
    turns = [id_ for at, (id_, _) in enumerate(client.sizes) if not at or client.sizes[at - 1][0] != id_]
    assert turns == [0, 1, 2, 0, 1, 2]


def test_small_chunks_go_in_one_frame() -> None:
    client = Client()
    client.resize(0)
    client.sender.send(client.streams[0], [b"12345", b"a message"])
    client.windows[0] += 100
    client.sender.widen_stream(client.streams[0], 100)
    assert client.sizes == [(0, 14)]


def test_an_answer_ends_once_all_of_it_is_sent_and_who_waits_is_told() -> None:
    client = Client()
    first, second, _ = client.streams.values()
    told: list[bool] = []
    second.on_sent = lambda: told.append(True)
    client.resize(10)
    client.sender.send(first, [bytes(12)])
    client.sender.send(second, [bytes(12)])
    first.trailers = b"trailers"
    assert (client.ended, told) == ([], [])
    client.resize(20)
    assert (client.ended, told) == ([0], [True])


def test_what_is_forgotten_is_not_sent() -> None:
    client = Client()
    client.resize(0)
    for stream in client.streams.values():
        client.sender.send(stream, [b"data"])
    client.sender.forget(client.streams[1])
    client.resize(100)
    assert client.sizes == [(0, 4), (2, 4)]


def test_a_window_has_a_limit_and_grows_by_something() -> None:
    for increment, code in ((0, ErrorCode.PROTOCOL_ERROR), (MAX_WINDOW, ErrorCode.FLOW_CONTROL_ERROR)):
        client = Client()
        with pytest.raises(ConnectionFault) as connection:
            client.sender.widen(increment)
        with pytest.raises(StreamFault) as stream:
            client.sender.widen_stream(client.streams[0], increment)
        assert connection.value.code is stream.value.code is code


def test_settings_may_not_open_a_window_beyond_its_limit_either() -> None:
    client = Client()
    client.sender.widen_stream(client.streams[0], 1)
    client.sender.resize(MAX_WINDOW - 1, client.streams.values())
    with pytest.raises(ConnectionFault, match="SETTINGS") as caught:
        client.sender.resize(MAX_WINDOW, client.streams.values())
    assert caught.value.code is ErrorCode.FLOW_CONTROL_ERROR
