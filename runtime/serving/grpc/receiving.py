"""The one message of a unary RPC: read here, and waited for no longer than `MESSAGE_LIMIT_S`.

grpcio reads a unary call's message before it calls the handler. It waits for one that never becomes whole as long as the connection
lives, and ends without a word a call that has none. So unary RPCs are registered as streams of requests, which are the same on the
wire, and their handlers read; a caller's key is then looked at before its message is taken, too. One timer looks at all calls
that wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import suppress
from types import coroutine
from typing import Any, Final

import grpc

from runtime.errors import DeadlineExceededError, InvalidInputError, PayloadTooLargeError
from runtime.serving.grpc.calls import Context, refuse

MESSAGE_LIMIT_S: Final = 300.0
"""As long as 64 MiB, the default cap of a message, take at 1.8 Mbit/s: a slow line passes, who has stopped does not. gRPC does not
tell how far a message has come."""


class Receiving:
    """The calls of one server whose messages are on their way. Lives on one event loop."""

    def __init__(self, limit_s: float = MESSAGE_LIMIT_S) -> None:
        self._limit_s = limit_s
        self._since: dict[Context, float] = {}
        """By when they came: the first has waited longest."""
        self._timer: asyncio.TimerHandle | None = None
        self._ending: set[asyncio.Task[None]] = set()

    async def read(self, context: Context) -> bytes:
        """The call's message. Where it does not come whole the call is ended here: `grpc.aio.AbortError`.

        `PayloadTooLargeError` where gRPC refused it and has ended the call; `grpc.aio.InternalError` where the client is gone.
        """
        loop = asyncio.get_running_loop()
        self._since[context] = loop.time()
        if self._timer is None:
            self._timer = loop.call_later(self._limit_s, self._look)
        try:
            raw, waited = await _read(context)
        finally:
            self._since.pop(context, None)
        if raw is grpc.aio.EOF:
            if waited is not None and waited.exception() is not None:
                raise PayloadTooLargeError("gRPC refused the message: it is larger, or unfolds to more, than is taken")
            await refuse(context, InvalidInputError("the call ended before its message was whole; send all of it"))
        message: bytes = raw
        return message

    def _look(self) -> None:
        """Ends the calls that have been waited for too long; comes back when the next one might have been."""
        loop = asyncio.get_running_loop()
        self._timer = None
        for context, since in list(self._since.items()):
            if (left_s := since + self._limit_s - loop.time()) > 0:
                self._timer = loop.call_later(left_s, self._look)
                return
            del self._since[context]
            task = loop.create_task(self._end(context))
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)

    async def _end(self, context: Context) -> None:
        late = f"the call's message was not whole after {self._limit_s:g} s; send it without pauses, or smaller ones"
        with suppress(grpc.aio.BaseError):  # AbortError: ended, as it should; any other: its client is gone
            await refuse(context, DeadlineExceededError(late))


@coroutine
def _read(context: Context) -> Generator[Any, None, tuple[Any, asyncio.Future[None] | None]]:
    """What `context.read` gives, and the future that it waited for last.

    That fails where gRPC refused the message, and not where the client went away or let its deadline pass. `read` itself says EOF
    of all of them (grpcio 1.85).
    """
    reading, waited, thrown = context.read().__await__(), None, None
    while True:
        try:
            waited = reading.send(None) if thrown is None else reading.throw(thrown)
        except StopIteration as done:
            return done.value, waited
        try:
            thrown = yield waited
        except BaseException as error:
            thrown = error
