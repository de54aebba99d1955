"""HTTP/2 as no client should speak it, on both gRPC fronts: the server stays up, answers others, and its memory is bounded."""

from __future__ import annotations

import asyncio
import json
import os
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
import psutil
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from protos import inference
from tests.runtime.serving.clients import Call, GrpcClient, infer_message
from tests.runtime.serving.raw_http2 import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    INFER,
    INITIAL_WINDOW_SIZE,
    PING,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    STREAM,
    WINDOW_UPDATE,
    Http2,
    call,
    frame,
    grpc_fields,
    header_block,
    message,
    open_call,
    settings,
)

PATIENCE_S = 20
ROOT = Path(__file__).resolve().parents[4]
ROW = {"x": np.array([[1, 2, 3]], dtype=np.int64)}
GOOD = infer_message(Call("echo", ROW)).SerializeToString()
# What allocators keep of a flood (of grpcio more than 64 MB were seen); a server that queued what it is sent would hold
# hundreds of megabytes, and one that unfolded HPACK bombs gigabytes.
MAX_GROWTH_MB = 128
FLOOD = 50_000


@dataclass
class Server:
    """The fake service in a process of its own."""

    at: str
    process: psutil.Process

    @property
    def memory_mb(self) -> float:
        return self.process.memory_info().rss / 1e6

    def check(self) -> None:
        """It runs, and answers somebody else."""
        assert self.process.is_running()
        client = GrpcClient(self.at)
        told = client.send(Call("echo", ROW))
        client.close()
        assert told.status == "OK", told
        np.testing.assert_array_equal(told.outputs["x"], ROW["x"])


@pytest.fixture(scope="module")
def hostile(front: str) -> Iterator[Server]:
    command = [sys.executable, "-m", "tests.runtime.serving.fake_service", "--grpc-front", front]
    with subprocess.Popen(command, cwd=ROOT, env=dict(os.environ), stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            at = f"127.0.0.1:{json.loads(process.stdout.readline())['grpc']}"
            server = Server(at, psutil.Process(process.pid))
            server.check()
            yield server
            server.process.terminate()
            assert process.wait(30) == 0
        finally:
            process.kill()


@pytest.fixture
def server(hostile: Server) -> Iterator[Server]:
    """Checked after every test: still up, still answering, and not grown."""
    before_mb = hostile.memory_mb
    yield hostile
    hostile.check()
    assert hostile.memory_mb - before_mb < MAX_GROWTH_MB


def test_the_frames_made_here_are_right(server: Server) -> None:
    """Otherwise whatever else is tested here would be refused for another reason."""
    with Http2(server.at) as client:
        client.send(call(1, GOOD))
        answer = client.until(DATA, 1)
        assert answer is not None
        reply = inference.ModelInferResponse.FromString(answer[3][5:])
        assert reply.raw_output_contents[0] == ROW["x"].tobytes()


@pytest.mark.parametrize(
    "first",
    [
        b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n" + settings(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64),
        bytes(1 << 16),
        PREFACE + frame(DATA, 0, 1, b"x"),
        PREFACE + frame(SETTINGS, 0, 0, b"x" * 7),
        PREFACE + frame(SETTINGS, 0, 0, b"", length=1 << 23),
    ],
    ids=["HTTP/1", "wrong preface", "TLS", "zeros", "no settings", "settings of 7 bytes", "settings of 8 MiB"],
)
def test_who_does_not_begin_right_is_cut_off(server: Server, first: bytes) -> None:
    with Http2(server.at, b"") as client:
        client.send(first)
        client.half_close()
        assert (DATA, 1) not in {(kind, stream) for kind, _, stream, _ in client.frames()}


def test_a_client_with_thousands_of_calls_at_once_is_answered(server: Server) -> None:
    async def ask() -> set[bytes]:
        async with grpc.aio.insecure_channel(server.at) as channel:
            stub = channel.unary_unary(INFER)
            return set(await asyncio.gather(*(stub(GOOD, timeout=3 * PATIENCE_S) for _ in range(5000))))

    (answer,) = asyncio.run(ask())
    assert inference.ModelInferResponse.FromString(answer).raw_output_contents[0] == ROW["x"].tobytes()


def test_connections_that_say_nothing_keep_nobody_out(server: Server) -> None:
    with ExitStack() as stack:
        for first in (b"", PREFACE[:10], PREFACE, PREFACE + settings()) * 25:
            stack.enter_context(Http2(server.at, first))
        server.check()


Attack = Callable[[Http2], object]


def huge_headers(client: Http2) -> None:
    """One header of a megabyte, in as many frames as that takes."""
    block = header_block(grpc_fields(INFER, (b"x", b"y" * (1 << 20))))
    parts = [block[at : at + 16_384] for at in range(0, len(block), 16_384)]
    frames = [frame(HEADERS, END_STREAM, 1, parts[0])]
    frames += [frame(CONTINUATION, 0, 1, part) for part in parts[1:-1]]
    client.send(b"".join([*frames, frame(CONTINUATION, END_HEADERS, 1, parts[-1])]))
    client.send(call(3, GOOD))


def many_headers(client: Http2) -> None:
    """Little on the wire, much in memory: each field counts 32 bytes more than it has (RFC 9113, 6.5.2)."""
    fields = [(b"a", b"") for _ in range(4000)]
    client.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, header_block([*grpc_fields(), *fields])[:16_384]))


