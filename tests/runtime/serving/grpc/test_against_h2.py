"""A whole server of ours and a client that is neither ours nor gRPC's: `h2` raises where we break the protocol."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import numpy as np
import pytest
from h2.settings import SettingCodes

from protos import inference
from tests.runtime.serving.clients import Call, infer_message
from tests.runtime.serving.h2_client import INFER, H2Client
from tests.runtime.serving.raw_http2 import STREAM, message
from tests.runtime.serving.threaded import Threaded, serving

WINDOW, FRAME, TABLE = SettingCodes.INITIAL_WINDOW_SIZE, SettingCodes.MAX_FRAME_SIZE, SettingCodes.HEADER_TABLE_SIZE


@pytest.fixture(scope="module")
def server() -> Iterator[Threaded]:
    with serving(grpc_front="asyncio") as threaded:
        yield threaded


def asked(size: int, seed: int = 0) -> tuple[bytes, bytes]:
    """A request for `size` bytes back, and those bytes."""
    row = Random(seed).randbytes(size)
    return message(infer_message(Call("echo", {"x": np.frombuffer(row, np.uint8)[None]})).SerializeToString()), row


def tensor(raw: bytes) -> bytes:
    return bytes(inference.ModelInferResponse.FromString(raw).raw_output_contents[0])


def check(client: H2Client, rows: dict[int, bytes]) -> None:
    for stream, row in rows.items():
        answer = client.answers[stream]
        assert (answer.status, answer.reset) == (b"0", None), answer.trailers
        (told,) = answer.messages
        assert tensor(told) == row
        assert answer.headers[b"content-type"] == b"application/grpc"


def test_many_calls_interleaved(server: Threaded) -> None:
    with H2Client(server.grpc) as client:
        rows = {}
        for at in range(200):
            stream = client.open()
            raw, rows[stream] = asked(10 * at + 1, at)
            client.send(stream, raw, is_last=True)
        for _ in range(40):
            client.upload(60)
            client.flush()
        client.until(rows)
        check(client, rows)


@pytest.mark.parametrize("window", [1, 7, 1000])
def test_tiny_windows(server: Threaded, window: int) -> None:
    with H2Client(server.grpc, {WINDOW: window}) as client:
        rows = {}
        for at in range(3):
            stream = client.open()
            raw, rows[stream] = asked(100 * window if window > 1 else 90, at)
            client.send(stream, raw, is_last=True)
        client.until(rows)
        check(client, rows)


def test_large_messages_both_ways_at_once(server: Threaded) -> None:
    with H2Client(server.grpc, {WINDOW: 100_000}) as client:
        rows = {}
        for at in range(4):
            stream = client.open()
            raw, rows[stream] = asked(3_000_000 + at, at)
            client.send(stream, raw, is_last=True)
        client.until(rows)
        check(client, rows)


def test_padding_counts_and_is_no_part_of_a_message(server: Threaded) -> None:
    """More of it than a window has room for: it is given back too."""
    with H2Client(server.grpc) as client:
        stream = client.open()
        raw, row = asked(30_000)
        client.send(stream, raw, is_last=True)
        while not client.answers[stream].is_over:
            client.upload(5, padding=255)
            client.flush()
            client.take(0)
        check(client, {stream: row})


def test_settings_that_change_in_the_middle_of_an_answer(server: Threaded) -> None:
    with H2Client(server.grpc, {WINDOW: 10_000}) as client:
        client.opens_windows = False
        rows = {}
        for at in range(3):
            stream = client.open()
            raw, rows[stream] = asked(400_000, at)
            client.send(stream, raw, is_last=True)
        for at, window in enumerate((20_000, 0, 1, 50_000, 5, 400_000, 100)):
            for stream in rows:
                client.acknowledge(stream, 9_000)
            client.change({WINDOW: window, FRAME: 16_384 + 1000 * (at % 3), TABLE: 4096 - at})
            for _ in range(3):
                client.upload()
                client.flush()
                client.take(0.02) if at in (0, 3, 5) else client.take(0)
        client.opens_windows = True
        for stream in rows:
            client.acknowledge(stream)
        client.change({WINDOW: 65_535})
        client.until(rows)
        check(client, rows)


@pytest.mark.parametrize("size", [0, 100, 4095])
def test_a_client_that_keeps_a_small_table(server: Threaded, size: int) -> None:
    with H2Client(server.grpc, {TABLE: size}) as client:
        rows = {}
        for at in range(3):
            stream = client.open()
            raw, rows[stream] = asked(10, at)
            client.send(stream, raw, is_last=True)
            client.until(rows)
        check(client, rows)


def test_trailers_end_a_request_too(server: Threaded) -> None:
    with H2Client(server.grpc) as client:
        stream = client.open()
        raw, row = asked(10)
        client.connection.send_data(stream, raw)
        client.connection.send_headers(stream, [(b"x", b"y")], end_stream=True)
        client.until([stream])
        check(client, {stream: row})


def test_a_stream_of_messages(server: Threaded) -> None:
    with H2Client(server.grpc, {WINDOW: 3000}) as client:
        stream = client.open(STREAM)
        requests = [asked(1000 + at, at) for at in range(60)]
        client.send(stream, b"".join(raw for raw, _ in requests), is_last=True)
        client.until([stream])
        replies = map(inference.ModelStreamInferResponse.FromString, client.answers[stream].messages)
        assert [reply.infer_response.raw_output_contents[0] for reply in replies] == [row for _, row in requests]
        assert client.answers[stream].status == b"0"


def test_calls_that_are_refused_end_well(server: Threaded) -> None:
    with H2Client(server.grpc) as client:
        streams = [
            client.open("/no/such"),
            client.open(INFER, (b"grpc-timeout", b"soon")),
            client.open(),
        ]
        client.send(streams[2], b"\x09\0\0\0\0", is_last=False)
        client.until(streams)
        assert [client.answers[stream].status for stream in streams] == [b"12", b"3", b"3"]
        good = client.open()
        raw, row = asked(10)
        client.send(good, raw, is_last=True)
        client.until([good])
        check(client, {good: row})


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
def test_any_conversation(server: Threaded, seed: int) -> None:
    """Calls of any size, cut anywhere, some taken back, windows and settings that change meanwhile: the others are answered."""
    random = Random(seed)
    with H2Client(server.grpc, {WINDOW: random.choice([1, 1000, 65_535, 1 << 20])}) as client:
        rows: dict[int, bytes] = {}
        cancelled: set[int] = set()
        for at in range(120):
            match random.randrange(8):
                case 0 | 1 | 2:
                    stream = client.open()
                    raw, rows[stream] = asked(random.choice([1, 100, 5_000, 60_000]), at)
                    client.send(stream, raw, is_last=True)
                case 3 if rows:
                    stream = random.choice(list(rows))
                    if not client.answers[stream].is_over:
                        client.cancel(stream)
                        cancelled.add(stream)
                case 4:
                    client.change({WINDOW: random.choice([0, 10, 5_000, 65_535, 1 << 20])})
                case 5:
                    client.change({FRAME: random.choice([16_384, 20_000, 1 << 20])})
                case 6:
                    client.connection.ping(bytes(8))
                case 7:
                    client.opens_windows = not client.opens_windows
            client.upload(random.choice([1, 50, 20_000]), random.choice([None, None, 0, 200]))
            client.flush()
            client.take(0)
        client.opens_windows = True
        client.change({WINDOW: 1 << 20})
        for stream in client.owed:
            if stream not in cancelled:
                client.acknowledge(stream)
        client.connection.increment_flow_control_window(1 << 24)
        rows = {stream: row for stream, row in rows.items() if stream not in cancelled}
        client.until(rows)
        check(client, rows)
