"""One ModelInfer over our own HTTP/2: its message gathered, asked with, and answered."""

from __future__ import annotations

import asyncio
import time

from runtime.errors import EdgewardError, InvalidInputError
from runtime.serving.grpc.handler_call import status_number, unpacked
from runtime.serving.grpc.heads import OK, RESPONSE, CallHead, only_block
from runtime.serving.grpc.infer_calls import InferCalls
from runtime.serving.grpc.messages import PREFIX_BYTES, Message, MessageReader, prefix_of
from runtime.serving.http2.stream import Stream
from runtime.serving.reading import Reading
from runtime.tensors import Chunk
from runtime.wire.status import hints_of, text_of


class InferCall:
    """One ModelInfer: gathers its message, and hands it over once the client has sent all of it."""

    __slots__ = (
        "_calls",
        "_head",
        "_max_bytes",
        "_messages",
        "_reader",
        "_reading",
        "_unpacking",
        "deadline",
        "is_awaited",
        "stream",
    )

    def __init__(
        self, calls: InferCalls[InferCall], stream: Stream, head: CallHead, max_bytes: int, reading: Reading
    ) -> None:
        self._calls = calls
        self._head = head
        self._max_bytes = max_bytes
        self._reading = reading
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
            if not chunk[0] and int.from_bytes(chunk[1:PREFIX_BYTES], "big") == len(raw) <= self._max_bytes:
                self.is_awaited = False
                self._ask(bytes(raw))
                return
        try:
            if self._reader is None:
                self._reader = MessageReader(self._max_bytes, self._reading)
            self._messages.extend(self._reader.feed(chunk))
            if len(self._messages) > 1:
                raise InvalidInputError("ModelInfer takes one message, and another one followed it")
            if is_last:
                self._begin(self._reader)
            else:
                self.stream.connection.take_more(self.stream, len(chunk))
        except EdgewardError as error:
            self._forget()
            self._calls.fail(self, error)

    def lose(self) -> None:
        """Withdraws the inference."""
        self._forget()
        if self._unpacking is not None:
            self._unpacking.cancel()
        self._calls.leave(self)

    def give_up(self, error: EdgewardError) -> None:
        """Ends the call whose message has not come: no inference was asked for, so that none is counted as failed."""
        self._forget()
        refuse_stream(self.stream, error)

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
        calls = self._calls
        if calls.is_traced:  # other calls may have begun since the head of this one was here
            calls.follow(self._head.metadata())
        calls.begin(self, raw, self.deadline)

    async def _unpack(self, message: Message) -> None:
        try:
            raw = await unpacked(message, self._head.encoding, self._max_bytes)
        except Exception as error:
            self._calls.fail(self, error)
        else:
            self._ask(raw)


def respond(call: InferCall, reply: list[Chunk]) -> None:
    """Sends the answer of a call."""
    stream = call.stream
    reply.insert(0, prefix_of(sum(map(len, reply))))
    stream.connection.reply(stream, RESPONSE, reply, OK)


def fail(call: InferCall, error: BaseException) -> None:
    """Ends a call with what went wrong."""
    refuse_stream(call.stream, error)


def refuse_stream(stream: Stream, error: BaseException) -> None:
    """Ends a call with the status, text and hints of `error`; nothing where it is over."""
    if not stream.is_over:
        stream.connection.end(stream, only_block(status_number(error), text_of(error), hints_of(error).items()))