def hpack_bombs(client: Http2) -> None:
    """A field of 4,000 bytes remembered in the table (RFC 7541, 6.2.1), then named again and again with a byte each."""
    remembered = b"\x40\x01x" + b"\x7f\xa1\x1e" + b"y" * 4000
    for stream in range(1, 200, 2):
        block = header_block(grpc_fields()) + (remembered if stream == 1 else b"") + b"\xbe" * 12_000
        client.send(frame(HEADERS, END_HEADERS | END_STREAM, stream, block[:16_384]))


def continuation_flood(payload: bytes) -> Attack:
    def attack(client: Http2) -> None:
        client.send(frame(HEADERS, 0, 1, header_block(grpc_fields())))
        client.flood(frame(CONTINUATION, 0, 1, payload), FLOOD)

    return attack


def rapid_reset(client: Http2) -> None:
    """CVE-2023-44487: streams opened and taken back at once, so that the limit on open ones is never met."""
    for base in range(1, 40_000, 200):
        burst = b"".join(
            call(stream, GOOD) + frame(RST_STREAM, 0, stream, struct.pack(">I", 8))
            for stream in range(base, base + 200, 2)
        )
        if not client.flood(burst, 1):
            return


def made_you_reset(client: Http2) -> None:
    """CVE-2025-8671: the server is made to take streams back itself, by a window that overflows."""
    for base in range(1, 20_000, 200):
        burst = b"".join(
            open_call(stream) + frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", 0))
            for stream in range(base, base + 200, 2)
        )
        if not client.flood(burst, 1):
            return


def no_window(client: Http2) -> None:
    """Answers that may never be sent."""
    client.send(settings((INITIAL_WINDOW_SIZE, 0)))
    big = infer_message(Call("echo", {"x": np.zeros((1, 8000))})).SerializeToString()
    for stream in range(1, 200, 2):
        if not client.flood(open_call(stream) + b"".join(_data(stream, message(big))), 1):
            return


def _data(stream: int, raw: bytes) -> Iterator[bytes]:
    for at in range(0, len(raw), 16_384):
        yield frame(DATA, END_STREAM if at + 16_384 >= len(raw) else 0, stream, raw[at : at + 16_384])


