"""HTTP/1.1 exchanges on kept-alive connections, with one deadline over all their steps; knows nothing of the protocol."""

from __future__ import annotations

import http.client
import re
import ssl
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from runtime.client.address import Address
from runtime.client.failures import closed, too_late, unreachable
from runtime.client.request import MAX_MESSAGE_BYTES
from runtime.client.unix_http import connection_to
from runtime.errors import EdgewardError, PeerFailedError, PeerUnreachableError
from runtime.wire.rest_body import HEADER_LENGTH, Body

# A JSON reply spells a float in up to 20 characters where raw bytes take 4.
_MAX_REPLY_BYTES = 5 * MAX_MESSAGE_BYTES
_READ_BYTES = 1 << 20
# RFC 9113: what a server sends first is a SETTINGS frame: 24 bits of length, type 4, flags, and 32 bits of stream 0.
_HTTP2_SETTINGS = re.compile(r"\0.{2}\x04.\0{4}", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer, whatever its status."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes


class Connections:
    """Connections to one server; threads may share it, each exchange has a connection to itself."""

    def __init__(self, address: Address, headers: Mapping[str, str], context: ssl.SSLContext | None = None) -> None:
        """`context`: whom to believe, where the address is encrypted; None: whom the operating system believes."""
        self._address = address
        self._headers = headers
        self._context = (context or ssl.create_default_context()) if address.is_secure else None
        self._idle: deque[http.client.HTTPConnection] = deque()  # append and pop are atomic
        self._is_closed = False

    def exchange(self, method: str, path: str, body: Body | None, timeout_s: float) -> Reply:
        """Sends on an idle connection or a new one; once more where the server had closed the idle one."""
        if self._is_closed:
            raise closed(self._address)
        until = _Until(time.monotonic() + timeout_s, timeout_s, self._address)
        try:
            connection, is_new = self._idle.pop(), False
        except IndexError:
            connection, is_new = connection_to(self._address, self._context), True
        try:
            try:
                reply, stays_open = _send(connection, method, path, self._headers, body, until)
            except (ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError):
                if is_new:
                    raise
                connection.close()
                reply, stays_open = _send(connection, method, path, self._headers, body, until)
        except BaseException as error:
            connection.close()
            if isinstance(error, OSError | http.client.HTTPException):
                raise _failure(error, until) from error
            raise
        if stays_open and not self._is_closed:
            self._idle.append(connection)
        else:
            connection.close()
        return reply

    def close(self) -> None:
        """Closes the idle connections now, the others once their answer is there."""
        self._is_closed = True
        while self._idle:
            self._idle.pop().close()


@dataclass(frozen=True, slots=True)
class _Until:
    """The end of an exchange."""

    deadline: float
    timeout_s: float
    address: Address

    def left_s(self) -> float:
        """Seconds left for the next step; `DeadlineExceededError` without any."""
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise too_late(self.address, self.timeout_s)
        return left


def _send(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    headers: Mapping[str, str],
    body: Body | None,
    until: _Until,
) -> tuple[Reply, bool]:
    """The reply, and whether the connection stays open. Each step on the socket has the time that is left."""
    headers = dict(headers)
    if body is not None:
        headers["Content-Type"] = body.content_type
        headers["Content-Length"] = str(body.size_bytes)
        if body.header_length is not None:
            headers[HEADER_LENGTH] = str(body.header_length)
    connection.timeout = until.left_s()
    if connection.sock is None:
        connection.connect()
    socket = connection.sock
    socket.settimeout(until.left_s())
    connection.request(method, path, iter(body.chunks) if body is not None else None, headers)
    socket.settimeout(until.left_s())
    response = connection.getresponse()
    chunks: list[bytes] = []
    size = 0
    while chunk := response.read1(_READ_BYTES):
        size += len(chunk)
        if size > _MAX_REPLY_BYTES:
            raise PeerFailedError(f"{until.address}: the reply is larger than {_MAX_REPLY_BYTES} bytes")
        chunks.append(chunk)
        socket.settimeout(until.left_s())
    if response.length:  # read1 does not mind an end that comes too early
        raise http.client.IncompleteRead(b"", response.length)
    response.close()  # all of it is read; http.client does not notice by itself
    found = {name.lower(): value for name, value in response.getheaders()}
    return Reply(response.status, found, b"".join(chunks)), not response.will_close


def _failure(error: OSError | http.client.HTTPException, until: _Until) -> EdgewardError:
    match error:
        case TimeoutError():
            return too_late(until.address, until.timeout_s)
        case http.client.IncompleteRead():
            return PeerUnreachableError(
                f"{until.address} broke off in the middle of its answer; {error.expected} bytes are missing"
            )
        case OSError():
            return unreachable(until.address, error.strerror or error)
        case http.client.BadStatusLine() if _HTTP2_SETTINGS.match(str(error.args[0])):
            return PeerUnreachableError(
                f"{until.address} speaks HTTP/2, so it is a gRPC port; give the REST port of this server (8000 unless told "
                "otherwise), or ask this one over gRPC: edgeward.connect"
            )
        case _:
            return PeerFailedError(f"{until.address} does not answer in HTTP: {error!r:.200}; is it the HTTP port?")
