"""A TCP proxy on loopback that makes a link bad on purpose: latency, jitter, bandwidth, black holes, resets, partial writes.

The benchmark and the chaos tests share it. It works on streams, so a lost packet is a delay, as TCP shows it. Bytes of a black hole
wait and come when it heals, as TCP would send them again. Changes of `link` hold from the next chunk on, connections stay.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Self

from benchmarks.hybrid.frames import CallCounter

CHUNK_BYTES: Final = 16 << 10
JITTER_SLOT_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class Link:
    """How the link is now. Each direction has half of the latency; times in seconds."""

    latency_s: float = 0.0
    """Of a round trip."""
    jitter_s: float = 0.0
    """At most so much more in each direction, drawn evenly for every 50 ms; order is kept. Links of one seed have the same jitter
    at the same moment, as if they were one radio: only so can two of them be compared request by request."""
    bytes_per_s: float | None = None
    """In each direction, over all connections; None: as fast as it goes."""
    is_blackhole: bool = False
    """Nothing arrives; new connections are taken and stay silent."""
    is_refusing: bool = False
    """New connections are reset at once."""
    piece_bytes: int | None = None
    """Everything is written in pieces of this size, each by itself."""


GOOD: Final = Link()


class ChaosProxy:
    """`async with ChaosProxy(host, port) as proxy`: connect to `proxy.port`, change `proxy.link`. Lives on one event loop."""

    def __init__(
        self, host: str, port: int, link: Link = GOOD, seed: int = 0, look: Callable[[bytes], None] | None = None
    ) -> None:
        self.port = 0
        self.connections = 0
        """Made so far."""
        self.bytes_up = 0
        """Towards the server."""
        self.calls = 0
        """gRPC calls that clients began on it, whatever became of them."""
        self.cuts = 0
        """Replies still to be cut: where one begins, its connection is reset instead, and `on_cut` is called."""
        self.on_cut: Callable[[], None] = lambda: None
        self._target = (host, port)
        self._link = link
        self._seed = seed
        self._look = look
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._free_at = {True: 0.0, False: 0.0}

    @property
    def link(self) -> Link:
        """How the link is now."""
        return self._link

    @link.setter
    def link(self, link: Link) -> None:
        self._link = link
        self._changed.set()
        self._changed = asyncio.Event()

    @property
    def target(self) -> tuple[str, int]:
        """Where new connections go; to be changed, then `reset` for those that are."""
        return self._target

    @target.setter
    def target(self, target: tuple[str, int]) -> None:
        self._target = target

    def reset(self) -> None:
        """Breaks every connection with RST."""
        for writer in list(self._writers):
            _abort(writer)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._on_connection, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None, "it was entered"
        self._server.close()
        self.reset()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _on_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None, "asyncio runs this in a task"
        self._tasks.add(task)
        self.connections += 1
        self._writers.add(writer)
        try:
            if self._link.is_refusing:
                _abort(writer)
                return
            there_reader, there_writer = await asyncio.open_connection(*self._target)
            self._writers.add(there_writer)
            try:
                await asyncio.gather(
                    self._pump(reader, there_writer, is_up=True), self._pump(there_reader, writer, is_up=False)
                )
            finally:
                self._writers.discard(there_writer)
                there_writer.close()
        except (OSError, asyncio.CancelledError):
            _abort(writer)
        finally:
            self._writers.discard(writer)
            self._tasks.discard(task)
            writer.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_up: bool) -> None:
        """Passes chunks on in order, each at its time: reading goes on while earlier chunks are on their way."""
        on_the_way: deque[tuple[float, bytes]] = deque()
        has_more = asyncio.Event()

        async def deliver() -> None:
            while True:
                while not on_the_way:
                    has_more.clear()
                    await has_more.wait()
                due, chunk = on_the_way.popleft()
                await asyncio.sleep(max(due - time.monotonic(), 0.0))
                while self._link.is_blackhole:
                    await self._changed.wait()
                if writer.is_closing():  # reset while this was on its way
                    raise ConnectionResetError("the connection was reset")
                if not chunk:
                    if writer.can_write_eof():
                        writer.write_eof()
                    return
                await self._write(writer, chunk)

        delivering = asyncio.create_task(deliver())
        counter = CallCounter(is_client=is_up)
        try:
            last_due = 0.0
            while True:
                chunk = await reader.read(CHUNK_BYTES)
                if chunk and is_up:
                    self.bytes_up += len(chunk)
                    self.calls += counter.feed(chunk)
                    if self._look is not None:
                        self._look(chunk)
                if not is_up and counter.feed(chunk) and self.cuts:
                    self.cuts -= 1
                    self.on_cut()
                    raise ConnectionResetError("this reply is cut")
                last_due = max(last_due, self._due(len(chunk), is_up=is_up))
                on_the_way.append((last_due, chunk))
                has_more.set()
                if not chunk:
                    break
            await delivering
        finally:
            delivering.cancel()
            with suppress(asyncio.CancelledError, OSError):
                await delivering

    def _due(self, size: int, *, is_up: bool) -> float:
        now, link = time.monotonic(), self._link
        if link.bytes_per_s is not None:
            self._free_at[is_up] = max(self._free_at[is_up], now) + size / link.bytes_per_s
            now = self._free_at[is_up]
        return now + link.latency_s / 2 + link.jitter_s * self._noise(time.monotonic(), is_up=is_up)

    def _noise(self, now: float, *, is_up: bool) -> float:
        """From 0 to 1, the same for all links of this seed in the same 50 ms."""
        return random.Random(f"{self._seed} {is_up} {int(now / JITTER_SLOT_S)}").random()

    async def _write(self, writer: asyncio.StreamWriter, chunk: bytes) -> None:
        size = self._link.piece_bytes or len(chunk)
        for start in range(0, len(chunk), size):
            writer.write(chunk[start : start + size])
            await writer.drain()
            if self._link.piece_bytes is not None:
                await asyncio.sleep(0)  # a write of its own, as far as the kernel lets it


def _abort(writer: asyncio.StreamWriter) -> None:
    """Ends a connection with RST rather than FIN."""
    held = writer.get_extra_info("socket")
    if held is not None:
        with suppress(OSError, ValueError):  # uvloop's word for a socket that is closed already
            held.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
