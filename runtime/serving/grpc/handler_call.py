"""A call over our own HTTP/2 as the handlers of RPCs see it: what they use of `grpc.aio.ServicerContext`, over one stream."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import Any, Final, NoReturn

import grpc

from runtime.errors import DeadlineExceededError, EdgewardError, InvalidInputError
from runtime.serving.grpc.calls import CALL_IS_OVER, note_foreign
from runtime.serving.grpc.heads import OK, RESPONSE, CallHead, Metadata, end_block, only_block
from runtime.serving.grpc.messages import Message, MessageReader, prefix_of
from runtime.serving.http2.stream import Stream
from runtime.serving.packing import unpack
from runtime.serving.reading import Reading
from runtime.tensors import Chunk
from runtime.wire.status import hints_of, status_of, text_of

# A writer waits while so much of what it wrote is not sent.
MAX_UNSENT_BYTES: Final = 1 << 20
# Beside its bytes: the objects that a message nobody has read yet is made of.
_MESSAGE_BYTES: Final = 128


class HandlerCall:
    """One call: a `Receiver` of its stream, and the context of its handler."""

    def __init__(self, stream: Stream, head: CallHead, max_message_bytes: int, reading: Reading) -> None:
        self._loop = asyncio.get_running_loop()
        self._stream = stream
        self._connection = stream.connection
        self._head = head
        self._max_message_bytes = max_message_bytes
        self._reading = reading
        self._reader = MessageReader(max_message_bytes, reading)
        self._messages: deque[Message] = deque()
        self._unread_bytes = 0
        """Of whole messages that nobody has read, as `reading` counts them."""
        self._begun_at: float | None = None
        """When a message began that is not whole, or the server had read all before it."""
        self._owed_bytes = 0
        """That came and that the client gets room for once the messages before are read."""
        self._changes: list[asyncio.Future[None]] = []
        """Of who waits: one task may read while another writes."""
        self._has_begun = self._is_done = False
        self._task: asyncio.Task[None] | None = None
        self._ends_at = None if head.timeout_s is None else self._loop.time() + head.timeout_s
        self._timer = None if self._ends_at is None else self._loop.call_at(self._ends_at, self._expire)

    def run(self, handler: grpc.RpcMethodHandler[bytes, bytes]) -> asyncio.Task[None]:
        """Starts the handler; the task ends with the call."""
        self._task = self._loop.create_task(self._answer(handler))
        return self._task

    # -- of the stream

    def take(self, chunk: Chunk, is_last: bool) -> None:
        """Takes messages apart; one that is none ends the call."""
        try:
            for message in self._reader.feed(chunk):
                self._hold(message)
        except EdgewardError as error:
            self._end_with(error)
            return
        if self._reader.is_between:
            self._begun_at = None
        elif self._begun_at is None:
            self._begun_at = self._connection.heard_at
        if self._messages:
            self._owed_bytes += len(chunk)
        else:
            self._connection.take_more(self._stream, len(chunk))
        self._notify()

    def lose(self) -> None:
        """Ends the handler's task."""
        self._finish()
        if self._task is not None:
            self._task.cancel()

    @property
    def awaited_since(self) -> float | None:
        """Since when a message is on its way, as the event loop counts; None: none is, or the client may not go on."""
        return None if self._messages else self._begun_at

    # -- of the handler

    async def read(self) -> Any:
        """The next message; `grpc.aio.EOF` where the client has ended. `InvalidInputError` where it ended within one."""
        while not self._messages:
            if self._is_done:
                raise grpc.aio.AbortError
            if self._stream.client_ended:
                if not self._reader.is_between:
                    raise InvalidInputError("the call ended before its message was whole; send all of it")
                return grpc.aio.EOF
            await self._changed()
        message = self._messages.popleft()
        self._unhold(len(message.raw) + _MESSAGE_BYTES)
        if not self._messages:
            if self._begun_at is not None:
                self._begun_at = self._loop.time()
            owed_bytes, self._owed_bytes = self._owed_bytes, 0
            self._connection.take_more(self._stream, owed_bytes)
        return await unpacked(message, self._head.encoding, self._max_message_bytes)

    async def write(self, message: bytes) -> None:
        """Sends a message; waits while much before it is not sent."""
        if self._is_done:
            raise grpc.aio.AbortError
        self._begin()
        self._connection.send(self._stream, (prefix_of(len(message)), message))
        while not self._is_done and self._stream.queued_bytes > MAX_UNSENT_BYTES:
            self._stream.on_sent = self._notify
            await self._changed()

    async def abort(
        self, code: grpc.StatusCode, details: str = "", trailing_metadata: Iterable[tuple[str, str]] = ()
    ) -> NoReturn:
        """Ends the call with a status."""
        self._end(code.value[0], details, trailing_metadata)
        raise grpc.aio.AbortError

    def invocation_metadata(self) -> Metadata:
        """What the caller sent beside its messages."""
        return self._head.metadata()

    def time_remaining(self) -> float | None:
        """Seconds to the call's deadline; None: it has none."""
        return None if self._ends_at is None else max(self._ends_at - self._loop.time(), 0)

    def done(self) -> bool:
        """Whether the call has ended."""
        return self._is_done

    async def _answer(self, handler: Any) -> None:  # its behaviours are typed for grpc's own contexts
        try:
            if handler.response_streaming:
                await handler.stream_stream(None, self)
                self._begin()
            else:
                reply = await handler.stream_unary(None, self)
                if not self._is_done:
                    self._finish()
                    self._connection.reply(self._stream, RESPONSE, (prefix_of(len(reply)), reply), OK)
            if not self._is_done:
                self._finish()
                self._connection.end(self._stream, OK)
        except CALL_IS_OVER as error:
            self._end_with(error)  # a handler that gave up without a status would leave its caller waiting
        except Exception as error:
            note_foreign(error)
            self._end_with(error)

    def _begin(self) -> None:
        if not (self._has_begun or self._is_done):
            self._has_begun = True
            self._connection.send_headers(self._stream, RESPONSE)

    def _expire(self) -> None:
        self._end_with(DeadlineExceededError("the call's deadline passed before its answer was complete"))
        if self._task is not None:
            self._task.cancel()

    def give_up(self, error: BaseException) -> None:
        """Ends the call with the status, text and hints of `error`, and its handler; nothing where it has ended."""
        self._end_with(error)
        if self._task is not None:
            self._task.cancel()

    def _end_with(self, error: BaseException) -> None:
        self._end(status_number(error), text_of(error), hints_of(error).items())

    def _end(self, code: int, text: str, metadata: Iterable[tuple[str, str]]) -> None:
        if self._is_done:
            return
        self._finish()
        block = end_block if self._has_begun else only_block
        self._connection.end(self._stream, block(code, text, metadata))
        self._notify()

    def _hold(self, message: Message) -> None:
        size_bytes = len(message.raw) + _MESSAGE_BYTES
        self._reading.take(size_bytes)
        self._unread_bytes += size_bytes
        self._messages.append(message)

    def _unhold(self, size_bytes: int) -> None:
        self._reading.give_back(size_bytes)
        self._unread_bytes -= size_bytes

    def _finish(self) -> None:
        self._is_done = True
        self._messages.clear()
        self._unhold(self._unread_bytes)
        self._reader.drop()
        if self._timer is not None:
            self._timer.cancel()

    async def _changed(self) -> None:
        change = self._loop.create_future()
        self._changes.append(change)
        await change

    def _notify(self) -> None:
        changes, self._changes = self._changes, []
        for change in changes:
            if not change.done():
                change.set_result(None)


async def unpacked(message: Message, encoding: str | None, max_bytes: int) -> bytes:
    """The message as it was before it was packed; errors of `unpack`, and `InvalidInputError` where nobody says how it was."""
    if not message.is_packed:
        return message.raw
    if encoding is None:
        raise InvalidInputError("a message says that it is packed, but the call's grpc-encoding does not say how")
    return await unpack(message.raw, encoding, max_bytes)


def status_number(error: BaseException) -> int:
    """GRPC's number for an error."""
    number: int = grpc.StatusCode[status_of(error).grpc].value[0]
    return number
