"""ModelStreamInfer: requests on one stream run side by side, their replies come in the order of the requests.

An error of one request is told in its own reply (Triton's `error_message`), and the stream goes on.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import grpc

from protos import inference
from runtime.errors import CancelledError, ModelNotReadyError
from runtime.serving.bearer import Authorize
from runtime.serving.controls import Controls
from runtime.serving.deadlines import with_timeout
from runtime.serving.grpc.calls import Context, authorize_call, note_foreign, refuse
from runtime.serving.grpc.replies import reply_message
from runtime.serving.names import check_name
from runtime.serving.service import InferenceService
from runtime.wire.grpc_codec import decode_request, parse
from runtime.wire.status import text_of

# How far a stream is read ahead of its replies: enough to fill a batch, little enough that one client's large tensors do not
# fill the memory.
MAX_AHEAD = 16

FINAL_RESPONSE = "triton_final_response"
"""Reply parameter of a stream: no further reply to the same request follows."""


def stream_infer_handler(
    service: InferenceService, controls: Controls, authorize: Authorize | None, closing: asyncio.Event
) -> grpc.RpcMethodHandler[bytes, bytes]:
    """The handler of ModelStreamInfer; `closing` is set once the server takes no new work."""

    async def stream_infer(_: AsyncIterator[bytes], context: Context) -> None:
        try:
            if authorize is not None:
                authorize_call(authorize, context)
            controls.follow_metadata(context.invocation_metadata())  # the stream's, for all of its requests
            remaining_s = context.time_remaining()
            deadline = None if remaining_s is None else time.monotonic() + remaining_s
            await _Stream(service, controls, context, deadline).run(closing)
        except Exception as error:
            await refuse(context, error)

    return grpc.stream_stream_rpc_method_handler(stream_infer)


class _Stream:
    """One open stream: a reader that starts requests, and a writer that sends their replies in order."""

    def __init__(self, service: InferenceService, controls: Controls, context: Context, deadline: float | None) -> None:
        self._infer = controls.around(service.infer)
        self._memory = controls.memory
        self._load = controls.load
        self._context = context
        self._deadline = deadline
        self._places = asyncio.Semaphore(MAX_AHEAD)
        self._answers: asyncio.Queue[asyncio.Task[bytes] | None] = asyncio.Queue()
        self._running: set[asyncio.Task[bytes]] = set()

    async def run(self, closing: asyncio.Event) -> None:
        """Until the client ends the stream or the server closes; what was read is answered in both cases."""
        reader = asyncio.create_task(self._read())
        stopper = asyncio.create_task(_cancel_when(closing, reader))
        try:
            while (answer := await self._answers.get()) is not None:
                reply = await answer
                try:
                    await self._context.write(reply)
                except grpc.aio.InternalError as error:  # grpcio's word for a connection that is no more
                    raise CancelledError("the client went away before it had all its answers") from error
                self._places.release()
            await asyncio.wait([reader])
        finally:
            reader.cancel()
            stopper.cancel()
            for running in self._running:
                running.cancel()
        if closing.is_set():
            raise ModelNotReadyError("the server is shutting down; all that it read is answered; open the stream again")
        reader.result()

    async def _read(self) -> None:
        try:
            while True:
                await self._places.acquire()
                raw: Any = await self._context.read()
                if raw is grpc.aio.EOF:
                    return
                task = asyncio.create_task(self._answer(raw))
                self._running.add(task)
                task.add_done_callback(self._running.discard)
                self._answers.put_nowait(task)
        finally:
            self._answers.put_nowait(None)

    async def _answer(self, raw: bytes) -> bytes:
        reply = inference.ModelStreamInferResponse()
        message = inference.ModelInferRequest()
        try:
            message = parse(inference.ModelInferRequest, raw)
            request = with_timeout(decode_request(message, self._deadline, self._memory))
            check_name(request.model, request.version)
            with self._load.answering():
                response = await self._infer(request)
                reply.infer_response.CopyFrom(reply_message(request, response))
        except Exception as error:
            note_foreign(error)
            self._load.note_error(error)
            reply.error_message = text_of(error)
            # Which request it was, for clients that keep several under way.
            reply.infer_response.id = message.id
            reply.infer_response.model_name = message.model_name
        # Every request here has exactly one reply, whether the caller asked for an empty final one or not.
        reply.infer_response.parameters[FINAL_RESPONSE].bool_param = True
        return reply.SerializeToString()


async def _cancel_when(closing: asyncio.Event, reader: asyncio.Task[None]) -> None:
    await closing.wait()
    reader.cancel()
