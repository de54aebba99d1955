"""What of a call's time its own process may have cost: by made-up clocks, and by the real ones."""

import threading
import time

import pytest

from runtime.engine.own_load import Claim, Clocks, Seen, alone_ns, begin, end, enter, leave

ONE = Claim("cpu", 1)
TWO = Claim("cpu", 2)
GPU = Claim("cuda", 1)


@pytest.mark.parametrize(
    ("what", "claim", "seen", "expected"),
    [
        ("nothing else ran", ONE, Seen(100, 100, 0, 0), 100),
        ("it slept, or another program ran: that is not ours", ONE, Seen(100, 20, 0, 0), 100),
        ("it waited while others of ours ran", ONE, Seen(100, 20, 90, 0), 20),
        ("it waited longer than others of ours ran", ONE, Seen(100, 20, 50, 0), 50),
        ("others ran on the other core", ONE, Seen(100, 100, 90, 0), 100),
        ("the processor itself is slow, under load", ONE, Seen(300, 250, 100, 0), 250),
        ("two threads and one of ours on two cores, spinning", TWO, Seen(150, 150, 150, 0), 100),
        ("two threads and half of one of ours", TWO, Seen(125, 125, 62, 0), 100),
        ("another call of two threads beside it", TWO, Seen(200, 200, 0, 2), 100),
        ("another one for half the time", TWO, Seen(150, 150, 0, 1), 100),
        ("more threads than cores are its own business", Claim("cpu", 4), Seen(200, 200, 0, 0), 200),
        ("a device that another call uses too", GPU, Seen(200, 10, 0, 1), 100),
        ("a slow device", GPU, Seen(200, 10, 0, 0), 200),
        ("no time passed", ONE, Seen(0, 0, 0, 0), 0),
    ],
)
def test_what_is_taken_off(what: str, claim: Claim, seen: Seen, expected: float) -> None:
    alone = alone_ns(seen, claim, cores=2)
    assert alone == pytest.approx(expected, abs=1), what
    assert 0 <= alone <= seen.wall_ns


def test_a_call_takes_what_passed_between_its_begin_and_its_end() -> None:
    walls, cpus = iter([1000, 1500]), iter([10, 210])
    others = iter([{1: 100, 2: 50, 3: 70}, {1: 150, 2: 50, 4: 30}])  # 3 ended, 4 came
    clocks = Clocks(lambda: next(walls), lambda: next(cpus), lambda: next(others))
    enter(ONE)
    began = begin(ONE, clocks)
    seen = end(ONE, began, clocks)
    leave(ONE)
    assert seen == Seen(500, 200, 80, 0)


def test_calls_of_the_same_device_are_beside_each_other() -> None:
    clocks = Clocks(lambda: 0, lambda: 0, dict)
    enter(ONE)
    other, gpu = Claim("cpu", 2), Claim("cuda", 1)
    enter(gpu)
    began = begin(ONE, clocks)
    assert began.beside == 0
    enter(other)
    assert end(ONE, began, clocks).beside == 1, "two threads for half the time"
    leave(other)
    leave(gpu)
    leave(ONE)


@pytest.mark.skipif(
    not hasattr(time, "pthread_getcpuclockid"), reason="this system does not tell what other threads took"
)
def test_the_real_clocks_tell_ones_own_work_from_that_of_other_threads() -> None:
    go_on = threading.Event()
    is_going = threading.Event()

    def work() -> None:
        while not go_on.is_set():
            sum(range(1000))
            is_going.set()

    def burn(clock_id: int, milliseconds: int) -> None:
        until_ns = time.clock_gettime_ns(clock_id) + milliseconds * 1_000_000
        while time.clock_gettime_ns(clock_id) < until_ns:
            sum(range(100))

    clocks = Clocks()
    enter(ONE)
    mine = begin(ONE, clocks)
    burn(time.CLOCK_THREAD_CPUTIME_ID, 30)
    alone = end(ONE, mine, clocks)
    assert alone.cpu_ns >= 30_000_000
    assert alone.wall_ns >= alone.cpu_ns

    other = threading.Thread(target=work)
    other.start()
    assert is_going.wait(10)
    began = begin(ONE, clocks)
    burn(time.pthread_getcpuclockid(other.ident or 0), 30)
    seen = end(ONE, began, clocks)
    go_on.set()
    other.join(10)
    leave(ONE)
    assert seen.others_ns >= 30_000_000
    assert alone_ns(seen, ONE, cores=1) < seen.wall_ns
