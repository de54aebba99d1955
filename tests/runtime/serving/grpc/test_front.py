"""Which gRPC front listens, and why: every case, said in a sentence."""

import sys
from importlib.metadata import PackageNotFoundError

import pytest

from runtime.errors import WrongUseError
from runtime.serving.grpc import front as grpc_front
from runtime.serving.grpc.front import GrpcFront, choose_front
from tests.runtime.serving.threaded import serving


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grpc_front, "version", lambda package: "0.5.0")
    monkeypatch.setattr(sys, "platform", "linux")


@pytest.fixture
def absent(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(package: str) -> str:
        raise PackageNotFoundError(package)

    monkeypatch.setattr(grpc_front, "version", missing)
    monkeypatch.setattr(sys, "platform", "linux")


@pytest.mark.usefixtures("installed")
def test_auto_takes_the_native_front_where_it_can() -> None:
    chosen = choose_front(GrpcFront.AUTO, is_loopback=True, has_tls=False)
    assert chosen.front is GrpcFront.NATIVE
    assert "--grpc-front asyncio" in chosen.reason
    assert "no deflate" in chosen.reason, "what it cannot do is said"


@pytest.mark.usefixtures("installed")
def test_auto_takes_grpcio_where_others_reach_it_or_tls_is_asked_for() -> None:
    public = choose_front(GrpcFront.AUTO, is_loopback=False, has_tls=False)
    secured = choose_front(GrpcFront.AUTO, is_loopback=True, has_tls=True)
    assert (public.front, secured.front) == (GrpcFront.GRPCIO, GrpcFront.GRPCIO)
    assert "others can reach" in public.reason
    assert "no TLS" in secured.reason


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("front", [GrpcFront.NATIVE, GrpcFront.ASYNCIO, GrpcFront.GRPCIO])
def test_what_is_asked_for_is_taken(front: GrpcFront) -> None:
    assert choose_front(front, is_loopback=False, has_tls=False).front is front


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("front", [GrpcFront.NATIVE, GrpcFront.ASYNCIO])
def test_tls_is_grpcios(front: GrpcFront) -> None:
    with pytest.raises(WrongUseError, match=r"no TLS; choose --grpc-front grpcio"):
        choose_front(front, is_loopback=True, has_tls=True)


@pytest.mark.usefixtures("absent")
def test_without_the_package_auto_is_asyncio_and_native_is_refused() -> None:
    chosen = choose_front(GrpcFront.AUTO, is_loopback=True, has_tls=False)
    assert chosen.front is GrpcFront.ASYNCIO
    assert "edgeward[fast]" in chosen.reason
    with pytest.raises(WrongUseError, match="not installed"):
        choose_front(GrpcFront.NATIVE, is_loopback=True, has_tls=False)


@pytest.mark.usefixtures("installed")
def test_windows_has_no_native_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    assert choose_front(GrpcFront.AUTO, is_loopback=True, has_tls=False).front is GrpcFront.ASYNCIO
    with pytest.raises(WrongUseError, match="Windows"):
        choose_front(GrpcFront.NATIVE, is_loopback=True, has_tls=False)


def test_a_server_says_its_front(front: str) -> None:
    with serving(grpc_front=front) as server:
        assert server.at.grpc_front.startswith(front)
