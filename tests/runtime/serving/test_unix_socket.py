"""Unix sockets beside the ports: for this user alone, never taken from somebody, stale ones replaced, gone afterwards."""

import os
import socket
import stat
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest

from runtime.client.aio import AsyncClient
from runtime.client.rest import RestClient
from runtime.errors import PeerUnreachableError, PortInUseError, WrongUseError
from runtime.serving.grpc.front import GrpcFront
from runtime.serving.server import Server, run
from runtime.serving.settings import ServerSettings
from runtime.serving.unix_socket import MAX_PATH_BYTES, claim, listen_unix, remove
from tests.runtime.serving.fake_service import FakeService
from tests.runtime.serving.threaded import serving as serving_in_a_thread

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows' Python has no Unix sockets")

ROW = {"x": np.array([[1, 2, 3]], dtype=np.int64)}


@asynccontextmanager
async def serving(**settings: object) -> AsyncIterator[None]:
    server = Server(FakeService(), ServerSettings(grpc_port=0, http_port=0, **settings))  # type: ignore[arg-type]
    await server.start()
    try:
        yield
    finally:
        await server.stop(1)


@pytest.mark.parametrize("front", [GrpcFront.GRPCIO, GrpcFront.AUTO])
async def test_grpc_clients_reach_it_and_nobody_else_may(tmp_path: Path, front: GrpcFront) -> None:
    path = tmp_path / "grpc.sock"
    async with serving(uds=path, grpc_front=front):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        async with AsyncClient(f"unix:{path}") as client:
            answer = await client.predict("echo", ROW)
            np.testing.assert_array_equal(answer.outputs["x"], ROW["x"])
    assert not path.exists()


def test_rest_clients_reach_it_and_nobody_else_may(tmp_path: Path) -> None:
    path = tmp_path / "http.sock"
    with serving_in_a_thread(http_uds=path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        client = RestClient(f"unix:{path}")
        for _ in range(2):  # on a kept connection, too
            answer = client.predict("echo", ROW)
            np.testing.assert_array_equal(answer.outputs["x"], ROW["x"])
        client.close()
    assert not path.exists()
    with pytest.raises(PeerUnreachableError):
        RestClient(f"unix:{path}").is_live()


def test_it_works_on_the_loop_that_programs_run_on(tmp_path: Path) -> None:
    path = tmp_path / "http.sock"

    async def serve_once() -> None:
        async with serving(http_uds=path, uds=tmp_path / "grpc.sock"):
            with socket.socket(socket.AF_UNIX) as knock:
                knock.connect(str(path))

    run(serve_once())
    assert list(tmp_path.iterdir()) == []


def leave_behind(path: Path) -> None:
    """What a killed server leaves."""
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))


async def test_a_stale_socket_is_replaced(tmp_path: Path) -> None:
    for name in ("uds", "http_uds"):
        leave_behind(tmp_path / name)
    async with (
        serving(uds=tmp_path / "uds", http_uds=tmp_path / "http_uds"),
        AsyncClient(f"unix:{tmp_path / 'uds'}") as client,
    ):
        assert await client.is_live()


@pytest.mark.parametrize("name", ["uds", "http_uds"])
async def test_a_socket_that_somebody_lives_on_is_left_alone(tmp_path: Path, name: str) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as living:
        living.bind(str(path))
        living.listen()
        with pytest.raises(PortInUseError, match="another program listens on"):
            async with serving(**{name: path}):
                pass
        assert path.exists()


def test_what_cannot_be_a_socket_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for path, said in (
        (tmp_path / "file", "is no socket"),
        (tmp_path / "nowhere" / "s", "does not exist"),
        (tmp_path / ("x" * MAX_PATH_BYTES), "longer than"),
        (tmp_path / "file" / "s", "cannot be used"),
    ):
        with pytest.raises(WrongUseError, match=said):
            claim(path)
    assert (tmp_path / "file").read_text() == "mine"


def test_the_mode_holds_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        listen_unix(tmp_path / "s").close()
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == 0o600
    remove(tmp_path / "s")
    remove(tmp_path / "s")
    assert not (tmp_path / "s").exists()


def test_one_path_for_both_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a path of its own"):
        ServerSettings(uds=tmp_path / "s", http_uds=tmp_path / "s")
