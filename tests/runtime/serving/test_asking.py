"""The short way of a service that has only the long one: whatever becomes of its task, who asked is told once, or has withdrawn."""

import asyncio
import gc
import weakref
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest

from runtime.errors import ModelNotReadyError
from runtime.serving.asking import answer_of, ask_in_task
from runtime.wire.values import InferenceRequest, InferenceResponse

REQUEST = InferenceRequest("m", {})
Told = list[tuple[InferenceResponse | None, BaseException | None]]


async def answers(request: InferenceRequest) -> InferenceResponse:
    return InferenceResponse(request.model, "1", {})


async def fails(request: InferenceRequest) -> InferenceResponse:
    raise ValueError("no")


async def is_broken_off(request: InferenceRequest) -> InferenceResponse:
    raise asyncio.CancelledError


@pytest.mark.parametrize(
    ("infer", "error"), [(answers, type(None)), (fails, ValueError), (is_broken_off, ModelNotReadyError)]
)
async def test_who_asks_is_told_once(
    infer: Callable[[InferenceRequest], Awaitable[InferenceResponse]], error: type
) -> None:
    told: Told = []
    ask_in_task(infer)(REQUEST, lambda response, failure: told.append((response, failure)))
    assert told == [], "not before asking has returned"
    await asyncio.sleep(0.01)
    assert [type(failure) for _, failure in told] == [error]
    assert (told[0][0] is None) == (error is not type(None))


@pytest.mark.parametrize("infer", [answers, fails, is_broken_off])
async def test_who_withdrew_is_told_nothing(infer: Callable[[InferenceRequest], Awaitable[InferenceResponse]]) -> None:
    told: Told = []
    withdraw = ask_in_task(infer)(REQUEST, lambda response, failure: told.append((response, failure)))
    withdraw()
    withdraw()
    await asyncio.sleep(0.01)
    assert told == []


@pytest.mark.parametrize("infer", [answers, fails, is_broken_off])
async def test_a_request_is_gone_once_it_is_answered(
    infer: Callable[[InferenceRequest], Awaitable[InferenceResponse]],
) -> None:
    """Not only when a collector of cycles comes, which with the tensors of failed requests may be late."""

    class Tensors(dict[str, object]):
        """Can be referred to weakly."""

    tensors = Tensors()
    gone = weakref.ref(tensors)
    ask = ask_in_task(infer)
    gc.disable()
    try:
        with suppress(ValueError, ModelNotReadyError):
            await answer_of(ask, InferenceRequest("m", tensors))  # type: ignore[arg-type]
        del tensors
        await asyncio.sleep(0)
        assert gone() is None
    finally:
        gc.enable()
