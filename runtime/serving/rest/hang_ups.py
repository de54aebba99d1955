"""HTTP clients that hang up while their request is being answered: the work for them is cancelled.

A look whether a client is still there costs a task, and a timer of its own costs a request as much as decoding it. So one timer
looks after all requests, and only those that it meets a second time are worth a task.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

from starlette.types import Receive

from runtime.errors import CancelledError, ModelNotReadyError

LOOK_EVERY_S = 0.005
"""Requests that take less than this are never looked after, those that take twice as long always."""

T = TypeVar("T")


class HangUps:
    """The requests under way of one route. Used on one event loop."""

    def __init__(self) -> None:
        self._new: list[_HangUp] = []
        self._seen: list[_HangUp] = []
        self._is_looking = False

    async def while_connected(self, work: Awaitable[T], receive: Receive) -> T:
        """The result of `work`, which is cancelled when the client hangs up (`CancelledError`). The body is read already."""
        caller = asyncio.current_task()
        assert caller is not None
        watch = _HangUp(caller, receive)
        self._new.append(watch)
        if not self._is_looking:
            self._is_looking = True
            asyncio.get_running_loop().call_later(LOOK_EVERY_S, self._look)
        try:
            return await work
        except asyncio.CancelledError:
            if not watch.has_happened:
                # The server cut off what its drain was too short for; this is the request's outermost frame.
                raise ModelNotReadyError(
                    "the server stopped before it could answer; retry, here or at another one"
                ) from None
            caller.uncancel()
            raise CancelledError("the client went away before the answer") from None
        finally:
            watch.stop()

    def _look(self) -> None:
        for watch in self._seen:
            if not watch.is_over:
                watch.start()
        self._seen = [watch for watch in self._new if not watch.is_over]
        self._new = []
        self._is_looking = bool(self._seen)
        if self._is_looking:
            asyncio.get_running_loop().call_later(LOOK_EVERY_S, self._look)


class _HangUp:
    """Cancels `caller` once the client is gone."""

    def __init__(self, caller: asyncio.Task[Any], receive: Receive) -> None:
        self.has_happened = False
        self.is_over = False
        self._caller = caller
        self._receive = receive
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._watch())

    def stop(self) -> None:
        self.is_over = True
        if self._task is not None:
            self._task.cancel()

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.has_happened = True
        self._caller.cancel()
