"""One connection of an HTTP client: what is no HTTP is answered in JSON too, and a half-closed one gets its answer.

A client that closes the sending half of its connection looks like one that is gone: both send the same FIN. What tells them
apart is writing to it, which the kernel of a client that is gone refuses. So an interim `100 Continue`, which every HTTP/1.1
client has to read past (RFC 9110, 15.2), is written until the answer is there or the connection breaks; when it does, the
work is cancelled (see `hang_ups`).
"""

from __future__ import annotations

import asyncio
import json
from typing import Any, Final

from uvicorn.protocols.http.auto import AutoHTTPProtocol

FIRST_PROBE_S: Final = 0.005
"""Between the first probe and the next; the pauses double. The refusal of one is seen by the next."""
LONGEST_PROBE_S: Final = 1.0
_PROBE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


class HttpConnection(AutoHTTPProtocol):  # type: ignore[valid-type, misc]  # httptools' protocol where it is, else h11's
    """A connection of `HttpServer`. `moves` counts how often something has come in."""

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self.moves = 0

    @property
    def is_encrypted(self) -> bool:
        """Whether it speaks TLS, which cannot be half closed here."""
        return self.transport.get_extra_info("ssl_object") is not None

    def data_received(self, data: bytes) -> None:
        """Counts it, for `slow_clients`."""
        self.moves += 1
        super().data_received(data)

    def eof_received(self) -> bool | None:
        """The client sends no more. True keeps the connection for the answer to a whole request."""
        cycle = self.cycle
        if cycle is None or cycle.response_complete or self.is_encrypted:
            return None
        if cycle.more_body:
            self.refuse("400 Bad Request", "the connection ended before the request was complete; send it again, whole")
            return None
        if cycle.scope["http_version"] != "1.1":
            return None  # knows no interim responses
        cycle.keep_alive = False
        self._probe(cycle, FIRST_PROBE_S)
        return True

    def refuse(self, status: str, text: str) -> None:
        """Answers with `status` ("408 Request Timeout") and an error in JSON, past the application, and closes."""
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            body = json.dumps({"error": text}).encode()
            head = (
                f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\n"
                f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
            )
            self.transport.write(head.encode() + body)
        self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """uvicorn's, for what it cannot parse."""
        how = "over TLS" if self.is_encrypted else "without TLS"
        self.refuse("400 Bad Request", f"{msg.rstrip('.')}; this port speaks HTTP/1.1 {how}")

    def _probe(self, cycle: Any, pause_s: float) -> None:
        if cycle.response_started or cycle.disconnected or self.transport.is_closing():
            return
        self.transport.write(_PROBE)
        asyncio.get_running_loop().call_later(pause_s, self._probe, cycle, min(2 * pause_s, LONGEST_PROBE_S))
