"""gRPC on the event loop itself: our HTTP/2 for servers, without the threads and hops of `grpc.aio`.

ModelInfer is answered by calls, without a task of its own; every other RPC by the handlers that grpcio's server has too.
"""

from __future__ import annotations

import asyncio
import math
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import grpc

from protos import health, inference
from runtime.errors import DeadlineExceededError, EdgewardError, InvalidInputError, ModelNotReadyError, UnsupportedError
from runtime.serving.bearer import Authorize
from runtime.serving.controls import Controls
from runtime.serving.grpc.handler_call import HandlerCall, status_number, unpacked
from runtime.serving.grpc.heads import OK, RESPONSE, CallHead, NoGrpcError, only_block, read_head
from runtime.serving.grpc.health import HealthRpcs
from runtime.serving.grpc.infer_calls import InferCalls
from runtime.serving.grpc.messages import PREFIX_BYTES, Message, MessageReader, prefix_of
from runtime.serving.grpc.receiving import MESSAGE_LIMIT_S, Receiving
from runtime.serving.grpc.server import (
    KEEPALIVE_TIME_MS,
    KEEPALIVE_TIMEOUT_MS,
    QUIET_S,
    InferenceRpcs,
    closing_error,
)
from runtime.serving.http2.connection import Http2Connection
from runtime.serving.http2.fields import Fields
from runtime.serving.http2.frames import ConnectionFault, ErrorCode
from runtime.serving.http2.stream import Chunk, Receiver, Stream
from runtime.serving.limits import DEFAULT_MAX_MESSAGE_BYTES
from runtime.serving.rest.body import MAX_READING_BYTES, Reading
from runtime.serving.service import InferenceService
from runtime.serving.sockets import Endpoint, listen
from runtime.serving.unix_socket import listen_unix
from runtime.wire.repeats import Repeats
from runtime.wire.status import hints_of, text_of

MODEL_INFER: Final = inference.METHODS["ModelInfer"].path

GREETING_LIMIT_S: Final = 20.0
"""For who connects and does not begin, and for who does not take the last that we wrote."""
LOOK_EVERY_S: Final = 1.0
LOOK_WHEN_CLOSING_S: Final = 0.005
CLOSE_LIMIT_S: Final = 0.5
"""How long clients may take to pick up their last answers at least, and to go once they are cut off."""
MAX_KNOWN_HEADS_BYTES: Final = 1024
"""Of the fields of a head that is kept because it will come again."""


