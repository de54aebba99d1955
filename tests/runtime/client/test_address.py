"""Addresses: the forms that work, and what the others are told."""

import pytest

from runtime.client.address import Address, Protocol, bearer, parse_address
from runtime.errors import WrongUseError


@pytest.mark.parametrize(
    ("text", "protocol", "address"),
    [
        ("127.0.0.1:8001", Protocol.GRPC, Address("127.0.0.1", 8001)),
        ("grpc://gateway.example:443", Protocol.GRPC, Address("gateway.example", 443)),
        ("[::1]:8001", Protocol.GRPC, Address("::1", 8001)),
        ("unix:/run/edgeward.sock", Protocol.GRPC, Address("", 0, "/run/edgeward.sock")),
        ("unix:///run/edgeward.sock", Protocol.GRPC, Address("", 0, "/run/edgeward.sock")),
        ("localhost:8000", Protocol.HTTP, Address("localhost", 8000)),
        ("http://localhost:8000/", Protocol.HTTP, Address("localhost", 8000)),
        ("grpcs://[::1]:443", Protocol.GRPC, Address("::1", 443, scheme="grpcs")),
        ("https://gateway.example:443/", Protocol.HTTP, Address("gateway.example", 443, scheme="https")),
        ("unix:/run/edgeward.sock", Protocol.HTTP, Address("", 0, "/run/edgeward.sock")),
    ],
)
def test_forms(text: str, protocol: Protocol, address: Address) -> None:
    assert parse_address(text, protocol) == address
    assert parse_address(str(address), protocol) == address


@pytest.mark.parametrize(
    ("text", "protocol", "says"),
    [
        ("", Protocol.GRPC, "the port is missing"),
        ("localhost", Protocol.GRPC, "the port is missing"),
        ("localhost:", Protocol.GRPC, "'' is no port"),
        ("localhost:0", Protocol.GRPC, "'0' is no port from 1 to 65535"),
        ("localhost:65536", Protocol.GRPC, "'65536' is no port"),
        ("localhost:٣", Protocol.GRPC, "is no port"),
        (":8001", Protocol.GRPC, "'' is no host"),
        ("a b:8001", Protocol.GRPC, "'a b' is no host"),
        ("::1:8001", Protocol.GRPC, "stands in brackets"),
        (
            "http://localhost:8000",
            Protocol.GRPC,
            'http:// is for edgeward.RestClient, and this client speaks gRPC; expected "host:port", "grpc://host:port"',
        ),
        (
            "grpc://localhost:8001",
            Protocol.HTTP,
            'grpc:// is not spoken here; expected "host:port", "http://host:port", "https://host:port" (TLS) or "unix:/path"',
        ),
        ("http://localhost:8000/v2", Protocol.HTTP, "'8000/v2' is no port"),
        ("unix:", Protocol.GRPC, "the path is missing"),
        ("unix:", Protocol.HTTP, "the path is missing"),
    ],
)
def test_others_are_told_what_was_expected(text: str, protocol: Protocol, says: str) -> None:
    with pytest.raises(WrongUseError) as caught:
        parse_address(text, protocol)
    assert says in str(caught.value)
    assert "expected" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "is_local"),
    [
        ("127.0.0.9:1", True),
        ("[::1]:1", True),
        ("localhost:1", True),
        ("unix:/x", True),
        ("10.0.0.1:1", False),
        ("a.b:1", False),
    ],
)
def test_local(text: str, is_local: bool) -> None:
    assert parse_address(text, Protocol.GRPC).is_local is is_local


@pytest.mark.parametrize("key", ["", "secret key", "secret\n", "sécret"])
def test_a_key_that_cannot_travel_is_refused_without_showing_it(key: str) -> None:
    assert bearer("k-1") == "Bearer k-1"
    with pytest.raises(WrongUseError) as caught:
        bearer(key)
    assert "cret" not in str(caught.value)
