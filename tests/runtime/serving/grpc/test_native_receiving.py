"""Whoever takes calls from the native front, the thread or the loop: each burst is handed over once, in order, to the end."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections import Counter
from typing import Any

import pytest

from runtime.serving.grpc.native_receiving import LOOK_EVERY, MAX_BURST, MOST_MISSES, Receiver
from tests.runtime.serving.threaded import PATIENCE_S


class FakeFront:
    """Bursts that were put in, to whoever asks; remembers who did, and whether two did at once."""

    def __init__(self) -> None:
        self.taken_by: Counter[str] = Counter()
        self.was_shared = False
        self.is_closed = threading.Event()
        self._bursts: queue.Queue[list[Any] | None] = queue.Queue()
        self._asking = threading.Lock()

    def put(self, number: int) -> None:
        self._bursts.put([number])

    def close(self) -> None:
        self._bursts.put(None)
        self.is_closed.set()

    def recv_batch_details(self, max_events: int, timeout_ms: int | None = None) -> list[Any] | None:
        assert max_events == MAX_BURST
        is_alone = self._asking.acquire(blocking=False)
        self.was_shared |= not is_alone
        try:
            burst = self._bursts.get(block=timeout_ms is None)
        except queue.Empty:
            return []
        finally:
            if is_alone:
                self._asking.release()
        if burst is None:
            self.close()  # it stays closed
        else:
            self.taken_by[threading.current_thread().name] += 1
        return burst


async def seen_all(seen: list[int], count: int) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while len(seen) < count:  # noqa: ASYNC110  (turns of the loop are what is tested)
            await asyncio.sleep(0)


async def test_each_burst_is_handed_over_once_in_order_whoever_takes_it() -> None:
    front, seen = FakeFront(), list[int]()
    receiver = Receiver(front, asyncio.get_running_loop(), seen.extend)
    receiver.start()
    sent = 0
    for together in (
        1,
        1,
        LOOK_EVERY,
        40,
        1,
        3,
        100,
    ):  # what comes together, and then a pause in which the loop gives up
        for _ in range(together):
            front.put(sent)
            sent += 1
        await seen_all(seen, sent)
        for _ in range(2 * MOST_MISSES):
            await asyncio.sleep(0)
    front.close()
    await asyncio.wait_for(asyncio.to_thread(receiver.join), PATIENCE_S)
    assert seen == list(range(sent))
    assert set(front.taken_by) == {"edgeward-grpc", "MainThread"}, "both had their turns"
    assert not front.was_shared, "while the loop asks, the thread rests"


async def test_a_loop_that_finds_nothing_lets_the_thread_wait_again() -> None:
    front, seen = FakeFront(), list[int]()
    receiver = Receiver(front, asyncio.get_running_loop(), seen.extend)
    receiver.start()
    for number in range(3 * LOOK_EVERY):
        front.put(number)
        await seen_all(seen, number + 1)
        for _ in range(2 * MOST_MISSES):
            await asyncio.sleep(0)
    front.close()
    await asyncio.wait_for(asyncio.to_thread(receiver.join), PATIENCE_S)
    assert front.taken_by == {"edgeward-grpc": 3 * LOOK_EVERY}


async def test_a_burst_that_goes_wrong_keeps_no_later_one_waiting() -> None:
    front, seen, loop = FakeFront(), list[int](), asyncio.get_running_loop()
    wrong: list[Any] = []
    loop.set_exception_handler(lambda _, context: wrong.append(context["exception"]))

    def on_burst(burst: list[int]) -> None:
        seen.extend(burst)
        raise ValueError(burst[0])

    receiver = Receiver(front, loop, on_burst)
    receiver.start()
    for number in range(2 * LOOK_EVERY):
        front.put(number)
    await seen_all(seen, 2 * LOOK_EVERY)
    front.close()
    await asyncio.wait_for(asyncio.to_thread(receiver.join), PATIENCE_S)
    assert [error.args[0] for error in wrong] == seen == list(range(2 * LOOK_EVERY))
    assert front.taken_by["MainThread"], "the loop had its turns too"


async def test_a_front_that_closes_while_the_thread_rests_is_waited_for_no_more() -> None:
    front, seen, loop = FakeFront(), list[int](), asyncio.get_running_loop()

    def on_burst(burst: list[int]) -> None:
        seen.extend(burst)
        if burst[0] == LOOK_EVERY - 1:  # the loop takes over with this one
            front.close()

    receiver = Receiver(front, loop, on_burst)
    receiver.start()
    for number in range(LOOK_EVERY):
        front.put(number)
        await seen_all(seen, number + 1)
    await asyncio.wait_for(asyncio.to_thread(receiver.join), PATIENCE_S)
    assert seen == list(range(LOOK_EVERY))


async def test_the_real_front_says_at_once_that_nothing_came_and_that_it_is_closed() -> None:
    native = pytest.importorskip("pygrpc_native", reason="pygrpc-native is not installed")
    front = native.NativeGrpcFront("127.0.0.1:0", [("/a/b", False)], io_threads=1, call_details=True)
    front.start()
    assert front.recv_batch_details(MAX_BURST, 0) == []
    front.close()
    assert front.recv_batch_details(MAX_BURST, 0) is None


class ObservedLoop(asyncio.SelectorEventLoop):
    """Says when something was handed over to it."""

    def __init__(self) -> None:
        super().__init__()
        self.handed_over = threading.Semaphore(0)

    def call_soon_threadsafe(self, *given: Any, **more: Any) -> asyncio.Handle:
        handle = super().call_soon_threadsafe(*given, **more)
        self.handed_over.release()
        return handle


def test_a_loop_that_ends_with_a_burst_untaken_closes_the_front() -> None:
    front, loop = FakeFront(), ObservedLoop()
    Receiver(front, loop, lambda _: None).start()
    for number in range(LOOK_EVERY):
        front.put(number)
        assert loop.handed_over.acquire(timeout=PATIENCE_S)
    loop.close()
    assert front.is_closed.wait(PATIENCE_S)
