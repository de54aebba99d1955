"""HTTP connections to either kind of address: a host and port, or a Unix socket."""

from __future__ import annotations

import http.client
import socket

from runtime.client.address import Address


def connection_to(address: Address) -> http.client.HTTPConnection:
    """A connection that is not made yet."""
    return _UnixConnection(address.path) if address.path else http.client.HTTPConnection(address.host, address.port)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost")  # what HTTP/1.1 wants as Host
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
