"""One HTTP/2 connection of a server on an event loop: frames in, streams to its `Application`, answers out within their windows.

Bounded, whatever a client does: streams at once, header blocks, bytes in flight (its windows, which open again as what came is
used up), streams that come to nothing, and acknowledgements (a client that does not read is not read from). The payload of a DATA
frame is handed on as it comes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Protocol

from runtime.serving.http2.fields import MAX_LIST_BYTES, FieldDecoder, Fields
from runtime.serving.http2.frames import (
    ACK,
    CONTINUATION,
    DATA,
    DEFAULT_FRAME_SIZE,
    DEFAULT_WINDOW,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADER,
    HEADER_BYTES,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    MAX_CONCURRENT_STREAMS,
    MAX_FRAME_SIZE,
    MAX_HEADER_LIST_SIZE,
    MAX_STREAM_ID,
    MAX_WINDOW,
    PADDED,
    PING,
    PREFACE,
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
    header_block_part,
    read_number,
    read_settings,
    reset_stream,
    settings_frame,
    window_update,
    without_padding,
)
from runtime.serving.http2.stream import Chunk, Receiver, Stream

MAX_STREAMS: Final = 1024
"""Open on one connection; a client that keeps to HTTP/2 waits with more."""
STREAM_WINDOW: Final = 1 << 20
CONNECTION_WINDOW: Final = 16 << 20
MAX_FRAME_BYTES: Final = 1 << 20
"""Of DATA, which is not gathered. Large tensors in few frames."""
MAX_CONTROL_BYTES: Final = 32_768
"""Of any other frame, and of a header block in several: these are gathered."""
MAX_BLOCK_FRAMES: Final = 64
MAX_EMPTY_FRAMES: Final = 1000
"""DATA frames in a row that bring nothing (CVE-2019-9518)."""
# Streams that came to nothing within so many seconds: the client took them back (CVE-2023-44487), or made us (CVE-2025-8671).
MAX_FAILED, FAILED_WITHIN_S = 1000, 10.0
VIEW_BYTES: Final = 4096
"""From here on what came is handed on as a view: whoever takes it copies it once, to where it is to lie."""
JOIN_BYTES: Final = 1 << 16
"""Up to here one write of what belongs together costs less than a write for each."""
QUANTUM_BYTES: Final = 1 << 16
"""What one stream sends before the next one's turn."""

_SETTINGS: Final = settings_frame(
    {
        MAX_CONCURRENT_STREAMS: MAX_STREAMS,
        INITIAL_WINDOW_SIZE: STREAM_WINDOW,
        MAX_FRAME_SIZE: MAX_FRAME_BYTES,
        MAX_HEADER_LIST_SIZE: MAX_LIST_BYTES,
    }
) + window_update(0, CONNECTION_WINDOW - DEFAULT_WINDOW)
_SETTINGS_ACK: Final = frame(SETTINGS, ACK, 0)


class Application(Protocol):
    """What a connection serves."""

    def open(self, stream: Stream, fields: Fields) -> Receiver | None:
        """Who takes what comes on a new stream; None where it was answered already. Raises nothing but `StreamFault`."""


