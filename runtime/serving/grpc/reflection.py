"""gRPC server reflection, for tools such as grpcurl that ask a server what it speaks; off unless the settings turn it on.

What it tells is no secret, the protocol is published: it is off because a server that only serves needs no further way in.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

import grpc
from google.protobuf.descriptor import FileDescriptor

from protos import health, inference, reflection
from protos.lookup import find_file, find_symbol
from runtime.serving.bearer import Authorize
from runtime.serving.grpc.calls import Context, authorize_call, refuse
from runtime.wire.grpc_codec import parse

SERVICES: Final = (reflection.SERVICE, reflection.SERVICE.replace(".v1.", ".v1alpha."))
"""Older tools know the second name alone; its messages are the same."""
RPC: Final = "ServerReflectionInfo"

_SERVED: Final = (inference.SERVICE, health.SERVICE, reflection.SERVICE)
_NOT_FOUND, _UNIMPLEMENTED = grpc.StatusCode.NOT_FOUND.value[0], grpc.StatusCode.UNIMPLEMENTED.value[0]


def reflection_handler(authorize: Authorize | None, closing: asyncio.Event) -> grpc.RpcMethodHandler[bytes, bytes]:
    """The handler of `RPC`; `closing` is set once the server takes no new work, and ends the streams that wait."""

    async def tell(_: AsyncIterator[bytes], context: Context) -> None:
        try:
            if authorize is not None:
                authorize_call(authorize, context)
            while (raw := await _read_until(closing, context)) is not None:
                answer = answered(parse(reflection.ServerReflectionRequest, raw))
                await context.write(answer.SerializeToString())
        except Exception as error:
            await refuse(context, error)

    return grpc.stream_stream_rpc_method_handler(tell)


def answered(request: reflection.ServerReflectionRequest) -> reflection.ServerReflectionResponse:
    """The answer to one request; what there is nothing of is an error within it, and the stream goes on."""
    reply = reflection.ServerReflectionResponse(valid_host=request.host, original_request=request)
    kind = request.WhichOneof("message_request")
    match kind:
        case "list_services":
            reply.list_services_response.service.extend(reflection.ServiceResponse(name=name) for name in _SERVED)
        case "file_by_filename":
            _tell_file(reply, find_file(request.file_by_filename), request.file_by_filename)
        case "file_containing_symbol":
            _tell_file(reply, find_symbol(request.file_containing_symbol), request.file_containing_symbol)
        case "file_containing_extension" | "all_extension_numbers_of_type":
            reply.error_response.error_code = _NOT_FOUND
            reply.error_response.error_message = "the messages here have no extensions"
        case _:
            reply.error_response.error_code = _UNIMPLEMENTED
            reply.error_response.error_message = "the request asks for nothing that is known here"
    return reply


def _tell_file(reply: reflection.ServerReflectionResponse, file: FileDescriptor | None, asked: str) -> None:
    if file is None:
        reply.error_response.error_code = _NOT_FOUND
        reply.error_response.error_message = f"there is no {asked!r:.200} here; list_services tells what there is"
    else:  # none of the files imports another
        reply.file_descriptor_response.file_descriptor_proto.append(file.serialized_pb)


async def _read_until(closing: asyncio.Event, context: Context) -> bytes | None:
    """The next request; None at the end of the stream, or once the server closes."""
    reading: asyncio.Task[Any] = asyncio.ensure_future(context.read())
    closed = asyncio.ensure_future(closing.wait())
    try:
        await asyncio.wait({reading, closed}, return_when=asyncio.FIRST_COMPLETED)
        raw: Any = reading.result() if reading.done() else grpc.aio.EOF
    finally:
        reading.cancel()
        closed.cancel()
    if raw is grpc.aio.EOF:
        return None
    message: bytes = raw
    return message
