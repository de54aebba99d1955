"""HTTP connections to either kind of address: a host and port, or a Unix socket."""

from __future__ import annotations

import http.client
import socket
import ssl

from runtime.client.address import Address


def connection_to(address: Address, context: ssl.SSLContext | None) -> http.client.HTTPConnection:
    """A connection that is not made yet; encrypted, and the server's name checked, where there is a `context`."""
    if address.path:
        return _UnixConnection(address.path)
    if context is None:
        return http.client.HTTPConnection(address.host, address.port)
    return http.client.HTTPSConnection(address.host, address.port, context=context)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost")  # what HTTP/1.1 wants as Host
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
