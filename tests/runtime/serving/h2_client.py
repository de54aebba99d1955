"""A client made of the library `h2`, which ends in an exception as soon as a server breaks the protocol."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from h2 import events
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.exceptions import StreamClosedError
from h2.settings import SettingCodes, Settings

from protos import inference

INFER = inference.METHODS["ModelInfer"].path
WAIT_S = 20.0


@dataclass
class Answer:
    """What came on one stream."""

    data: bytearray = field(default_factory=bytearray)
    headers: dict[bytes, bytes] = field(default_factory=dict)
    trailers: dict[bytes, bytes] = field(default_factory=dict)
    reset: int | None = None
    is_over: bool = False

    @property
    def status(self) -> bytes | None:
        return self.trailers.get(b"grpc-status", self.headers.get(b"grpc-status"))

    @property
    def messages(self) -> list[bytes]:
        raw, found = bytes(self.data), []
        while raw:
            size = int.from_bytes(raw[1:5], "big")
            assert len(raw) >= 5 + size, "half a message"
            found.append(raw[5 : 5 + size])
            raw = raw[5 + size :]
        return found


class H2Client:
    """Sends what it is told as far as the server's windows go, and keeps what comes; by hand, one `turn` after another."""

    def __init__(self, address: str, given: Mapping[SettingCodes, int] | None = None) -> None:
        host, _, port = address.rpartition(":")
        self._socket = socket.create_connection((host, int(port)), WAIT_S)
        self.connection = H2Connection(H2Configuration(client_side=True, header_encoding=None))
        self.connection.local_settings = Settings(client=True, initial_values=dict(given or {}))
        self.connection.initiate_connection()
        self._unknown_settings = 1
        """Of ours, how many SETTINGS the server has not acknowledged."""
        self.answers: dict[int, Answer] = {}
        self.terminated: events.ConnectionTerminated | None = None
        self.is_closed = False
        self.opens_windows = True
        """Whether room is made again at once for what came."""
        self.owed: dict[int, int] = {}
        """By stream: what came and for which no room was made."""
        self._uploads: dict[int, memoryview] = {}
        self._ends: set[int] = set()
        self._left = bytearray()

    def open(self, path: str = INFER, *more: tuple[bytes, bytes]) -> int:
        """A call that has sent its head."""
        stream = self.connection.get_next_available_stream_id()
        self.answers[stream] = Answer()
        fields = [
            (b":method", b"POST"),
            (b":scheme", b"http"),
            (b":path", path.encode()),
            (b":authority", b"localhost"),
        ]
        self.connection.send_headers(
            stream, [*fields, (b"content-type", b"application/grpc"), (b"te", b"trailers"), *more]
        )
        return stream

    def send(self, stream: int, raw: bytes, *, is_last: bool) -> None:
        """Queues bytes of a request."""
        self._uploads[stream] = memoryview(bytes(self._uploads.get(stream, b"")) + raw)
        if is_last:
            self._ends.add(stream)

    def cancel(self, stream: int) -> None:
        """Takes a call back, if it is not over."""
        self._uploads.pop(stream, None)
        if not self.answers[stream].is_over:
            self.connection.reset_stream(stream, 8)
            self.answers[stream].is_over = True

    def acknowledge(self, stream: int, most: int = 1 << 30) -> None:
        """Makes room again for up to `most` bytes that came on a stream."""
        size = min(self.owed.get(stream, 0), most)
        if size:
            self.owed[stream] -= size
            self.connection.increment_flow_control_window(size)
            with suppress(StreamClosedError, KeyError):  # it may have ended since
                self.connection.increment_flow_control_window(size, stream)

    def change(self, given: Mapping[SettingCodes, int]) -> None:
        """Changes settings, once the server knows the last ones: `h2` takes one acknowledgement for all that it sent."""
        while self._unknown_settings:
            self.flush()
            self.take()
        self.connection.update_settings(given)
        self._unknown_settings += 1

    def upload(self, most: int = 1 << 30, padding: int | None = None) -> None:
        """Gives every stream its turn to send up to `most` bytes."""
        for stream in list(self._uploads):
            left = self._uploads[stream]
            pad = 0 if padding is None else padding + 1
            room = min(self.connection.local_flow_control_window(stream), self.connection.max_outbound_frame_size) - pad
            size = min(len(left), room, most)
            if size <= 0 and len(left):
                continue
            is_last = size == len(left) and stream in self._ends
            if size == len(left):
                del self._uploads[stream]
                self._ends.discard(stream)
            else:
                self._uploads[stream] = left[size:]
            self.connection.send_data(stream, bytes(left[:size]), end_stream=is_last, pad_length=padding)

    def flush(self) -> None:
        self._socket.sendall(self.connection.data_to_send())

    def take(self, wait_s: float = WAIT_S) -> None:
        """Takes what is here, or comes within that time."""
        self._socket.settimeout(wait_s)
        try:
            raw = self._socket.recv(1 << 16)
        except (BlockingIOError, TimeoutError):
            assert wait_s < WAIT_S, "the server says nothing"
            return
        finally:
            self._socket.settimeout(WAIT_S)
        self.is_closed = not raw
        self._left += raw
        # Frame by frame: `h2` looks at how long they may be once for all that it is given.
        while len(self._left) >= 9 and len(self._left) >= (size := 9 + int.from_bytes(self._left[:3], "big")):
            for event in self.connection.receive_data(bytes(self._left[:size])):
                self._note(event)
            del self._left[:size]

    def until(self, streams: Iterable[int]) -> None:
        """Turns until the answers on these streams are over."""
        left = set(streams)
        while left := {stream for stream in left if not self.answers[stream].is_over}:
            self.upload()
            self.flush()
            self.take()
            assert not self.is_closed, f"closed with {len(left)} answers to come: {self.terminated}"
        self.flush()

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> H2Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _note(self, event: Any) -> None:
        match event:
            case events.ResponseReceived():
                self.answers[event.stream_id].headers = dict(event.headers)
            case events.TrailersReceived():
                self.answers[event.stream_id].trailers = dict(event.headers)
            case events.DataReceived():
                self.answers[event.stream_id].data += event.data
                self.owed[event.stream_id] = self.owed.get(event.stream_id, 0) + event.flow_controlled_length
                if self.opens_windows:
                    self.acknowledge(event.stream_id)
            case events.StreamEnded():
                self.answers[event.stream_id].is_over = True
            case events.StreamReset():
                self._uploads.pop(event.stream_id, None)
                self.answers[event.stream_id].is_over = True
                self.answers[event.stream_id].reset = event.error_code
            case events.SettingsAcknowledged():
                self._unknown_settings -= 1
            case events.ConnectionTerminated():
                self.terminated = event