class AsyncioGrpcServer:
    """The same as `GrpcServer` on our own HTTP/2: `bind`, then `start`, then `stop`. Lives on one event loop."""

    def __init__(
        self,
        service: InferenceService,
        controls: Controls,
        *,
        authorize: Authorize | None = None,
        max_message_bytes: int = DEFAULT_MAX_MESSAGE_BYTES,
        shares_port: bool = False,
        reflects: bool = False,
        message_limit_s: float = MESSAGE_LIMIT_S,
    ) -> None:
        self._shares_port = shares_port
        self._closing = asyncio.Event()
        self._message_limit_s = message_limit_s
        self._calls = Calls(
            service, controls, self._closing, authorize, max_message_bytes, reflects, Receiving(message_limit_s)
        )
        self._sockets: list[socket.socket] = []
        self._servers: list[asyncio.Server] = []
        self._connections: set[Http2Connection] = set()
        self._look: asyncio.TimerHandle | None = None
        self._ends_at = math.inf
        """When `stop` waits no longer."""

    def bind(self, endpoint: Endpoint) -> Endpoint:
        """Takes the address and says it with its real port; `PortInUseError` when somebody listens there."""
        listener = listen(endpoint, "gRPC", is_shared=self._shares_port)
        self._sockets.append(listener)
        return Endpoint(endpoint.host, listener.getsockname()[1])

    def bind_unix(self, path: str) -> None:
        """Takes a Unix socket too; `MachineError` when that cannot be."""
        self._sockets.append(listen_unix(Path(path)))

    async def start(self) -> None:
        """Begins to answer."""
        loop = asyncio.get_running_loop()
        for listener in self._sockets:
            if listener.family in (socket.AF_INET, socket.AF_INET6):
                self._servers.append(await loop.create_server(self._connect, sock=listener))
            else:
                self._servers.append(await loop.create_unix_server(self._connect, sock=listener))
        self._look_at_clients()

    async def stop(self, grace_s: float) -> None:
        """Takes no new calls, answers those accepted, and cuts off what `grace_s` was too short for."""
        loop = asyncio.get_running_loop()
        self._ends_at = min(self._ends_at, loop.time() + grace_s)
        self._closing.set()
        for server in self._servers:
            server.close()
        if not self._servers:
            for listener in self._sockets:
                listener.close()
        for connection in self._connections:
            connection.say_goodbye()
        if self._connections and grace_s > 0:
            await asyncio.sleep(min(QUIET_S, grace_s))  # calls on their way are told, rather than left
        await self._until(lambda: not any(connection.streams for connection in self._connections))
        self._end_calls()
        if self._look is not None:
            self._look.cancel()
        for connection in list(self._connections):
            connection.close()
        await self._until(lambda: not self._connections, CLOSE_LIMIT_S)
        for connection in list(self._connections):
            connection.transport.abort()
        await self._until(lambda: not self._connections, CLOSE_LIMIT_S)

    async def cut_off(self) -> None:
        """Ends the calls under way at once; also while `stop` waits for them."""
        self._closing.set()
        self._ends_at = 0.0
        self._end_calls()

    def _end_calls(self) -> None:
        self._calls.cut_off()
        for connection in self._connections:
            for stream in list(connection.streams.values()):
                if isinstance(stream.receiver, InferCall) and stream.receiver.is_awaited:
                    stream.receiver.give_up(_stopped())

    async def _until(self, is_so: Callable[[], bool], at_least_s: float = 0.0) -> None:
        """Waits for it until the grace of `stop` is over, and `at_least_s`."""
        loop = asyncio.get_running_loop()
        least = loop.time() + at_least_s
        while not is_so() and loop.time() < max(self._ends_at, least):  # noqa: ASYNC110  (of many, and only while closing)
            await asyncio.sleep(LOOK_WHEN_CLOSING_S)

    def _connect(self) -> Http2Connection:
        return Http2Connection(self._calls, self._connections)

    def _look_at_clients(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for connection in list(self._connections):
            if connection.closed_at is not None:
                if now - connection.closed_at > GREETING_LIMIT_S:
                    connection.transport.abort()
            elif not connection.is_greeted:
                if now - connection.made_at > GREETING_LIMIT_S:
                    connection.fail(ConnectionFault(ErrorCode.PROTOCOL_ERROR, "the connection did not begin in time"))
            elif connection.pinged_at is not None:
                if now - connection.pinged_at > KEEPALIVE_TIMEOUT_MS / 1000:
                    connection.transport.abort()
            elif now - connection.heard_at > KEEPALIVE_TIME_MS / 1000:
                connection.ping()
            for stream in list(connection.streams.values()):
                self._look_at(stream, now)
        self._look = loop.call_later(min(LOOK_EVERY_S, self._message_limit_s / 4), self._look_at_clients)

    def _look_at(self, stream: Stream, now: float) -> None:
        receiver = stream.receiver
        if isinstance(receiver, InferCall | HandlerCall):
            since = receiver.awaited_since
            if since is not None and now - since > self._message_limit_s:
                late = f"the call's message was not whole after {self._message_limit_s:g} s"
                receiver.give_up(DeadlineExceededError(f"{late}; send it without pauses, or smaller ones"))
                return
        if isinstance(receiver, InferCall) and receiver.is_late:
            receiver.give_up(DeadlineExceededError("the deadline passed before the request was here whole"))
        elif stream.queue and now - stream.since > self._message_limit_s:
            stream.connection.reset(stream, ErrorCode.CANCEL)


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
        self.max_message_bytes = max_message_bytes
        self.reading = Reading(max(MAX_READING_BYTES, max_message_bytes))
        """What all connections together hold of messages that are not whole, or that nobody has read."""
        self.inferences: InferCalls[InferCall] = InferCalls(service, controls, authorize, _respond, _fail)
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
            _end(stream, error)
            return None
        if head.path == MODEL_INFER:
            return self._open_infer(stream, head)
        handler = self._handlers.get(head.path)
        if handler is None:
            _end(stream, UnsupportedError(f"no RPC {head.path!r:.200} here; ServerMetadata says what is spoken"))
            return None
        call = HandlerCall(stream, head, self.max_message_bytes, self.reading)
        task = call.run(handler)
        self._running[task] = call
        task.add_done_callback(self._running.pop)
        return call

    def cut_off(self) -> None:
        """Ends every call that is under way with an error."""
        self.inferences.cut_off()
        for call in list(self._running.values()):
            call.give_up(_stopped())

    def _read_head(self, fields: Fields) -> CallHead:
        head = read_head(fields)
        if sum(len(name) + len(value) for name, value in fields) <= MAX_KNOWN_HEADS_BYTES:
            self._heads.keep(fields, head)
        return head

    def _open_infer(self, stream: Stream, head: CallHead) -> InferCall | None:
        call = InferCall(self, stream, head)
        try:
            if self._closing.is_set():
                raise closing_error()
            if self.inferences.reads_metadata:
                self.inferences.admit(head.metadata())
        except Exception as error:
            self.inferences.fail(call, error)
            return None
        return call


class InferCall:
    """One ModelInfer: gathers its message, and hands it over once the client has sent all of it."""

    __slots__ = ("_calls", "_head", "_messages", "_reader", "_unpacking", "deadline", "is_awaited", "stream")

    def __init__(self, calls: Calls, stream: Stream, head: CallHead) -> None:
        self._calls = calls
        self._head = head
        self.stream = stream
        self.deadline = None if head.timeout_s is None else time.monotonic() + head.timeout_s
        self.is_awaited = True
        """Whether its message is not whole."""
        self._reader: MessageReader | None = None
        self._messages: list[Message] = []
        self._unpacking: asyncio.Task[None] | None = None

    def take(self, chunk: Chunk, is_last: bool) -> None:
        """Begins the inference with the last of it."""
        if is_last and self._reader is None and len(chunk) >= PREFIX_BYTES:
            raw = chunk[PREFIX_BYTES:]
            if (
                not chunk[0]
                and int.from_bytes(chunk[1:PREFIX_BYTES], "big") == len(raw) <= self._calls.max_message_bytes
            ):
                self.is_awaited = False
                self._ask(bytes(raw))
                return
        try:
            if self._reader is None:
                self._reader = MessageReader(self._calls.max_message_bytes, self._calls.reading)
            self._messages.extend(self._reader.feed(chunk))
            if len(self._messages) > 1:
                raise InvalidInputError("ModelInfer takes one message, and another one followed it")
            if is_last:
                self._begin(self._reader)
            else:
                self.stream.connection.take_more(self.stream, len(chunk))
        except EdgewardError as error:
            self._forget()
            self._calls.inferences.fail(self, error)

    def lose(self) -> None:
        """Withdraws the inference."""
        self._forget()
        if self._unpacking is not None:
            self._unpacking.cancel()
        self._calls.inferences.leave(self)

    def give_up(self, error: EdgewardError) -> None:
        """Ends the call whose message has not come: no inference was asked for, so that none is counted as failed."""
        self._forget()
        _end(self.stream, error)

    @property
    def awaited_since(self) -> float | None:
        """Since when its message is on its way, as the event loop counts; None: it is whole."""
        return self.stream.since if self.is_awaited else None

    @property
    def is_late(self) -> bool:
        """Whether its deadline passed before its message was whole."""
        return self.is_awaited and self.deadline is not None and time.monotonic() > self.deadline

    def _forget(self) -> None:
        self.is_awaited = False
        self._messages.clear()
        if self._reader is not None:
            self._reader.drop()

    def _begin(self, reader: MessageReader) -> None:
        if not self._messages or not reader.is_between:
            self.give_up(InvalidInputError("the call ended before its message was whole; send all of it"))
            return
        message = self._messages.pop()
        self.is_awaited = False
        if message.is_packed:
            self._unpacking = asyncio.get_running_loop().create_task(self._unpack(message))
        else:
            self._ask(message.raw)

    def _ask(self, raw: bytes) -> None:
        inferences = self._calls.inferences
        if inferences.is_traced:  # other calls may have begun since the head of this one was here
            inferences.follow(self._head.metadata())
        inferences.begin(self, raw, self.deadline)

    async def _unpack(self, message: Message) -> None:
        try:
            raw = await unpacked(message, self._head.encoding, self._calls.max_message_bytes)
        except Exception as error:
            self._calls.inferences.fail(self, error)
        else:
            self._ask(raw)


def _respond(call: InferCall, reply: list[Chunk]) -> None:
    stream = call.stream
    reply.insert(0, prefix_of(sum(map(len, reply))))
    stream.connection.reply(stream, RESPONSE, reply, OK)


def _fail(call: InferCall, error: BaseException) -> None:
    _end(call.stream, error)


def _end(stream: Stream, error: BaseException) -> None:
    if not stream.is_over:
        stream.connection.end(stream, only_block(status_number(error), text_of(error), hints_of(error).items()))


def _stopped() -> ModelNotReadyError:
    return ModelNotReadyError("the server stopped before it could answer; retry, here or at another one")


def _by_path(
    service: str, handlers: Mapping[str, grpc.RpcMethodHandler[bytes, bytes]]
) -> dict[str, grpc.RpcMethodHandler[bytes, bytes]]:
    return {f"/{service}/{rpc}": handler for rpc, handler in handlers.items()}
