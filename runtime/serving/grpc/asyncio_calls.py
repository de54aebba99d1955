"""The calls of our front on asyncio: which RPC a stream asks for, and who answers it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

import grpc

from protos import health, inference
from runtime.errors import EdgewardError, ModelNotReadyError, UnsupportedError
from runtime.serving.bearer import Authorize
from runtime.serving.controls import Controls
from runtime.serving.grpc.handler_call import HandlerCall
from runtime.serving.grpc.heads import CallHead, NoGrpcError, read_head
from runtime.serving.grpc.health import HealthRpcs
from runtime.serving.grpc.infer_call import InferCall, fail, refuse_stream, respond
from runtime.serving.grpc.infer_calls import InferCalls
from runtime.serving.grpc.receiving import Receiving
from runtime.serving.grpc.server import InferenceRpcs, closing_error
from runtime.serving.http2.fields import Fields
from runtime.serving.http2.stream import Receiver, Stream
from runtime.serving.reading import MAX_READING_BYTES, Reading
from runtime.serving.service import InferenceService
from runtime.tensors import Chunk
from runtime.wire.repeats import Repeats

MODEL_INFER: Final = inference.METHODS["ModelInfer"].path
MAX_KNOWN_HEADS_BYTES: Final = 1024
"""Of the fields of a head that is kept because it will come again."""


class Calls:
    """What connections serve: ModelInfer, and the RPCs that have handlers."""

    def __init__(
        self,
        service: InferenceService,
        controls: Controls,
        closing: asyncio.Event,
        authorize: Authorize | None,
        max_message_bytes: int,
        reflects: bool,
        receiving: Receiving,
    ) -> None:
        self._closing = closing
        self._wakeful = controls.wakeful
        self._max_message_bytes = max_message_bytes
        self.reading = Reading(max(MAX_READING_BYTES, max_message_bytes))
        """What all connections together hold of messages that are not whole, or that nobody has read."""
        self._inferences: InferCalls[InferCall] = InferCalls(service, controls, authorize, self._respond, fail)
        self._handlers = _by_path(
            inference.SERVICE, InferenceRpcs(service, controls, authorize, closing, receiving).handlers()
        )
        self._handlers |= _by_path(health.SERVICE, HealthRpcs(service, closing, receiving.read).handlers())
        if reflects:
            from runtime.serving.grpc.reflection import RPC, SERVICES, reflection_handler

            for name in SERVICES:
                self._handlers |= _by_path(name, {RPC: reflection_handler(authorize, closing)})
        self._running: dict[asyncio.Task[None], HandlerCall] = {}
        self._heads: Repeats[Fields, CallHead] = Repeats()

    def open(self, stream: Stream, fields: Fields) -> Receiver | None:
        """Who takes what comes on a new stream; None where it was answered already."""
        try:
            head = self._heads.get(fields) or self._read_head(fields)
        except NoGrpcError as error:
            stream.connection.end(stream, error.block)
            return None
        except EdgewardError as error:
            refuse_stream(stream, error)
            return None
        if head.path == MODEL_INFER:
            return self._open_infer(stream, head)
        handler = self._handlers.get(head.path)
        if handler is None:
            refuse_stream(
                stream, UnsupportedError(f"no RPC {head.path!r:.200} here; ServerMetadata says what is spoken")
            )
            return None
        call = HandlerCall(stream, head, self._max_message_bytes, self.reading)
        task = call.run(handler)
        self._running[task] = call
        task.add_done_callback(self._running.pop)
        return call

    def cut_off(self) -> None:
        """Ends every call that is under way with an error."""
        self._inferences.cut_off()
        for call in list(self._running.values()):
            call.give_up(stopped_error())

    def _read_head(self, fields: Fields) -> CallHead:
        head = read_head(fields)
        if sum(len(name) + len(value) for name, value in fields) <= MAX_KNOWN_HEADS_BYTES:
            self._heads.keep(fields, head)
        return head

    def _open_infer(self, stream: Stream, head: CallHead) -> InferCall | None:
        call = InferCall(self._inferences, stream, head, self._max_message_bytes, self.reading)
        try:
            if self._closing.is_set():
                raise closing_error()
            if self._inferences.reads_metadata:
                self._inferences.admit(head.metadata())
        except Exception as error:
            self._inferences.fail(call, error)
            return None
        self._wakeful.came()
        return call

    def _respond(self, call: InferCall, reply: list[Chunk]) -> None:
        respond(call, reply)
        self._wakeful.answered()


def stopped_error() -> ModelNotReadyError:
    """For a call under way where the server waits no longer."""
    return ModelNotReadyError("the server stopped before it could answer; retry, here or at another one")


def _by_path(
    service: str, handlers: Mapping[str, grpc.RpcMethodHandler[bytes, bytes]]
) -> dict[str, grpc.RpcMethodHandler[bytes, bytes]]:
    return {f"/{service}/{rpc}": handler for rpc, handler in handlers.items()}
