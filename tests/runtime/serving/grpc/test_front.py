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
    assert chosen.is_native
    assert "--grpc-front grpcio" in chosen.reason
    assert "no deflate" in chosen.reason, "what it cannot do is said"


@pytest.mark.usefixtures("installed")
def test_auto_takes_grpcio_where_others_reach_it_or_tls_is_asked_for() -> None:
    public = choose_front(GrpcFront.AUTO, is_loopback=False, has_tls=False)
    secured = choose_front(GrpcFront.AUTO, is_loopback=True, has_tls=True)
    assert (public.is_native, secured.is_native) == (False, False)
    assert "no cap" in public.reason
    assert "no TLS" in secured.reason


@pytest.mark.usefixtures("installed")
def test_what_is_asked_for_is_taken() -> None:
    assert choose_front(GrpcFront.NATIVE, is_loopback=False, has_tls=False).is_native
    assert not choose_front(GrpcFront.GRPCIO, is_loopback=True, has_tls=False).is_native
    with pytest.raises(WrongUseError, match="no TLS"):
        choose_front(GrpcFront.NATIVE, is_loopback=True, has_tls=True)


@pytest.mark.usefixtures("absent")
def test_without_the_package_auto_is_grpcio_and_native_is_refused() -> None:
    chosen = choose_front(GrpcFront.AUTO, is_loopback=True, has_tls=False)
    assert not chosen.is_native
    assert "edgeward[fast]" in chosen.reason
    with pytest.raises(WrongUseError, match="not installed"):
        choose_front(GrpcFront.NATIVE, is_loopback=True, has_tls=False)


@pytest.mark.usefixtures("installed")
def test_windows_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    assert "Windows" in choose_front(GrpcFront.AUTO, is_loopback=True, has_tls=False).reason


def test_a_server_says_its_front(front: str) -> None:
    with serving(grpc_front=front) as server:
        assert server.at.grpc_front.startswith(front)
