"""Bodies that follow a known head in pieces: put together aligned, bounded, and answered as those that come whole."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import numpy as np
import pytest

from runtime.errors import OverloadedError
from runtime.serving.reading import Reading
from runtime.serving.rest.gathering import ALIGNED_BYTES, Gathering
from tests.runtime.serving.grpc.test_server import only_sesame
from tests.runtime.serving.rest.test_whole_requests import FakeTransport, connections, feed, request, serving, status_of
from tests.runtime.serving.threaded import PATIENCE_S

BODY = bytes(range(100))
LARGE = np.arange(8_000, dtype=np.int64)


@pytest.mark.parametrize("tensors_at", [0, 1, 37, 100])
def test_tensors_are_aligned_and_nobody_can_change_them(tensors_at: int) -> None:
    reading = Reading(1000)
    gathering = Gathering(b"head", len(BODY), tensors_at, reading)
    assert bytes(gathering.take(BODY[:40])) == b""
    assert not gathering.is_whole
    assert gathering.so_far() == b"head" + BODY[:40]
    assert bytes(gathering.take(BODY[40:] + b"next")) == b"next"
    assert gathering.is_whole
    assert reading.held_bytes == len(BODY)
    gathering.give_back()
    assert reading.held_bytes == 0
    body = gathering.body()
    assert body == BODY
    assert body.readonly
    assert (np.frombuffer(body, np.uint8).ctypes.data + tensors_at) % ALIGNED_BYTES == 0


def test_what_is_past_the_bound_is_not_taken() -> None:
    gathering = Gathering(b"head", len(BODY), 0, Reading(50))
    gathering.take(BODY[:40])
    with pytest.raises(OverloadedError):
        gathering.take(BODY[40:])
    assert gathering.so_far() == b"head" + BODY[:40]


async def test_past_the_bound_the_long_way_refuses(tmp_path: Path) -> None:
    _, make = connections(tmp_path)
    asked = large()
    cut = asked.index(b"\r\n\r\n") + 100
    assert (await feed(make(), [asked])).startswith(b"HTTP/1.1 200 ")
    connection, transport = make(), FakeTransport()
    reading = connection.app._infer._reading
    reading._max_bytes = 200
    connection.connection_made(transport)
    connection.data_received(asked[:cut])
    assert reading.held_bytes == 96, "what is behind the head's last line"
    connection.data_received(asked[cut : cut + 200])
    async with asyncio.timeout(PATIENCE_S):
        while not transport.written:  # noqa: ASYNC110  (a transport that is no transport tells nobody)
            await asyncio.sleep(0)
    assert transport.written.startswith(b"HTTP/1.1 503 ")
    assert reading.held_bytes == 0
    connection.connection_lost(None)


async def test_a_body_in_pieces_is_answered_whole(tmp_path: Path) -> None:
    asked = large()
    async with serving(tmp_path) as here:
        (first,) = await here.ask(asked)
        cut = asked.index(b"\r\n\r\n") + 4
        for parts in ((asked[:cut], asked[cut:]), (asked[: cut + 9], asked[cut + 9 : -1], asked[-1:] + asked)):
            answers = await here.ask(*parts, answers=1 + (len(parts) == 3))
            assert set(map(repr, answers)) == {repr(first)}
        assert first[2].endswith(LARGE.tobytes())


async def test_a_client_that_leaves_in_the_middle_holds_nothing(tmp_path: Path) -> None:
    _, make = connections(tmp_path)
    asked = large()
    await feed(make(), [asked])
    connection = make()
    assert await feed(connection, [asked[:2000]]) == b""
    assert connection.app._infer._reading.held_bytes == 0


async def test_without_a_key_nothing_is_held(tmp_path: Path) -> None:
    asked = request(authorization="Bearer wrong")
    async with serving(tmp_path, only_sesame) as here:
        for _ in range(2):
            assert status_of(await here.ask(asked)) == 401
        # The answer comes before the body is whole.
        assert status_of(await here.ask(asked[:-1])) == 401


def large() -> bytes:
    tensor = {"name": "x", "datatype": "INT64", "shape": [8000], "parameters": {"binary_data_size": LARGE.nbytes}}
    document = {"inputs": [tensor], "parameters": {"binary_data_output": True}}
    return request(document=json.dumps(document).encode(), raw=LARGE.tobytes())
