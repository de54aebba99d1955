"""One HTTP/2 connection of a server on an event loop: its streams, from their first fields to the end of their answers.

`incoming` takes the bytes apart, `sending` keeps to the client's windows. Bounded, whatever a client does: streams at once, header
blocks, bytes in flight (its windows, which open again as what came is used up), streams that come to nothing, and acknowledgements
(a client that does not read is not read from). The payload of a DATA frame is handed on as it comes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from typing import Any, Final, Protocol

from runtime.serving.http2.fields import MAX_LIST_BYTES, FieldDecoder, Fields
from runtime.serving.http2.frames import (
    ACK,
    DATA,
    DEFAULT_TABLE_SIZE,
    DEFAULT_WINDOW,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADER,
    HEADER_TABLE_SIZE,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    MAX_CONCURRENT_STREAMS,
    MAX_FRAME_SIZE,
    MAX_HEADER_LIST_SIZE,
    MAX_STREAM_ID,
    PING,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    ConnectionFault,
    ErrorCode,
    StreamFault,
    frame,
    frame_head,
    goaway,
    read_number,
    read_settings,
    reset_stream,
    settings_frame,
    window_update,
)
from runtime.serving.http2.incoming import MAX_FRAME_BYTES, FrameReader
from runtime.serving.http2.sending import Sender
from runtime.serving.http2.stream import Receiver, Stream
from runtime.serving.http2.tally import Tally
from runtime.tensors import Chunk

log = logging.getLogger(__name__)

MAX_STREAMS: Final = 1024
"""Open on one connection; a client that keeps to HTTP/2 waits with more."""
STREAM_WINDOW: Final = 1 << 20
CONNECTION_WINDOW: Final = 16 << 20
# Streams that came to nothing within so many seconds: the client took them back (CVE-2023-44487), or made us (CVE-2025-8671).
MAX_FAILED, FAILED_WITHIN_S = 1000, 10.0
# Each is looked at for all streams; gRPC's core, which sends most, changes its windows no more often than every 100 ms.
MAX_SETTINGS, SETTINGS_WITHIN_S = 200, 10.0
JOIN_BYTES: Final = 1 << 16
"""Up to here one write of what belongs together costs less than a write for each."""

_SETTINGS: Final = settings_frame(
    {
        MAX_CONCURRENT_STREAMS: MAX_STREAMS,
        INITIAL_WINDOW_SIZE: STREAM_WINDOW,
        MAX_FRAME_SIZE: MAX_FRAME_BYTES,
        MAX_HEADER_LIST_SIZE: MAX_LIST_BYTES,
    }
) + window_update(0, CONNECTION_WINDOW - DEFAULT_WINDOW)
_SETTINGS_ACK: Final = frame(SETTINGS, ACK, 0)
_NO_TABLE: Final = b"\x20"
"""Before a header block: the table of those that follow has a size of nothing (RFC 7541, 6.3)."""


class Application(Protocol):
    """What a connection serves."""

    def open(self, stream: Stream, fields: Fields) -> Receiver | None:
        """Who takes what comes on a new stream; None where it was answered already. Raises nothing but `StreamFault`."""


class Http2Connection(asyncio.Protocol):
    """One client's; in `connections` from when it is made until it is lost."""

    def __init__(self, application: Application, connections: set[Http2Connection]) -> None:
        self._application = application
        self._connections = connections
        self._loop = asyncio.get_running_loop()
        self.transport: Any = None
        self.streams: dict[int, Stream] = {}
        self.made_at = self.heard_at = self._loop.time()
        self.pinged_at: float | None = None
        """When the client was asked whether it is there; None: it has answered."""
        self.closed_at: float | None = None
        """When we ended it; what was written may still be on its way."""
        self._reader = FrameReader(self)
        self._fields = FieldDecoder()
        self._data: Stream | None = None
        """Whose DATA frame it is that is being taken."""
        self._newest = 0
        """The client's newest stream."""
        self._debt = 0
        """Bytes that came on all streams since we last made room for more."""
        self._sender = Sender(self._write_parts, self._end, self._loop.time)
        self._is_write_paused = self._is_closing = False
        self._tells_table = False
        """Whether our next header block is to say that we keep no table."""
        self._failed = Tally(MAX_FAILED, FAILED_WITHIN_S, "streams came to nothing")
        self._settings = Tally(MAX_SETTINGS, SETTINGS_WITHIN_S, "SETTINGS came")
        self._out: list[bytes] = []
        """Control frames that are sent together."""
        self._is_flushing = False

    @property
    def is_greeted(self) -> bool:
        """Whether the client has begun as HTTP/2 begins."""
        return self._reader.is_greeted

    # -- what asyncio tells

    def connection_made(self, transport: Any) -> None:
        """Greets the client."""
        self.transport = transport
        self._connections.add(self)
        transport.write(_SETTINGS)

    def data_received(self, data: bytes) -> None:
        """Takes all frames in it apart."""
        self.heard_at = self._loop.time()
        if self._is_closing:
            return
        try:
            self._reader.feed(data)
        except ConnectionFault as fault:
            self.fail(fault)
            return
        if self._out:
            self._flush()

    def pause_writing(self) -> None:
        """A client that takes nothing is not listened to either: what it asks for would only pile up."""
        self._sender.is_held = self._is_write_paused = True
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        """It takes again."""
        self._is_write_paused = False
        if self._is_closing:
            return
        self._sender.is_held = False
        self.transport.resume_reading()
        self._sender.go_on()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody waits for any answer."""
        self._stop()
        self._lose_all()
        self._connections.discard(self)

    # -- frames in

    def take_headers(self, stream_id: int, block: bytes, is_last: bool) -> None:
        """Opens a stream, or takes its trailers."""
        fields = self._fields(block)  # whatever becomes of the stream: it may change the table
        stream = self.streams.get(stream_id)
        if stream is not None:
            self._take_trailers(stream, is_last)
            return
        if stream_id <= self._newest:
            return  # over; what its client sent before it knew
        self._newest = stream_id
        if len(self.streams) >= MAX_STREAMS:
            self._out.append(reset_stream(stream_id, ErrorCode.REFUSED_STREAM))
            self._note_failed()
            return
        stream = self.streams[stream_id] = Stream(self, stream_id, self.heard_at)
        stream.client_ended = is_last
        try:
            stream.receiver = receiver = self._application.open(stream, fields)
            if receiver is not None and is_last:
                receiver.take(b"", True)
        except Exception as error:
            self._give_up(stream, error)

    def begin_data(self, stream_id: int, length: int, padding: int) -> None:
        """Counts what a DATA frame says that it has, and finds who takes it."""
        if not stream_id or stream_id > self._newest:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"DATA where none may be, on stream {stream_id}")
        self._debt += length
        if self._debt > CONNECTION_WINDOW:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "more DATA than the connection's window had room for")
        if self._debt >= CONNECTION_WINDOW // 2:
            self._out.append(window_update(0, self._debt))
            self._debt = 0
        stream = self._data = self.streams.get(stream_id)
        if stream is None:
            return
        stream.debt += length
        if stream.client_ended or stream.debt > STREAM_WINDOW:
            self._data = None
            self.reset(stream, ErrorCode.STREAM_CLOSED if stream.client_ended else ErrorCode.FLOW_CONTROL_ERROR)
        elif padding:
            self.take_more(stream, padding)

    def take_data(self, chunk: Chunk, is_last: bool) -> None:
        """Hands on what came on a stream, unless that is over."""
        if self._data is not None:
            self._hand_over(self._data, chunk, is_last)

    def take_frame(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        """Takes what is no request. Frames of other types mean nothing (5.5)."""
        if kind == WINDOW_UPDATE:
            self._take_window_update(stream_id, read_number(payload, "WINDOW_UPDATE"))
        elif kind == RST_STREAM:
            self._take_reset(stream_id, read_number(payload, "RST_STREAM"))
        elif kind == SETTINGS:
            self._take_settings(flags, stream_id, payload)
        elif kind == PING:
            self._take_ping(flags, stream_id, payload)
        elif kind == PRIORITY:
            if len(payload) != 5 or not stream_id:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "a PRIORITY frame that is none")
        elif kind == PUSH_PROMISE:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "clients promise nothing")
        elif kind == GOAWAY and stream_id:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "GOAWAY on a stream")

    def _take_trailers(self, stream: Stream, is_last: bool) -> None:
        if stream.client_ended or not is_last:
            self.reset(stream, ErrorCode.STREAM_CLOSED if stream.client_ended else ErrorCode.PROTOCOL_ERROR)
            return
        self._hand_over(stream, b"", True)

    def _hand_over(self, stream: Stream, chunk: Chunk, is_last: bool) -> None:
        if is_last:
            stream.client_ended = True
        receiver = stream.receiver
        if receiver is None or stream.is_over:
            self.take_more(stream, len(chunk))
            return
        try:
            receiver.take(chunk, is_last)
        except Exception as error:
            self._give_up(stream, error)

    def _give_up(self, stream: Stream, error: Exception) -> None:
        """Resets a stream that something is wrong with. A mistake of ours costs one call, not all of the connection's."""
        if not isinstance(error, StreamFault):
            log.error("a call failed in an unforeseen way", exc_info=error)
        self.reset(stream, error.code if isinstance(error, StreamFault) else ErrorCode.INTERNAL_ERROR)

    def _take_reset(self, stream_id: int, code: int) -> None:
        if not stream_id or stream_id > self._newest:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"RST_STREAM of stream {stream_id}, which was never open")
        stream = self.streams.pop(stream_id, None)
        if stream is None:
            return
        was_over = stream.is_over
        self._lose(stream)
        if not was_over:
            self._note_failed()

    def _take_settings(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "SETTINGS on a stream")
        if flags & ACK:
            if payload:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "an acknowledgement that says more")
            return
        values = read_settings(payload)
        self._settings.note(self.heard_at)
        # Before anything is sent that goes by them: the client counts by the old ones until it has read this (6.5.3).
        self._out.append(_SETTINGS_ACK)
        self._flush()
        window = None
        for name, value in values:
            if name == INITIAL_WINDOW_SIZE:
                window = value
            elif name == MAX_FRAME_SIZE:
                self._sender.frame_size = value
            elif name == HEADER_TABLE_SIZE and value < DEFAULT_TABLE_SIZE:
                self._tells_table = True
        if window is not None:  # last, as it sends, by all of them
            self._sender.resize(window, self.streams.values())

    def _take_window_update(self, stream_id: int, increment: int) -> None:
        if not stream_id:
            self._sender.widen(increment)
            return
        if stream_id > self._newest:
            text = f"WINDOW_UPDATE of stream {stream_id}, which was never open"
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, text)
        stream = self.streams.get(stream_id)
        if stream is None:
            return
        try:
            self._sender.widen_stream(stream, increment)
        except StreamFault as fault:
            self.reset(stream, fault.code)

    def _take_ping(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id or len(payload) != 8:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, f"a PING of {len(payload)} bytes on stream {stream_id}")
        if flags & ACK:
            self.pinged_at = None
        else:
            self._out.append(frame(PING, ACK, 0, payload))

    # -- the connection itself

    def ping(self) -> None:
        """Asks whether the client is there; `pinged_at` is None again once it has answered."""
        self.pinged_at = self._loop.time()
        self._write(frame(PING, 0, 0, bytes(8)))

    def say_goodbye(self) -> None:
        """Asks the client to open its next streams elsewhere; those on their way are still taken."""
        self._write(goaway(MAX_STREAM_ID, ErrorCode.NO_ERROR))

    def close(self, code: ErrorCode = ErrorCode.NO_ERROR, text: str = "") -> None:
        """Sends what was written, and ends the connection; nobody waits for what is left of its streams."""
        if not self._is_closing:
            self._flush()
            self._write(goaway(self._newest, code, text))
            self._stop()
            self._lose_all()
        self.transport.close()

    def fail(self, fault: ConnectionFault) -> None:
        """Ends the connection with the reason."""
        self.close(fault.code, str(fault))

    def _stop(self) -> None:
        self._is_closing = self._reader.is_stopped = self._sender.is_held = True
        self._data = None
        if self.closed_at is None:
            self.closed_at = self._loop.time()

    def _lose_all(self) -> None:
        streams, self.streams = list(self.streams.values()), {}
        for stream in streams:
            self._lose(stream)

    # -- answers

    def reply(self, stream: Stream, headers: bytes, body: Sequence[Chunk], trailers: bytes) -> None:
        """A whole answer: fields, its bytes, fields. In one write where it is small and there is room."""
        size = sum(map(len, body))
        if stream.client_ended and not self._tells_table and self._sender.spend(stream, size):
            stream.is_over, stream.receiver, id_ = True, None, stream.id
            del self.streams[id_]
            before = HEADER.pack(0, len(headers), HEADERS, END_HEADERS, id_)
            between = frame_head(size, DATA, 0, id_)
            behind = HEADER.pack(0, len(trailers), HEADERS, END_HEADERS | END_STREAM, id_)
            chunks = (before, headers, between, *body, behind, trailers)
            if size <= JOIN_BYTES:
                self.transport.write(b"".join(chunks))
            else:
                self.transport.writelines(chunks)
            return
        self.send_headers(stream, headers)
        self.send(stream, body)
        self.end(stream, trailers)

    def send_headers(self, stream: Stream, block: bytes) -> None:
        """The fields of an answer that goes on."""
        self._write(frame(HEADERS, END_HEADERS, stream.id, self._told_table() + block))

    def send(self, stream: Stream, chunks: Iterable[Chunk]) -> None:
        """Sends them as soon as there is room. They are not to change until then."""
        self._sender.send(stream, chunks)

    def end(self, stream: Stream, block: bytes) -> None:
        """Ends the answer with fields, once all of it is sent. A client that still sends is told that nobody listens."""
        stream.is_over = True
        stream.trailers = block
        if not stream.queue:
            self._end(stream)

    def reset(self, stream: Stream, code: ErrorCode) -> None:
        """Ends a stream without an answer, or in the middle of one."""
        self.streams.pop(stream.id, None)
        self._out.append(reset_stream(stream.id, code))
        self._flush_soon()
        self._lose(stream)
        self._note_failed()

    def take_more(self, stream: Stream, size: int) -> None:
        """So many bytes that came on the stream are used up: its client may send as many more."""
        stream.used += size
        if stream.used >= STREAM_WINDOW // 2 and not stream.client_ended:
            self._out.append(window_update(stream.id, stream.used))
            self._flush_soon()
            stream.debt -= stream.used
            stream.used = 0

    def _end(self, stream: Stream) -> None:
        assert stream.trailers is not None, "only answers that are over come here"
        ends = frame(HEADERS, END_HEADERS | END_STREAM, stream.id, self._told_table() + stream.trailers)
        if not stream.client_ended:
            ends += reset_stream(stream.id, ErrorCode.NO_ERROR)
            stream.client_ended = True
        self.streams.pop(stream.id, None)
        if stream is self._data:
            self._data = None  # what is left of its frame is nobody's
        stream.receiver = stream.on_sent = None
        self._write(ends)

    def _lose(self, stream: Stream) -> None:
        stream.is_over = stream.client_ended = True
        self._sender.forget(stream)
        receiver, stream.receiver, stream.on_sent = stream.receiver, None, None
        if receiver is not None:
            try:
                receiver.lose()
            except Exception as error:
                log.error("a call that was lost did not end as it should", exc_info=error)

    def _note_failed(self) -> None:
        """Counts a stream that came to nothing; too many in too short a time end the connection."""
        try:
            self._failed.note(self.heard_at)
        except ConnectionFault as fault:
            self.fail(fault)

    def _told_table(self) -> bytes:
        """What goes before our next header block, as the client's table of our fields has shrunk (RFC 9113, 4.3.1)."""
        if not self._tells_table:
            return b""
        self._tells_table = False
        return _NO_TABLE

    def _write(self, raw: bytes) -> None:
        if not self._is_closing:
            self.transport.write(raw)

    def _write_parts(self, parts: list[Chunk]) -> None:
        self.transport.writelines(parts)

    def _flush_soon(self) -> None:
        if not self._is_flushing:
            self._is_flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._is_flushing = False
        out, self._out = self._out, []
        if out:
            self._write(b"".join(out))
