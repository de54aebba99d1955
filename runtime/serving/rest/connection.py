"""One connection of an HTTP client: what is no HTTP is answered in JSON too, and a half-closed one gets its answer.

A client that closes the sending half of its connection looks like one that is gone: both send the same FIN. What tells them
apart is writing to it, which the kernel of a client that is gone refuses. So an interim `100 Continue`, which every HTTP/1.1
client has to read past (RFC 9110, 15.2), is written until the answer is there or the connection breaks; when it does, the
work is cancelled (see `hang_ups`).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from uvicorn.protocols.http.auto import AutoHTTPProtocol

from runtime.errors import OverloadedError
from runtime.serving.rest.gathering import Gathering
from runtime.serving.rest.whole_requests import AnswersWhole, KnownHead, WholeRequest, learn, look_up
from runtime.tensors import Chunk

FIRST_PROBE_S: Final = 0.005
"""Between the first probe and the next; the pauses double. The refusal of one is seen by the next."""
LONGEST_PROBE_S: Final = 1.0
_PROBE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
JOIN_BYTES: Final = 1 << 16
"""Up to here one write of the joined chunks costs less than a write for each."""


class HttpConnection(AutoHTTPProtocol):  # type: ignore[valid-type, misc]  # httptools' protocol where it is, else h11's
    """A connection of `HttpServer`. `moves` counts how often something has come in."""

    cycle: Any
    """uvicorn's, or a `WholeRequest`."""

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self.moves = 0
        self._whole: AnswersWhole | None = self.app if hasattr(self.app, "at_once") else None
        self._begun = self._ended = 0
        """Requests that the parser has seen begin and end; h11's protocol counts neither, so that it learns no heads."""
        self._idle_since = 0.0
        self._gathering: tuple[Gathering, KnownHead, WholeRequest] | None = None
        """The request whose head is known and whose body is still coming."""
        self._lines: tuple[list[tuple[bytes, bytes]], bytes] = [], b""

    @property
    def is_encrypted(self) -> bool:
        """Whether it speaks TLS, which cannot be half closed here."""
        return self.transport.get_extra_info("ssl_object") is not None

    def data_received(self, data: bytes) -> None:
        """Counts it, for `slow_clients`; a request with a known head is answered here."""
        self.moves += 1
        if self._gathering is not None:
            self._gather(*self._gathering, data)
            return
        whole, cycle, begun = self._whole, self.cycle, self._begun
        if whole is None or begun != self._ended or not (cycle is None or cycle.response_complete):
            super().data_received(data)
            return
        found = None if self.flow.write_paused else look_up(whole.heads, data)
        if found is not None and self._answer(*found, data):
            return
        super().data_received(data)
        # A cycle of its own: the parser has seen all of the head of this one request, and no other's.
        if self._begun == begun + 1 and self.cycle not in (None, cycle) and self.cycle.keep_alive:
            learn(whole, data, self.scope)

    def on_message_begin(self) -> None:
        """uvicorn's, counted."""
        self._begun += 1
        super().on_message_begin()

    def on_message_complete(self) -> None:
        """uvicorn's, counted."""
        self._ended += 1
        super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """uvicorn's, which knows its own cycles alone."""
        if self._gathering is not None:
            self._gathering[0].give_back()
            self._gathering = None
        if isinstance(self.cycle, WholeRequest):
            if not self.cycle.response_complete:
                self.cycle.cancel()
            self.cycle = None
        super().connection_lost(exc)

    def timeout_keep_alive_handler(self) -> None:
        """uvicorn's, for one timer that stays while whole requests come and go."""
        left_s = self._idle_since + self.timeout_keep_alive - self.loop.time()
        if isinstance(self.cycle, WholeRequest) and (left_s > 0 or not self.cycle.response_complete):
            self._wait_for_next(max(left_s, 1.0))
        else:
            super().timeout_keep_alive_handler()

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

    def cut_off(self) -> None:
        """Ends a whole request under way with an error."""
        cycle = self.cycle
        if isinstance(cycle, WholeRequest) and not cycle.response_complete:
            cycle.cancel()
            self.refuse(
                "503 Service Unavailable", "the server stopped before it could answer; retry, here or at another one"
            )

    def _answer(self, known: KnownHead, begins: int, data: bytes) -> bool:
        """Takes a request with a known head, whole or begun; False where it has to go the long way."""
        if len(data) - begins == known.body_bytes:
            cycle = self.cycle = WholeRequest()
            self._ask(known, cycle, data[begins:])
            return True
        reading = known.may_gather()
        if reading is None:
            return False
        cycle = self.cycle = WholeRequest(more_body=True)
        gathering = Gathering(data[:begins], known.body_bytes, known.tensors_at, reading)
        self._gathering = gathering, known, cycle
        self._gather(gathering, known, cycle, memoryview(data)[begins:])
        return True

    def _gather(self, gathering: Gathering, known: KnownHead, cycle: WholeRequest, data: Chunk) -> None:
        try:
            rest = gathering.take(data)
        except OverloadedError:  # the long way says so
            self._gathering = self.cycle = None
            gathering.give_back()
            super().data_received(gathering.so_far() + data)
            if self.cycle is not None and not cycle.keep_alive:
                self.cycle.keep_alive = False
            return
        if gathering.is_whole:
            self._gathering = None
            gathering.give_back()
            cycle.more_body = False
            self._ask(known, cycle, gathering.body())
            if rest:
                self.data_received(bytes(rest))

    def _ask(self, known: KnownHead, cycle: WholeRequest, body: Chunk) -> None:
        withdraw = known.ask(body, partial(self._reply, cycle))
        if not cycle.response_complete:
            cycle.withdraw = withdraw

    def _reply(self, cycle: WholeRequest, head: bytes, body: Sequence[Chunk]) -> None:
        if cycle.disconnected or self.transport.is_closing():
            return
        cycle.response_started = cycle.response_complete = True
        cycle.withdraw = None  # which holds the request: a connection that idles keeps none
        head += self._default_lines()
        head += b"\r\n" if cycle.keep_alive else b"connection: close\r\n\r\n"
        if sum(map(len, body)) <= JOIN_BYTES:
            self.transport.write(b"".join((head, *body)))
        else:
            self.transport.writelines((head, *body))
        if not cycle.keep_alive:
            self.transport.close()
        elif self.pipeline:
            self.on_response_complete()
        else:
            self.server_state.total_requests += 1
            self._idle_since = self.loop.time()
            if self.timeout_keep_alive_task is None:
                self._wait_for_next(self.timeout_keep_alive)

    def _default_lines(self) -> bytes:
        """Uvicorn's own header fields: the same list for a second, until the date is another."""
        fields = self.server_state.default_headers
        if self._lines[0] is not fields:
            self._lines = fields, b"".join(b"%b: %b\r\n" % field for field in fields)
        return self._lines[1]

    def _wait_for_next(self, left_s: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(left_s, self.timeout_keep_alive_handler)

    def _probe(self, cycle: Any, pause_s: float) -> None:
        if cycle.response_started or cycle.disconnected or self.transport.is_closing():
            return
        self.transport.write(_PROBE)
        asyncio.get_running_loop().call_later(pause_s, self._probe, cycle, min(2 * pause_s, LONGEST_PROBE_S))
