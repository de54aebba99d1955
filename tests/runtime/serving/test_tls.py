"""TLS: both ports encrypted, the client's choice of whom to believe, and what is said when it does not fit."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from runtime.client import connect
from runtime.client.aio import AsyncClient
from runtime.client.document import fetch_document
from runtime.client.rest import RestClient
from runtime.errors import PeerUnreachableError, WrongUseError
from runtime.serving.grpc.front import why_not_native
from runtime.serving.settings import ServerSettings
from runtime.serving.tls import ServerTls
from tests.certificates import issue
from tests.programs import started
from tests.runtime.serving.threaded import PATIENCE_S, Threaded, serving

X = {"x": np.ones((1, 2), np.float32)}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """See `issue`."""
    return issue(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def secured(files: Path) -> Iterator[Threaded]:
    with serving(tls_cert=files / "cert.pem", tls_key=files / "key.pem") as threaded:
        yield threaded


def test_every_client_of_ours_is_answered_over_tls(secured: Threaded, files: Path) -> None:
    at, ca = secured.at, files / "ca.pem"
    assert at.grpc_address == f"grpcs://{at.grpc}"
    assert at.http_address == f"https://{at.http}"
    with connect(at.grpc_address, ca_file=ca) as client:
        assert client.predict("echo", X).outputs
    with RestClient(at.http_address, ca_file=ca) as rest:
        for _ in range(3):  # the later ones on the connection that was kept
            assert rest.predict("echo", X).outputs

    async def ask() -> bool:
        async with AsyncClient(at.grpc_address, ca_file=ca) as client:
            return await client.is_live()

    assert secured.ask(ask())


@pytest.mark.parametrize("ca", ["other.pem", None], ids=["another CA", "the system's"])
def test_a_certificate_that_nobody_vouches_for_is_not_believed(secured: Threaded, files: Path, ca: str | None) -> None:
    ca_file = None if ca is None else files / ca
    with (
        connect(secured.at.grpc_address, ca_file=ca_file, timeout_s=PATIENCE_S) as client,
        pytest.raises(PeerUnreachableError),
    ):
        client.is_live()
    with (
        RestClient(secured.at.http_address, ca_file=ca_file, timeout_s=PATIENCE_S) as rest,
        pytest.raises(PeerUnreachableError, match="certificate verify failed"),
    ):
        rest.is_live()


def test_a_certificate_for_another_name_is_not_believed(secured: Threaded, files: Path) -> None:
    port, ca = secured.at.http.port, files / "ca.pem"
    with (
        RestClient(f"https://127.0.0.2:{port}", ca_file=ca, timeout_s=PATIENCE_S) as rest,
        pytest.raises(PeerUnreachableError),
    ):
        rest.is_live()


def test_who_speaks_in_the_clear_gets_nothing(secured: Threaded) -> None:
    with connect(secured.grpc, timeout_s=2) as client, pytest.raises(Exception, match="127.0.0.1"):
        client.is_live()
    with socket.create_connection((secured.at.http.host, secured.at.http.port), PATIENCE_S) as plain:
        plain.sendall(b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\n\r\n")
        assert b"200" not in plain.recv(100)


def test_old_versions_of_tls_are_refused(secured: Threaded, files: Path) -> None:
    context = ssl.create_default_context(cafile=files / "ca.pem")
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    at = secured.at.http
    with socket.create_connection((at.host, at.port), PATIENCE_S) as plain, pytest.raises((ssl.SSLError, OSError)):
        context.wrap_socket(plain, server_hostname="localhost")


def test_the_native_front_steps_aside_and_says_so(secured: Threaded) -> None:
    if (why_not := why_not_native(has_tls=False)) is not None:
        pytest.skip(why_not)
    assert secured.at.grpc_front == "grpcio: the other fronts have no TLS"


def test_a_status_believes_the_certificate_at_hand_alone(secured: Threaded, files: Path) -> None:
    document = fetch_document(secured.http, "/v2", tls_cert=files / "cert.pem")
    assert document["name"]
    with pytest.raises(PeerUnreachableError, match="certificate verify failed"):
        fetch_document(secured.http, "/v2", tls_cert=files / "other.pem")


@pytest.mark.parametrize(
    ("cert", "key", "words"),
    [
        ("cert.pem", "stranger.pem", "do not make a TLS identity"),
        ("key.pem", "key.pem", "do not make a TLS identity"),
        ("none.pem", "key.pem", "--tls-cert .*none.pem cannot be read: No such file"),
    ],
)
def test_what_is_no_identity_is_said_before_anything_listens(files: Path, cert: str, key: str, words: str) -> None:
    with pytest.raises(WrongUseError, match=words):
        ServerTls.read(files / cert, files / key)


def test_half_of_it_is_a_mistake(files: Path) -> None:
    with pytest.raises(ValueError, match="tls_cert is set without tls_key"):
        ServerSettings(tls_cert=files / "cert.pem")


def test_a_ca_for_a_plain_address_is_a_mistake(files: Path) -> None:
    for make in (connect, RestClient):
        with pytest.raises(WrongUseError, match="is given, but 127.0.0.1:8001 is not encrypted"):
            make("127.0.0.1:8001", ca_file=files / "ca.pem")
    with pytest.raises(WrongUseError, match="holds no PEM certificates"):
        connect("grpcs://127.0.0.1:8001", ca_file=files / "key.pem")
    with pytest.raises(WrongUseError, match="CA file nowhere cannot be read"):
        RestClient("https://127.0.0.1:8001", ca_file=Path("nowhere"))


@pytest.mark.slow
def test_an_agent_asks_its_gateway_over_tls(files: Path, tmp_path: Path) -> None:
    tls = ["--tls-cert", str(files / "cert.pem"), "--tls-key", str(files / "key.pem")]
    homes = tmp_path / "gateway", tmp_path / "agent"
    for home in homes:
        home.mkdir()
    ports = ("--grpc-port", "0", "--http-port", "0")
    with started(homes[0], "gateway", "run", "digits", *tls, *ports) as gateway:
        cloud = ["--gateway", gateway.grpc, "--gateway-ca", str(files / "ca.pem"), "--policy", "cloud_only"]
        with started(homes[1], "agent", "run", *cloud, *ports) as agent, connect(agent.grpc) as client:
            reply = client.predict("digits", {"image": np.zeros((1, 1, 8, 8), np.float32)}, timeout_s=PATIENCE_S)
    assert reply.parameters["served_by"] == "cloud"