class Http2Connection(asyncio.Protocol):
    """One client's. `on_lost` is told when it is gone."""

    def __init__(self, application: Application, on_lost: Callable[[Http2Connection], None]) -> None:
        self._application = application
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self.transport: Any = None
        self.streams: dict[int, Stream] = {}
        self.made_at = self.heard_at = self._loop.time()
        self.is_greeted = False
        """Whether the client has begun as HTTP/2 begins."""
        self.pinged_at: float | None = None
        """When the client was asked whether it is there; None: it has answered."""
        self._preface = PREFACE
        self._left = b""
        """Of a frame that is not whole, unless it is DATA."""
        self._data: Stream | None = None
        self._data_left = 0
        self._data_flags = 0
        self._block: tuple[int, int, bytearray] | None = None
        """Stream, flags and beginning of a header block that is not whole."""
        self._block_frames = self._empty_frames = 0
        self._fields = FieldDecoder()
        self._newest = 0
        """The client's newest stream."""
        self._debt = 0
        self._window = DEFAULT_WINDOW
        """What we may send on all streams together."""
        self._initial_window = DEFAULT_WINDOW
        self._frame_size = DEFAULT_FRAME_SIZE
        self._waiting: dict[Stream, None] = {}
        """Streams with something to send that their own windows have room for, whose turn it is in order."""
        self._stalled: set[Stream] = set()
        """Those that wait for their client to open theirs."""
        self._is_write_paused = False
        self._is_closing = False
        self._failed, self._failed_since = 0, 0.0
        self._out: list[bytes] = []
        """Control frames that are sent together."""
        self._is_flushing = False

    # -- what asyncio tells

    def connection_made(self, transport: Any) -> None:
        """Greets the client."""
        self.transport = transport
        transport.write(_SETTINGS)

    def data_received(self, data: bytes) -> None:
        """Takes all frames in it apart."""
        self.heard_at = self._loop.time()
        if self._is_closing:
            return
        if self._left:
            data, self._left = self._left + data, b""
        try:
            at = self._take_frames(data)
        except ConnectionFault as fault:
            self.fail(fault)
            return
        if at < len(data):
            self._left = data[at:]
        if self._out:
            self._flush()

    def pause_writing(self) -> None:
        """A client that takes nothing is not listened to either: what it asks for would only pile up."""
        self._is_write_paused = True
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        """It takes again."""
        self._is_write_paused = False
        self.transport.resume_reading()
        self._drain()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody waits for any answer."""
        self._is_closing = True
        streams, self.streams = list(self.streams.values()), {}
        self._waiting.clear()
        self._stalled.clear()
        for stream in streams:
            self._lose(stream)
        self._on_lost(self)

    # -- frames in

    def _take_frames(self, data: bytes) -> int:
        """Handles every frame that is whole, and the beginning of a DATA frame; where the rest begins."""
        at, end = 0, len(data)
        if self._preface:
            at = self._take_preface(data)
        while True:
            if self._data_left:
                if at == end:
                    return at
                size = min(self._data_left, end - at)
                self._take_data(data[at : at + size] if size < VIEW_BYTES else memoryview(data)[at : at + size], size)
                at += size
                continue
            if end - at < HEADER_BYTES:
                return at
            high, low, kind, flags, stream_id = HEADER.unpack_from(data, at)
            length = high << 16 | low
            stream_id &= MAX_STREAM_ID
            if kind == DATA and not flags & PADDED:
                at += HEADER_BYTES
                self._begin_data(stream_id, flags, length)
                continue
            self._check_size(kind, length)
            begins = at + HEADER_BYTES
            if end - begins < length:
                return at
            at = begins + length
            self._take(kind, flags, stream_id, data[begins:at])
            if self._is_closing:
                return end

    def _take_preface(self, data: bytes) -> int:
        size = min(len(self._preface), len(data))
        if data[:size] != self._preface[:size]:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "this port speaks gRPC, that is HTTP/2, and nothing else")
        self._preface = self._preface[size:]
        return size

    def _check_size(self, kind: int, length: int) -> None:
        most = MAX_FRAME_BYTES if kind == DATA else MAX_CONTROL_BYTES
        if length > most:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, f"a frame of {length} bytes; at most {most} are taken")

    def _take(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        if self._block is not None and kind != CONTINUATION:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a header block was interrupted by another frame")
        if not self.is_greeted and kind != SETTINGS:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a connection begins with SETTINGS")
        if kind == HEADERS:
            self._take_headers(flags, stream_id, payload)
        elif kind == WINDOW_UPDATE:
            self._take_window_update(stream_id, read_number(payload, "WINDOW_UPDATE"))
        elif kind == DATA:
            kept = without_padding(flags, payload)
            self._begin_data(stream_id, flags, len(payload), len(payload) - len(kept))
            self._take_data(kept, len(kept))
        elif kind == RST_STREAM:
            self._take_reset(stream_id, read_number(payload, "RST_STREAM"))
        elif kind == SETTINGS:
            self._take_settings(flags, stream_id, payload)
        elif kind == PING:
            self._take_ping(flags, stream_id, payload)
        elif kind == CONTINUATION:
            self._take_continuation(flags, stream_id, payload)
        elif kind == PRIORITY:
            if len(payload) != 5 or not stream_id:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "a PRIORITY frame that is none")
        elif kind == PUSH_PROMISE:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "clients promise nothing")
        elif kind == GOAWAY and stream_id:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "GOAWAY on a stream")

    # -- requests

    def _take_headers(self, flags: int, stream_id: int, payload: bytes) -> None:
        block = header_block_part(flags, payload)
        if not stream_id % 2:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"clients open odd streams, not {stream_id}")
        if flags & END_HEADERS:
            self._open(stream_id, flags, block)
        else:
            self._block, self._block_frames = (stream_id, flags, bytearray(block)), 1

    def _take_continuation(self, flags: int, stream_id: int, payload: bytes) -> None:
        if self._block is None or self._block[0] != stream_id:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "CONTINUATION of nothing")
        _, first_flags, block = self._block
        block += payload
        self._block_frames += 1
        if len(block) > MAX_CONTROL_BYTES or self._block_frames > MAX_BLOCK_FRAMES:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, f"headers of more than {MAX_CONTROL_BYTES} bytes")
        if flags & END_HEADERS:
            self._block = None
            self._open(stream_id, first_flags, bytes(block))

    def _open(self, stream_id: int, flags: int, block: bytes) -> None:
        fields = self._fields(block)  # whatever becomes of the stream: it may change the table
        stream = self.streams.get(stream_id)
        if stream is not None:
            self._take_trailers(stream, flags)
            return
        if stream_id <= self._newest:
            return  # over; what its client sent before it knew
        self._newest = stream_id
        if len(self.streams) >= MAX_STREAMS:
            self._note_failed()
            self._out.append(reset_stream(stream_id, ErrorCode.REFUSED_STREAM))
            return
        stream = self.streams[stream_id] = Stream(self, stream_id, self.heard_at)
        has_ended = bool(flags & END_STREAM)
        stream.client_ended = has_ended
        try:
            stream.receiver = receiver = self._application.open(stream, fields)
            if receiver is not None and has_ended:
                receiver.take(b"", True)
        except StreamFault as fault:
            self.reset(stream, fault.code)

    def _take_trailers(self, stream: Stream, flags: int) -> None:
        if not flags & END_STREAM or stream.client_ended:
            self.reset(stream, ErrorCode.PROTOCOL_ERROR)
            return
        self._hand_over(stream, b"", True)

    def _begin_data(self, stream_id: int, flags: int, length: int, padding: int = 0) -> None:
        """Counts what a DATA frame says that it has, and finds who takes it."""
        if self._block is not None or not stream_id or stream_id > self._newest or not self.is_greeted:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"DATA where none may be, on stream {stream_id}")
        self._check_size(DATA, length)
        self._debt += length
        if self._debt > CONNECTION_WINDOW:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "more DATA than the connection's window had room for")
        if self._debt >= CONNECTION_WINDOW // 2:
            self._out.append(window_update(0, self._debt))
            self._debt = 0
        stream = self._data = self.streams.get(stream_id)
        if stream is not None:
            stream.debt += length
            stream.used += padding
            if stream.client_ended or stream.debt > STREAM_WINDOW:
                self._data = None
                self.reset(stream, ErrorCode.STREAM_CLOSED if stream.client_ended else ErrorCode.FLOW_CONTROL_ERROR)
        self._data_left, self._data_flags = length - padding, flags
        if self._data_left:
            self._empty_frames = 0
            return
        self._empty_frames += 1
        if self._empty_frames > MAX_EMPTY_FRAMES:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, f"{MAX_EMPTY_FRAMES} frames without anything in them")
        if not padding:
            self._take_data(b"", 0)

    def _take_data(self, chunk: Chunk, size: int) -> None:
        self._data_left -= size
        stream = self._data
        if stream is not None:
            self._hand_over(stream, chunk, not self._data_left and bool(self._data_flags & END_STREAM))

    def _hand_over(self, stream: Stream, chunk: Chunk, is_last: bool) -> None:
        if is_last:
            stream.client_ended = True
        receiver = stream.receiver
        if receiver is None or stream.is_over:
            self.take_more(stream, len(chunk))
            return
        try:
            receiver.take(chunk, is_last)
        except StreamFault as fault:
            self.reset(stream, fault.code)

    def _take_reset(self, stream_id: int, code: int) -> None:
        if not stream_id or stream_id > self._newest:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"RST_STREAM of stream {stream_id}, which was never open")
        stream = self.streams.pop(stream_id, None)
        if stream is None:
            return
        if not stream.is_over:
            self._note_failed()
        self._lose(stream)

    # -- the connection itself

    def _take_settings(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "SETTINGS on a stream")
        if flags & ACK:
            if payload or not self.is_greeted:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "an acknowledgement that says more")
            return
        self.is_greeted = True
        for name, value in read_settings(payload):
            if name == INITIAL_WINDOW_SIZE:
                self._initial_window = value
            elif name == MAX_FRAME_SIZE:
                self._frame_size = value
        self._out.append(_SETTINGS_ACK)
        self._wake(self._stalled)

    def _take_window_update(self, stream_id: int, increment: int) -> None:
        if not stream_id:
            self._window += increment
            if not increment or self._window > MAX_WINDOW:
                raise ConnectionFault(
                    ErrorCode.FLOW_CONTROL_ERROR, f"a window that grows by {increment} to {self._window}"
                )
            self._drain()
            return
        if stream_id > self._newest:
            raise ConnectionFault(
                ErrorCode.PROTOCOL_ERROR, f"WINDOW_UPDATE of stream {stream_id}, which was never open"
            )
        stream = self.streams.get(stream_id)
        if stream is None:
            return
        stream.credit += increment
        if not increment or self._initial_window + stream.credit > MAX_WINDOW:
            self.reset(stream, ErrorCode.PROTOCOL_ERROR if not increment else ErrorCode.FLOW_CONTROL_ERROR)
        elif stream in self._stalled:
            self._wake((stream,))

    def _take_ping(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id or len(payload) != 8:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, f"a PING of {len(payload)} bytes on stream {stream_id}")
        if flags & ACK:
            self.pinged_at = None
        else:
            self._out.append(frame(PING, ACK, 0, payload))

    def ping(self) -> None:
        """Asks whether the client is there; `pinged_at` is None again once it has answered."""
        self.pinged_at = self._loop.time()
        self.transport.write(frame(PING, 0, 0, bytes(8)))

    def say_goodbye(self) -> None:
        """Asks the client to open its next streams elsewhere; those on their way are still taken."""
        if not self._is_closing:
            self.transport.write(goaway(MAX_STREAM_ID, ErrorCode.NO_ERROR))

    def close(self, code: ErrorCode = ErrorCode.NO_ERROR, text: str = "") -> None:
        """Sends what was written, and ends the connection."""
        if not self._is_closing:
            self._is_closing = True
            self._flush()
            self.transport.write(goaway(self._newest, code, text))
        self.transport.close()

    def fail(self, fault: ConnectionFault) -> None:
        """Ends the connection with the reason."""
        self.close(fault.code, str(fault))

    # -- answers

    def reply(self, stream: Stream, headers: bytes, body: Sequence[Chunk], trailers: bytes) -> None:
        """A whole answer: fields, its bytes, fields. In one write where it is small and there is room."""
        size = sum(map(len, body))
        if (
            size <= self._frame_size
            and size <= self._window
            and size <= self._initial_window + stream.credit
            and stream.client_ended
            and not (self._is_write_paused or self._is_closing or self._waiting)
        ):
            self._window -= size
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
        self._write(frame(HEADERS, END_HEADERS, stream.id, block))

    def send(self, stream: Stream, chunks: Iterable[Chunk]) -> None:
        """Sends them as soon as there is room. They are not to change until then."""
        stream.queue.extend(memoryview(chunk) for chunk in chunks if len(chunk))
        self._wake((stream,))

    def end(self, stream: Stream, block: bytes) -> None:
        """Ends the answer with fields, once all of it is sent. A client that still sends is told that nobody listens."""
        stream.is_over = True
        ends = frame(HEADERS, END_HEADERS | END_STREAM, stream.id, block)
        if stream.queue:
            stream.trailers = ends
            return
        self._end(stream, ends)

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

    def _end(self, stream: Stream, ends: bytes) -> None:
        if not stream.client_ended:
            ends += reset_stream(stream.id, ErrorCode.NO_ERROR)
        self.streams.pop(stream.id, None)
        stream.receiver = None
        self._write(ends)

    def _lose(self, stream: Stream) -> None:
        stream.is_over = stream.client_ended = True
        stream.queue.clear()
        self._waiting.pop(stream, None)
        self._stalled.discard(stream)
        receiver, stream.receiver = stream.receiver, None
        if receiver is not None:
            receiver.lose()

    def _note_failed(self) -> None:
        """Counts a stream that came to nothing; too many in too short a time end the connection."""
        now = self.heard_at
        if now - self._failed_since > FAILED_WITHIN_S:
            self._failed, self._failed_since = 0, now
        self._failed += 1
        if self._failed > MAX_FAILED:
            text = f"more than {MAX_FAILED} streams within {FAILED_WITHIN_S:g} s came to nothing"
            self.fail(ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, text))

    def _wake(self, streams: Iterable[Stream]) -> None:
        for stream in list(streams):
            if stream.queue:
                self._stalled.discard(stream)
                self._waiting[stream] = None
        self._drain()

    def _drain(self) -> None:
        """Sends what waits, stream by stream in turns, as far as windows and the socket take it."""
        waiting = self._waiting
        while waiting and self._window > 0 and not self._is_write_paused and not self._is_closing:
            stream = next(iter(waiting))
            del waiting[stream]
            if not self._send_some(stream):
                self._stalled.add(stream)
            elif stream.queue:
                waiting[stream] = None
            elif stream.trailers is not None:
                self._end(stream, stream.trailers)
            elif stream.on_sent is not None:
                stream.on_sent()

    def _send_some(self, stream: Stream) -> bool:
        """Up to a quantum of what waits; False where the stream's own window has room for nothing."""
        room = min(QUANTUM_BYTES, self._window, self._initial_window + stream.credit)
        if room <= 0:
            return False
        parts: list[Chunk] = []
        sent, queue = 0, stream.queue
        while queue and sent < room:
            chunk = queue.popleft()
            size = min(len(chunk), room - sent, self._frame_size)
            if size < len(chunk):
                queue.appendleft(chunk[size:])
            parts += (frame_head(size, DATA, 0, stream.id), chunk[:size])
            sent += size
        self._window -= sent
        stream.credit -= sent
        stream.since = self._loop.time()
        self.transport.writelines(parts)
        return True

    def _write(self, raw: bytes) -> None:
        if not self._is_closing:
            self.transport.write(raw)

    def _flush_soon(self) -> None:
        if not self._is_flushing:
            self._is_flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._is_flushing = False
        out, self._out = self._out, []
        if out and not self.transport.is_closing():
            self.transport.write(b"".join(out))
