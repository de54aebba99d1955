"""HTTP requests that arrive whole and with a head that was seen before: answered without parsing it, a task or ASGI's messages.

A client sends the same head with every request. What a head means is decided once, by the parser and the application; the same
bytes mean the same again (RFC 9112: with a Content-Length, the head alone says where a message ends and what it asks). Whatever
comes in pieces, is pipelined, or is out of the ordinary goes the long way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from runtime.serving.asking import Withdraw
from runtime.wire.repeats import Repeats
from runtime.wire.rest_body import Chunk

# A head with a long token has as much; what is longer is left to the parser.
MAX_HEAD_BYTES: Final = 4096
_END: Final = b"\r\n\r\n"
# What changes how a message is framed or answered, beyond its length.
_UNUSUAL: Final = frozenset({b"transfer-encoding", b"upgrade", b"expect"})

Reply = Callable[[bytes, Sequence[Chunk]], None]
"""Takes the status line and header fields of a reply, each line with its end, and the body."""

AskWhole = Callable[[bytes, Reply], Withdraw | None]
"""Answers a body, at once (None) or later; raises nothing."""


class AnswersWhole(Protocol):
    """An application that can be asked without ASGI."""

    heads: Repeats[bytes, KnownHead]

    def at_once(self, scope: Mapping[str, Any]) -> AskWhole | None:
        """Who answers requests with this head; None for those that go the long way."""


@dataclass(frozen=True, slots=True)
class KnownHead:
    """What the bytes of a head mean."""

    body_bytes: int
    ask: AskWhole


def look_up(heads: Repeats[bytes, KnownHead], data: bytes) -> tuple[KnownHead, bytes] | None:
    """The meaning of the head of `data` and the body behind it, where that is one whole request with a known head."""
    end = data.find(_END, 0, MAX_HEAD_BYTES) + len(_END)
    known = heads.get(data[:end])
    if known is None or len(data) - end != known.body_bytes:
        return None
    return known, data[end:]


def learn(app: AnswersWhole, data: bytes, scope: Mapping[str, Any]) -> None:
    """Keeps what the head of `data` means, one whole request that was parsed to `scope`, where it is a plain one."""
    end = data.find(_END, 0, MAX_HEAD_BYTES) + len(_END)
    headers = dict(scope["headers"])
    if end < len(_END) or scope["http_version"] != "1.1" or len(headers) != len(scope["headers"]):
        return
    if not _UNUSUAL.isdisjoint(headers) or headers.get(b"content-length") != b"%d" % (len(data) - end):
        return
    ask = app.at_once(scope)
    if ask is not None:
        app.heads.keep(data[:end], KnownHead(len(data) - end, ask))


class WholeRequest:
    """One such request under way: what uvicorn's connection asks of the cycle of a request and its response."""

    scope: Final = {"http_version": "1.1"}
    more_body: Final = False

    __slots__ = ("disconnected", "keep_alive", "response_complete", "response_started", "withdraw")

    def __init__(self) -> None:
        self.disconnected = False
        self.keep_alive = True
        self.response_started = self.response_complete = False
        self.withdraw: Withdraw | None = None

    def cancel(self) -> None:
        """Nobody waits for the answer any more."""
        self.disconnected = True
        if self.withdraw is not None:
            self.withdraw()
