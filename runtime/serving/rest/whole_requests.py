"""HTTP requests that arrive whole and with a head that was seen before: answered without parsing it, a task or ASGI's messages.

A client sends the same head with every request. What a head means is decided once, by the parser and the application; the same
bytes mean the same again (RFC 9112: with a Content-Length, the head alone says where a message ends and what it asks). A body may
follow its head in pieces (`gathering`). Whatever is pipelined or out of the ordinary goes the long way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from runtime.serving.asking import Withdraw
from runtime.serving.reading import Reading
from runtime.tensors import Chunk
from runtime.wire.repeats import Repeats
from runtime.wire.rest_body import HEADER_LENGTH

# A head with a long token has as much; what is longer is left to the parser.
MAX_HEAD_BYTES: Final = 4096
_END: Final = b"\r\n\r\n"
_LENGTH_KEY: Final = HEADER_LENGTH.lower().encode()
# More digits than this are beyond any body.
_MAX_DIGITS: Final = 15
# What changes how a message is framed or answered, beyond its length.
_UNUSUAL: Final = frozenset({b"transfer-encoding", b"upgrade", b"expect"})

Reply = Callable[[bytes, Sequence[Chunk]], None]
"""Takes the status line and header fields of a reply, each line with its end, and the body."""

AskWhole = Callable[[Chunk, Reply], Withdraw | None]
"""Answers a body, at once (None) or later; raises nothing."""

MayGather = Callable[[], Reading | None]
"""What bounds the body of a request that has only begun; None where the long way has something to say before it is whole."""


class AnswersWhole(Protocol):
    """An application that can be asked without ASGI."""

    heads: Repeats[bytes, KnownHead]

    def at_once(self, scope: Mapping[str, Any]) -> tuple[AskWhole, MayGather] | None:
        """Who answers requests with this head; None for those that go the long way."""


@dataclass(frozen=True, slots=True)
class KnownHead:
    """What the bytes of a head mean."""

    body_bytes: int
    tensors_at: int
    """Where in the body its raw tensors begin."""
    ask: AskWhole
    may_gather: MayGather


def look_up(heads: Repeats[bytes, KnownHead], data: bytes) -> tuple[KnownHead, int] | None:
    """The meaning of the head of `data` and where its body begins: of one request with a known head, whole or begun."""
    end = data.find(_END, 0, MAX_HEAD_BYTES) + len(_END)
    known = heads.get(data[:end])
    if known is None or len(data) - end > known.body_bytes:
        return None
    return known, end


def learn(app: AnswersWhole, data: bytes, scope: Mapping[str, Any]) -> None:
    """Keeps what the head of `data` means, one request, whole or begun, parsed to `scope`, where it is a plain one."""
    end = data.find(_END, 0, MAX_HEAD_BYTES) + len(_END)
    headers = dict(scope["headers"])
    if end < len(_END) or scope["http_version"] != "1.1" or len(headers) != len(scope["headers"]):
        return
    # A parser may pass over empty lines before the head and take a bare LF for a line's end: then this is not where it ends.
    if not data.startswith(b"%b " % scope["method"].encode()):
        return
    if data.count(b"\n", 0, end) != data.count(b"\r\n", 0, end):
        return
    body_bytes = _plain_number(headers.get(b"content-length"))
    if not _UNUSUAL.isdisjoint(headers) or body_bytes is None or body_bytes < len(data) - end:
        return
    answers = app.at_once(scope)
    if answers is not None:
        tensors_at = min(_plain_number(headers.get(_LENGTH_KEY)) or 0, body_bytes)
        app.heads.keep(data[:end], KnownHead(body_bytes, tensors_at, *answers))


def _plain_number(given: bytes | None) -> int | None:
    """The number that `given` writes in digits and nothing else; None where it is none, or beyond any body."""
    if given is None or len(given) > _MAX_DIGITS or not given.isdigit():
        return None
    number = int(given)
    return number if given == b"%d" % number else None


class WholeRequest:
    """One such request under way: what uvicorn's connection asks of the cycle of a request and its response."""

    scope: Final = {"http_version": "1.1"}

    __slots__ = ("disconnected", "keep_alive", "more_body", "response_complete", "response_started", "withdraw")

    def __init__(self, *, more_body: bool = False) -> None:
        self.more_body = more_body
        self.disconnected = False
        self.keep_alive = True
        self.response_started = self.response_complete = False
        self.withdraw: Withdraw | None = None

    def cancel(self) -> None:
        """Nobody waits for the answer any more. Twice is fine."""
        if self.disconnected:
            return
        self.disconnected = True
        if self.withdraw is not None:
            self.withdraw()
            self.withdraw = None
