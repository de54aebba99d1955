"""Why a server cannot be reached, in words for people: gRPC's own ones are told without its way to them."""

import socket

import grpc
import numpy as np
import pytest

from runtime.client import connect
from runtime.client.address import Protocol, parse_address
from runtime.client.channel import error_of
from runtime.client.failures import unreachable, with_next_step
from runtime.client.rest import RestClient
from runtime.errors import PeerUnreachableError

HERE = parse_address("127.0.0.1:8001", Protocol.GRPC)


@pytest.mark.parametrize(
    ("details", "says"),
    [
        (
            "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:8001: Failed to connect to remote host: "
            "Connection refused",
            "127.0.0.1:8001 is unreachable: Connection refused; check the address",
        ),
        (
            "failed to connect to all addresses; last error: INTERNAL: ipv4:127.0.0.1:8000: Failed parsing HTTP/2 (Expected "
            "SETTINGS frame as the first frame, got frame type 80) (Trying to connect an http1.x server (HTTP status 400))",
            "speaks HTTP/1 and not gRPC",
        ),
        ("Socket closed", "is unreachable: Socket closed; check"),
    ],
)
def test_of_grpcs_words_the_cause_is_told(details: str, says: str) -> None:
    error = error_of(HERE, grpc.StatusCode.UNAVAILABLE, details, None, 1.0)
    assert isinstance(error, PeerUnreachableError)
    assert says in str(error)
    assert "last error" not in str(error)


def test_both_clients_say_refused_alike() -> None:
    with socket.socket() as bound:  # bound and not listening: refused, and nobody else's
        bound.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{bound.getsockname()[1]}"
        said = []
        for client in (connect(address), RestClient(address)):
            with client, pytest.raises(PeerUnreachableError) as caught:
                client.predict("digits", {"image": np.zeros(1)})
            said.append(str(caught.value))
    assert said[0] == said[1]
    assert f"{address} is unreachable: Connection refused; check" in said[0]


def test_who_knows_the_program_says_what_to_do_next() -> None:
    error = with_next_step(unreachable(HERE, "Connection refused"), "start it")
    assert str(error) == "127.0.0.1:8001 is unreachable: Connection refused; start it"
