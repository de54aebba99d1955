"""What waits to be sent on the streams of one connection: stream by stream in turns, within the windows that the client opens.

Knows nothing of sockets: what it sends goes to a function, and whoever has the socket says when it takes no more.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

from runtime.serving.http2.frames import (
    DATA,
    DEFAULT_FRAME_SIZE,
    DEFAULT_WINDOW,
    MAX_WINDOW,
    ConnectionFault,
    ErrorCode,
    StreamFault,
    frame_head,
)
from runtime.serving.http2.stream import Stream
from runtime.tensors import Chunk

QUANTUM_BYTES: Final = 1 << 16
"""What one stream sends before the next one's turn."""


class Sender:
    """Sends DATA by `write`, and tells `end` of each stream whose answer is over and sent. `clock` as the event loop's."""

    def __init__(
        self, write: Callable[[list[Chunk]], object], end: Callable[[Stream], object], clock: Callable[[], float]
    ) -> None:
        self._write = write
        self._end = end
        self._clock = clock
        self.is_held = False
        """Whether nothing may be written now."""
        self.frame_size = DEFAULT_FRAME_SIZE
        """The longest payload that the client takes."""
        self._window = DEFAULT_WINDOW
        """What may be sent on all streams together."""
        self._initial_window = DEFAULT_WINDOW
        self._waiting: dict[Stream, None] = {}
        """Streams with something to send that their own windows have room for, whose turn it is in order."""
        self._stalled: dict[Stream, None] = {}
        """Those that wait for their client to open theirs, in the order in which they came to a stop."""

    def spend(self, stream: Stream, size: int) -> bool:
        """Whether one frame of so many bytes may go at once, before any other; its room is then taken."""
        if (
            self.is_held
            or self._waiting
            or size > self.frame_size
            or size > self._window
            or size > self._initial_window + stream.credit
        ):
            return False
        self._window -= size
        stream.credit -= size
        return True

    def send(self, stream: Stream, chunks: Iterable[Chunk]) -> None:
        """Sends them as soon as there is room. They are not to change until then."""
        for chunk in chunks:
            if len(chunk):
                stream.queue.append(memoryview(chunk))
                stream.queued_bytes += len(chunk)
        self._wake((stream,))

    def forget(self, stream: Stream) -> None:
        """Nothing more is sent on the stream."""
        stream.queue.clear()
        stream.queued_bytes = 0
        self._waiting.pop(stream, None)
        self._stalled.pop(stream, None)

    def widen(self, increment: int) -> None:
        """The client lets us send so many bytes more on all streams together; `ConnectionFault` where no window is so wide."""
        self._window += increment
        if not increment or self._window > MAX_WINDOW:
            text = f"a window that grows by {increment} to {self._window}"
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR if increment else ErrorCode.PROTOCOL_ERROR, text)
        self.go_on()

    def widen_stream(self, stream: Stream, increment: int) -> None:
        """The same for one stream; `StreamFault`."""
        stream.credit += increment
        if not increment or self._initial_window + stream.credit > MAX_WINDOW:
            text = f"a window that grows by {increment} to {self._initial_window + stream.credit}"
            raise StreamFault(ErrorCode.FLOW_CONTROL_ERROR if increment else ErrorCode.PROTOCOL_ERROR, text)
        if stream in self._stalled:
            self._wake((stream,))

    def resize(self, initial_window: int, streams: Iterable[Stream]) -> None:
        """Every window, of `streams` and of those to come, is to have begun as `initial_window`; see `widen`."""
        widest = initial_window + max((stream.credit for stream in streams), default=0)
        if widest > MAX_WINDOW:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, f"SETTINGS open a stream's window to {widest}")
        is_wider = initial_window > self._initial_window
        self._initial_window = initial_window
        if is_wider:
            self._wake(list(self._stalled))

    def go_on(self) -> None:
        """Sends what waits, as far as windows and the socket take it."""
        waiting = self._waiting
        while waiting and self._window > 0 and not self.is_held:
            stream = next(iter(waiting))
            del waiting[stream]
            if not self._send_some(stream):
                self._stalled[stream] = None
            elif stream.queue:
                waiting[stream] = None
            elif stream.trailers is not None:
                self._end(stream)
            elif stream.on_sent is not None:
                stream.on_sent()

    def _wake(self, streams: Iterable[Stream]) -> None:
        for stream in streams:
            if stream.queue:
                self._stalled.pop(stream, None)
                self._waiting[stream] = None
        self.go_on()

    def _send_some(self, stream: Stream) -> bool:
        """Up to a quantum of what waits; False where the stream's own window has room for nothing."""
        room = min(QUANTUM_BYTES, self._window, self._initial_window + stream.credit)
        if room <= 0:
            return False
        frames: list[Chunk] = []
        sent = 0
        while stream.queue and sent < room:
            pieces, size = _take_up_to(stream.queue, min(room - sent, self.frame_size))
            frames.append(frame_head(size, DATA, 0, stream.id))
            frames += pieces
            sent += size
        self._window -= sent
        stream.credit -= sent
        stream.queued_bytes -= sent
        stream.since = self._clock()
        self._write(frames)
        return True


def _take_up_to(queue: deque[memoryview], most: int) -> tuple[list[memoryview], int]:
    """The first `most` bytes of what waits, or all of it, and how many those are."""
    pieces: list[memoryview] = []
    size = 0
    while queue and size < most:
        piece = queue.popleft()
        if len(piece) > most - size:
            queue.appendleft(piece[most - size :])
            piece = piece[: most - size]
        pieces.append(piece)
        size += len(piece)
    return pieces, size
