"""A unary call over grpcio whose message does not come is ended, with a word, and keeps nothing."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import numpy as np
import pytest

from protos import health, inference
from runtime.errors import UnauthenticatedError
from runtime.serving.bearer import Authorize
from runtime.serving.controls import Controls
from runtime.serving.grpc.server import GrpcServer
from runtime.serving.sockets import Endpoint
from tests.runtime.serving.clients import Call, GrpcClient, infer_message
from tests.runtime.serving.fake_service import FakeService
from tests.runtime.serving.raw_http2 import DATA, INFER, Http2, frame, message, open_call
from tests.runtime.serving.threaded import PATIENCE_S

ROW = {"x": np.array([[1, 2, 3]], dtype=np.int64)}
GOOD = infer_message(Call("echo", ROW)).SerializeToString()
PATHS = {
    "ModelInfer": INFER,
    "ServerLive": inference.METHODS["ServerLive"].path,
    "Check": f"/{health.SERVICE}/Check",
    "Watch": f"/{health.SERVICE}/Watch",
}


@asynccontextmanager
async def serving(folder: Path, message_limit_s: float, authorize: Authorize | None = None) -> AsyncIterator[str]:
    controls = Controls.under(folder, 1 << 20, "off")
    server = GrpcServer(FakeService(), controls, authorize=authorize, message_limit_s=message_limit_s)
    at = server.bind(Endpoint("127.0.0.1", 0))
    await server.start()
    try:
        yield str(at)
        assert controls.load.in_flight == 0
    finally:
        await server.stop(0)


def silent(address: str, path: str) -> tuple[grpc.StatusCode, str]:
    """Opens a call that sends nothing, and waits to be told."""
    is_over = threading.Event()

    def nothing() -> Iterator[bytes]:
        is_over.wait(PATIENCE_S)
        yield from ()

    with grpc.insecure_channel(address) as channel:
        call = channel.stream_stream(path)(nothing(), timeout=PATIENCE_S)
        try:
            with pytest.raises(grpc.RpcError):
                list(call)
        finally:
            is_over.set()
        return call.code(), call.details()


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
async def test_a_call_without_a_message_is_ended(tmp_path: Path, path: str) -> None:
    async with serving(tmp_path, 0.1) as at:
        code, text = await asyncio.to_thread(silent, at, path)
    assert code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert "was not whole after 0.1 s" in text


async def test_half_a_message_is_as_good_as_none_and_others_are_answered(tmp_path: Path) -> None:
    def ask(at: str) -> None:
        with Http2(at) as client:
            for stream in range(1, 40, 2):
                client.send(open_call(stream) + frame(DATA, 0, stream, message(GOOD)[:20]))
            other = GrpcClient(at)
            assert other.send(Call("echo", ROW)).status == "OK"
            other.close()
            assert all(client.until_ended(stream) for stream in range(1, 40, 2))

    async with serving(tmp_path, 0.1) as at:
        await asyncio.to_thread(ask, at)


async def test_a_message_that_comes_in_time_is_answered(tmp_path: Path) -> None:
    def ask(at: str) -> None:
        with Http2(at) as client:
            client.send(open_call(1) + frame(DATA, 0, 1, message(GOOD)[:20]))
            client.send(frame(DATA, 1, 1, message(GOOD)[20:]))
            assert client.until(DATA, 1) is not None

    async with serving(tmp_path, PATIENCE_S) as at:
        await asyncio.to_thread(ask, at)


async def test_a_caller_without_a_key_is_refused_before_its_message_is_taken(tmp_path: Path) -> None:
    def nobody(key: str | None) -> None:
        raise UnauthenticatedError("no key is good here")

    async with serving(tmp_path, PATIENCE_S, nobody) as at:
        code, _ = await asyncio.to_thread(silent, at, INFER)
    assert code is grpc.StatusCode.UNAUTHENTICATED
