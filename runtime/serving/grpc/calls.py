"""What every gRPC handler here shares: from bytes to bytes, with every error as a clean status.

Handlers take and give bytes, so that a message that does not parse meets the same table of errors as any other bad request.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from typing import Any, NoReturn

import grpc
from google.protobuf.message import Message

from runtime.errors import EdgewardError
from runtime.serving.bearer import Authorize, bearer_value
from runtime.wire.grpc_codec import parse
from runtime.wire.status import hints_of, status_of, text_of

log = logging.getLogger(__name__)

Context = grpc.aio.ServicerContext[bytes, bytes]
Answer = Callable[[Any], Awaitable[Message]]
"""Makes the reply of one unary RPC from its parsed request."""

# gRPC's core ends a call that arrives between its shutdown and the client's knowledge of it with CANCELLED, which no client takes
# for "try again". So a server that closes first lets calls arrive and answers them late, after its connections have said goodbye:
# whoever waits for an answer sends nothing meanwhile (28 inferences CANCELLED in 44 restarts before, under closed load; of other
# calls 22 in 24 ends of a server on a loaded machine, and 1 since).
REFUSAL_DELAY_S = 0.1

CALL_IS_OVER = (grpc.aio.AbortError, grpc.aio.InternalError)
"""Ended here with its status, or by gRPC itself: its client is gone, or it has told that of too large a message."""

ReadMessage = Callable[[Context], Awaitable[bytes]]
"""Reads the one message of a unary RPC; see `grpc_receiving`."""


def unary_handler(
    request_type: type[Message], answer: Answer, authorize: Authorize | None, closing: asyncio.Event, read: ReadMessage
) -> grpc.RpcMethodHandler[bytes, bytes]:
    """The handler of a unary RPC that `answer` replies to, late once the server is `closing`; without `authorize` to everybody."""

    async def handle(_: AsyncIterator[bytes], context: Context) -> bytes:
        try:
            if closing.is_set():
                await asyncio.sleep(REFUSAL_DELAY_S)
            if authorize is not None:
                authorize_call(authorize, context)
            return (await answer(parse(request_type, await read(context)))).SerializeToString()
        except Exception as error:
            await refuse(context, error)

    return grpc.stream_unary_rpc_method_handler(handle)


def generic_handler(
    service: str, handlers: Mapping[str, grpc.RpcMethodHandler[bytes, bytes]]
) -> grpc.GenericRpcHandler:
    """The handlers of one service, by RPC name, as a grpc server takes them."""
    return grpc.method_handlers_generic_handler(service, dict(handlers))


def authorize_call(authorize: Authorize, context: Context) -> None:
    """Shows the call's bearer value to `authorize`, which raises `UnauthenticatedError` where it is not good."""
    authorize_metadata(authorize, context.invocation_metadata() or ())


def authorize_metadata(authorize: Authorize, metadata: Iterable[tuple[str, str | bytes]]) -> None:
    """`authorize_call` for a call known by its metadata."""
    for key, value in metadata:
        if key == "authorization":
            authorize(bearer_value(value if isinstance(value, str) else value.decode("latin-1")))
            return
    authorize(None)


async def refuse(context: Context, error: Exception) -> NoReturn:
    """Ends the RPC with the status, text and hints of `error`; what is not an error of ours is logged here, once.

    One of `CALL_IS_OVER`, or `asyncio.CancelledError`, always: also where it was over before and `error` says so.
    """
    if isinstance(error, CALL_IS_OVER):
        raise error
    note_foreign(error)
    code = grpc.StatusCode[status_of(error).grpc]
    try:
        await context.abort(code, text_of(error), tuple(hints_of(error).items()))
    except grpc.aio.InternalError:
        # It was over, and nobody had been told yet: gRPC ended it for too large a message, or the client went away just now.
        # Of anything else that a handler raises, grpcio would log an error.
        raise asyncio.CancelledError("the call was over before it could be refused") from error


def note_foreign(error: BaseException) -> None:
    """Logs an exception that nobody foresaw, with its traceback; callers get a sentence instead."""
    if not isinstance(error, EdgewardError):
        log.error("a request failed in an unforeseen way", exc_info=error)
