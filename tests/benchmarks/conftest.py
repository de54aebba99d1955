"""Servers of the protocol whose slowness is known, on real sockets."""

from collections.abc import Callable, Iterator

import pytest

from benchmarks.fake_server import Behave, FakeServer, answer_at_once


@pytest.fixture
def serve() -> Iterator[Callable[..., FakeServer]]:
    """Starts servers; they end with the test."""
    servers: list[FakeServer] = []

    def start(behave: Behave = answer_at_once) -> FakeServer:
        servers.append(FakeServer(behave))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def fake_server(serve: Callable[..., FakeServer]) -> FakeServer:
    """One that answers at once."""
    return serve()
