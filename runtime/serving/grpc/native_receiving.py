"""Who takes calls from the native front: a thread that waits for them, or the event loop while it finds some whenever it asks.

A thread that hands a burst over wakes the loop, and both want the interpreter. A loop that asks after each burst finds what came
meanwhile without anybody being woken; while it asks, the thread rests.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pygrpc_native import NativeGrpcFront

# As many calls as come to Python in one trip; a batch of the largest model that runs inline is smaller.
MAX_BURST: Final = 256

# Turns of the loop in which it may find nothing before the thread waits again: about as long as a client on this machine takes to
# send the next request. CPU a request beside a thread alone, with 16 turns: 0.84 to 0.86 at 1 connection, 0.90 to 0.99 at 8, and
# 0.98 to 0.99 at 32; with 40: 0.97, 0.98, 0.99 (medians of 16 to 40 interleaved pairs, 2-core x86-64 VM with others at work,
# November 2026).
MOST_MISSES: Final = 16

# Where the last time of asking found nothing the thread hands over so many bursts before the loop asks again.
LOOK_EVERY: Final = 16

# How often a thread that rests looks whether there is still a loop that could wake it. One that ends without `stop` never does.
LOOP_LOOK_S: Final = 1.0

OnBurst = Callable[[list[Any]], None]


class Receiver:
    """Hands each burst of events to `on_burst` once, in order, on the event loop, until the front closes."""

    def __init__(self, front: NativeGrpcFront, loop: asyncio.AbstractEventLoop, on_burst: OnBurst) -> None:
        self._front = front
        self._loop = loop
        self._on_burst = on_burst
        self._pays = False
        """Whether the loop found something when it asked last. Written by the loop while the thread rests."""
        self._may_wait = threading.Semaphore(0)
        self._thread = threading.Thread(target=self._wait, name="edgeward-grpc", daemon=True)

    def start(self) -> None:
        """Begins to wait for calls."""
        self._thread.start()

    def join(self) -> None:
        """Returns once the front, which is closed, is waited for no more. Blocks."""
        self._may_wait.release()
        self._thread.join()

    def _wait(self) -> None:
        handed_over = 0
        while (events := self._front.recv_batch_details(MAX_BURST)) is not None:
            handed_over += 1
            rests = self._pays or handed_over % LOOK_EVERY == 0
            try:
                self._loop.call_soon_threadsafe(self._take_and_ask if rests else self._on_burst, events)
            except RuntimeError:  # the loop was closed without `stop`
                self._front.close()
                return
            while rests and not self._may_wait.acquire(timeout=LOOP_LOOK_S):
                if self._loop.is_closed():  # without `stop`, with this burst still to take
                    self._front.close()
                    return

    def _take_and_ask(self, events: list[Any]) -> None:
        self._pays = False
        self._loop.call_soon(self._ask, 0)  # first: whatever becomes of the burst, somebody takes the next one
        self._on_burst(events)

    def _ask(self, misses: int) -> None:
        events = self._front.recv_batch_details(MAX_BURST, 0)
        if events:
            self._pays = True
            self._loop.call_soon(self._ask, 0)
            self._on_burst(events)
        elif events is None or misses == MOST_MISSES:
            self._may_wait.release()
        else:
            self._loop.call_soon(self._ask, misses + 1)
