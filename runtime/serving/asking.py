"""The short way of a request: asked and answered by calls on the event loop, without a task or a coroutine of its own.

A task, its coroutines and the turns of the loop between them cost a request as much as decoding it. So transports ask by `Ask`;
a service that has no `ask` beside its `infer` is asked in a task all the same.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial

from runtime.errors import EdgewardError, ModelNotReadyError
from runtime.serving.service import InferenceService
from runtime.wire.values import InferenceRequest, InferenceResponse

log = logging.getLogger(__name__)

Answer = Callable[[InferenceResponse | None, BaseException | None], None]
"""Told once, on the event loop, what a request came to: the response, or the error."""

Withdraw = Callable[[], object]
"""Nobody waits for the answer any more: `Answer` is told nothing from here on. Calling it twice, or too late, is fine."""

Ask = Callable[[InferenceRequest, Answer], Withdraw]
"""Begins a request; the answer comes after this has returned. Raises at once what can be said at once."""


def ask_of(service: InferenceService) -> Ask:
    """The short way to `service`; in a task where it has none."""
    ask: Ask | None = getattr(service, "ask", None)
    return ask_in_task(service.infer) if ask is None else ask


def ask_in_task(infer: Callable[[InferenceRequest], Awaitable[InferenceResponse]]) -> Ask:
    """The short way of what has only the long one."""
    under_way: set[asyncio.Task[InferenceResponse]] = set()  # a loop alone does not keep what waits

    def ask(request: InferenceRequest, answer: Answer) -> Withdraw:
        is_withdrawn = False
        task = asyncio.get_running_loop().create_task(_answered(infer, request))
        under_way.add(task)

        def told(done: asyncio.Task[InferenceResponse]) -> None:
            under_way.discard(done)
            if is_withdrawn:
                _say_unforeseen(done)
            elif done.cancelled():
                answer(None, ModelNotReadyError("the work on this request was broken off; retry it"))
            else:
                error = done.exception()
                answer(None if error is not None else done.result(), error)

        def withdraw() -> None:
            nonlocal is_withdrawn
            is_withdrawn = True
            task.cancel()

        task.add_done_callback(told)
        return withdraw

    return ask


async def answer_of(ask: Ask, request: InferenceRequest) -> InferenceResponse:
    """The long way of what has the short one: cancelling withdraws the request."""
    future: asyncio.Future[InferenceResponse] = asyncio.get_running_loop().create_future()
    withdraw = ask(request, partial(_settle, future))
    try:
        return await future
    except asyncio.CancelledError:
        withdraw()
        raise
    finally:
        # What is raised leads to this frame, and both of these to what is raised: cut, it goes with the request.
        del future, withdraw


def _settle(
    future: asyncio.Future[InferenceResponse], response: InferenceResponse | None, error: BaseException | None
) -> None:
    if future.cancelled():
        return
    if error is not None:
        future.set_exception(error)
    else:
        assert response is not None, "an answer is one or the other"
        future.set_result(response)


async def _answered(
    infer: Callable[[InferenceRequest], Awaitable[InferenceResponse]], request: InferenceRequest
) -> InferenceResponse:
    return await infer(
        request
    )  # begun in the task: one that is withdrawn before its first turn leaves no coroutine behind


def _say_unforeseen(done: asyncio.Task[InferenceResponse]) -> None:
    """Nobody hears how a withdrawn request ended, so that what nobody foresaw is logged here."""
    if not done.cancelled() and (error := done.exception()) is not None and not isinstance(error, EdgewardError):
        log.error("a withdrawn request failed in an unforeseen way", exc_info=error)
