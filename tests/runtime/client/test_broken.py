"""What only one client can meet: a server killed under a call, a kept connection gone, a cancelled task."""

import asyncio
import contextlib
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from protos import inference
from runtime import errors
from runtime.client import connect, connections
from runtime.client.aio import AsyncClient
from runtime.client.rest import RestClient

ROOT = Path(__file__).parents[3]
X = np.array([[1.5, -2.0]], dtype=np.float32)

# Says its port, then accepts one inference and never answers it.
MUTE_SERVER = """
import sys, threading
from concurrent.futures import ThreadPoolExecutor
import grpc
from protos import inference
method = inference.METHODS["ModelInfer"]
def infer(request, context):
    print("arrived", flush=True)
    threading.Event().wait()
handler = grpc.unary_unary_rpc_method_handler(infer, method.request.FromString, method.response.SerializeToString)
server = grpc.server(ThreadPoolExecutor(1))
server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(inference.SERVICE, {method.name: handler})])
print(server.add_insecure_port("127.0.0.1:0"), flush=True)
server.start()
server.wait_for_termination()
"""


@pytest.mark.slow
def test_a_server_killed_in_the_middle_of_a_call_is_unreachable() -> None:
    with subprocess.Popen([sys.executable, "-c", MUTE_SERVER], stdout=subprocess.PIPE, text=True, cwd=ROOT) as server:
        try:
            assert server.stdout is not None
            with connect(f"127.0.0.1:{server.stdout.readline().strip()}", timeout_s=60) as client:
                failed: list[BaseException] = []

                def call() -> None:
                    try:
                        client.predict("m", {"x": X})
                    except errors.EdgewardError as error:
                        failed.append(error)

                thread = threading.Thread(target=call)
                thread.start()
                assert server.stdout.readline() == "arrived\n"
                server.kill()
                thread.join()
                assert [type(error) for error in failed] == [errors.PeerUnreachableError]
                with pytest.raises(errors.PeerUnreachableError):
                    client.is_live()
        finally:
            server.kill()


def test_a_kept_connection_that_the_server_closed_is_replaced(
    http_server: tuple[ThreadingHTTPServer, str],
) -> None:
    server, address = http_server
    connections: set[socket.socket] = server.RequestHandlerClass.connections  # type: ignore[attr-defined]
    with RestClient(address) as client:
        assert client.is_live()
        assert client.is_live()
        assert len(connections) == 1
        next(iter(connections)).shutdown(socket.SHUT_RDWR)
        assert client.is_live()
        assert len(connections) == 2


def test_tritons_400_is_a_server_that_is_not_ready(http_server: tuple[Any, str], answers: Any) -> None:
    answers.not_ready = errors.InvalidInputError("")
    with RestClient(http_server[1]) as client:
        assert client.is_ready() is False


async def test_a_cancelled_task_withdraws_its_call(grpc_server: tuple[Any, str], answers: Any) -> None:
    async with AsyncClient(grpc_server[1], timeout_s=30) as client:
        task = asyncio.create_task(client.predict("slow", {"x": X}))
        await asyncio.to_thread(answers.arrived.wait)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await client.is_live()


async def test_closing_the_client_ends_its_calls_with_our_error(grpc_server: tuple[Any, str], answers: Any) -> None:
    client = AsyncClient(grpc_server[1], timeout_s=30)
    task = asyncio.create_task(client.predict("slow", {"x": X}))
    await asyncio.to_thread(answers.arrived.wait)
    await client.close()
    with pytest.raises(errors.CancelledError, match="was closed during the call"):
        await task


def test_the_servers_cap_is_too_large_a_payload(grpc_server: tuple[Any, str]) -> None:
    with connect(grpc_server[1]) as client, pytest.raises(errors.PayloadTooLargeError, match="larger than max"):
        client.predict("double", {"x": np.zeros((2**18, 2), np.float32)})


def test_a_reply_over_grpcs_default_cap_arrives(grpc_server: tuple[Any, str], http_server: tuple[Any, str]) -> None:
    value = np.zeros((100_000, 2), np.float32)
    with connect(grpc_server[1]) as client:
        assert client.predict("double", {"x": value}).outputs["y"].shape == value.shape
    value = np.zeros((600_000, 2), np.float32)  # 4.8 MB
    with RestClient(http_server[1]) as rest:
        assert rest.predict("double", {"x": value}).outputs["y"].shape == value.shape


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no Unix sockets here")
def test_a_unix_socket_is_an_address_too(tmp_path: Path) -> None:
    path = tmp_path / "s"
    if len(str(path)) > 100:
        pytest.skip("the temporary folder's name is too long for a Unix socket")
    method = inference.METHODS["ServerLive"]
    handler = grpc.unary_unary_rpc_method_handler(
        lambda request, context: inference.ServerLiveResponse(live=True),
        method.request.FromString,
        method.response.SerializeToString,
    )
    own = grpc.server(ThreadPoolExecutor(1))
    own.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(inference.SERVICE, {method.name: handler})])
    own.add_insecure_port(f"unix:{path}")
    own.start()
    try:
        with connect(f"unix:{path}") as client:
            assert client.is_live()
    finally:
        own.stop(None).wait()


OK = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"


@contextlib.contextmanager
def answering(*parts: bytes, pause_s: float = 0.0) -> Iterator[str]:
    """A server that sends these bytes to its one caller, with pauses between them, and then hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        gone = threading.Event()

        def answer() -> None:
            listener.settimeout(30)
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError):
                connection.recv(1 << 16)
                for part in parts:
                    connection.sendall(part)
                    gone.wait(pause_s)

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            gone.set()
            thread.join()


def test_an_answer_that_breaks_off_is_no_answer() -> None:
    with (
        answering(OK % 10, b"{}") as address,
        RestClient(address) as client,
        pytest.raises(errors.PeerUnreachableError, match="8 bytes are missing"),
    ):
        client.server()


def test_a_server_that_dribbles_is_left_at_the_timeout() -> None:
    with (
        answering(OK % 100, *[b" "] * 100, pause_s=0.02) as address,
        RestClient(address, timeout_s=0.1) as client,
        pytest.raises(errors.DeadlineExceededError),
    ):
        client.server()


def test_a_reply_over_the_cap_is_not_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "_MAX_REPLY_BYTES", 100)
    with (
        answering(OK % 101, b" " * 101) as address,
        RestClient(address) as client,
        pytest.raises(errors.PeerFailedError, match="larger than 100 bytes"),
    ):
        client.server()