def windows_beyond_their_limit(client: Http2) -> None:
    client.send(open_call(1))
    for stream in (1, 0):
        client.send(frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", 0x7FFFFFFF)) * 2)
    client.send(settings((INITIAL_WINDOW_SIZE, 0xFFFFFFFF)))


def window_that_goes_up_and_down(client: Http2) -> None:
    client.send(open_call(1))
    client.flood(settings((INITIAL_WINDOW_SIZE, 0)) + settings((INITIAL_WINDOW_SIZE, 0x7FFFFFFF)), FLOOD // 2)


def bytes_one_by_one(client: Http2) -> None:
    """A message in frames of a byte each."""
    client.send(open_call(1))
    for byte in message(GOOD)[:-1]:
        client.send(frame(DATA, 0, 1, bytes([byte])))
    client.send(frame(DATA, END_STREAM, 1, message(GOOD)[-1:]))
    assert client.until(DATA, 1) is not None, "slow, but right"


def empty_data_flood(client: Http2) -> None:
    """CVE-2019-9518."""
    client.send(open_call(1))
    client.flood(frame(DATA, 0, 1), FLOOD)


def oversize_data(client: Http2) -> None:
    """A frame above the 16 KiB that were never raised, and more than the window has room for."""
    client.send(open_call(1))
    client.send(frame(DATA, 0, 1, bytes(1 << 20)))
    for _ in range(64):
        client.flood(frame(DATA, 0, 1, bytes(16_384)), 64)


def padding_that_lies(client: Http2) -> None:
    client.send(open_call(1))
    client.send(frame(DATA, 8, 1, b"\xff" + b"x" * 10))


def frames_where_none_may_be(client: Http2) -> None:
    client.send(frame(DATA, 0, 0, b"x") + frame(DATA, 0, 99, b"x") + frame(HEADERS, END_HEADERS, 2, b"\x82"))


def stalled_calls(client: Http2) -> None:
    """Opened, begun, and left."""
    for stream in range(1, 200, 4):
        client.send(open_call(stream) + open_call(stream + 2, STREAM))
        client.send(frame(DATA, 0, stream, message(GOOD)[:20]) + frame(DATA, 0, stream + 2, message(GOOD)[:20]))


def half_closed_calls(client: Http2) -> None:
    """The client has said all it will say, in the middle of a message."""
    for stream in range(1, 200, 4):
        client.send(open_call(stream) + frame(DATA, END_STREAM, stream, message(GOOD)[:20]))
        client.send(open_call(stream + 2, STREAM) + frame(DATA, END_STREAM, stream + 2, message(GOOD)[:20]))


def floods_that_are_not_read(raw: bytes) -> Attack:
    return lambda client: client.flood(raw, 4 * FLOOD, reads=False)


ATTACKS: dict[str, Attack] = {
    "huge headers": huge_headers,
    "many headers": many_headers,
    "HPACK bombs": hpack_bombs,
    "CONTINUATION flood": continuation_flood(b"\x00\x01a\x01b"),
    "empty CONTINUATION flood": continuation_flood(b""),
    "rapid reset": rapid_reset,
    "made you reset": made_you_reset,
    "no window": no_window,
    "windows beyond their limit": windows_beyond_their_limit,
    "a window that goes up and down": window_that_goes_up_and_down,
    "bytes one by one": bytes_one_by_one,
    "empty DATA flood": empty_data_flood,
    "oversize DATA": oversize_data,
    "padding that lies": padding_that_lies,
    "frames where none may be": frames_where_none_may_be,
    "SETTINGS flood": lambda client: client.flood(settings((INITIAL_WINDOW_SIZE, 65_535)), FLOOD),
    "PING flood": lambda client: client.flood(frame(PING, 0, 0, bytes(8)), FLOOD),
    "PING flood, not read": floods_that_are_not_read(frame(PING, 0, 0, bytes(8))),
    "SETTINGS flood, not read": floods_that_are_not_read(settings((INITIAL_WINDOW_SIZE, 65_535))),
    "stalled calls": stalled_calls,
    "half-closed calls": half_closed_calls,
}


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_an_attack_costs_its_own_connection_at_most(server: Server, attack: Attack) -> None:
    before_mb = server.memory_mb
    with Http2(server.at) as client:
        attack(client)
        server.check()  # while the connection is still there
        assert server.memory_mb - before_mb < MAX_GROWTH_MB


@pytest.mark.parametrize(
    "body",
    [
        message(GOOD, length=0xFFFFFFFF),
        message(GOOD, length=len(GOOD) + 1),
        message(GOOD, length=3),
        b"\x01" + message(GOOD)[1:],
        b"\x02" + message(GOOD)[1:],
        message(GOOD) + message(GOOD),
        message(GOOD)[:3],
        b"",
    ],
    ids=[
        "4 GiB",
        "one byte more",
        "fewer",
        "compressed by nothing",
        "no flag",
        "two messages",
        "half a prefix",
        "none",
    ],
)
def test_a_message_that_lies_of_itself_ends_its_call_alone(server: Server, body: bytes) -> None:
    with Http2(server.at) as client:
        client.send(open_call(1) + frame(DATA, END_STREAM, 1, body) + call(3, GOOD))
        assert client.until(DATA, 3) is not None, "the call beside it is answered"
        assert client.until_ended(1) is not None, "and this one is told that it failed"


frames = st.builds(
    frame,
    st.integers(0, 11),
    st.integers(0, 255),
    st.integers(0, 9) | st.integers(0, 2**32 - 1),
    st.binary(max_size=64) | st.sampled_from([message(GOOD), header_block(grpc_fields()), bytes(4), bytes(8)]),
    st.none() | st.integers(0, 100) | st.integers(0, 2**24 - 1),
)
wholes = st.sampled_from([call(1, GOOD), call(3, GOOD), open_call(5), open_call(7, STREAM), settings()])


@given(sent=st.lists(frames | wholes, max_size=12), cut=st.integers(0, 40))
@examples(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_frames(hostile: Server, sent: list[bytes], cut: int) -> None:
    raw = b"".join(sent)
    with Http2(hostile.at) as client:
        client.send(raw[: len(raw) - cut] if cut < len(raw) else raw)
    hostile.check()


def test_nothing_is_kept_of_all_that(hostile: Server) -> None:
    """Once every connection is gone: no thread, no socket, little memory."""
    hostile.check()
    assert hostile.process.num_fds() < 200
    with Http2(hostile.at) as client:
        client.send(frame(GOAWAY, 0, 0, bytes(8)))
    hostile.check()
