import threading
import time
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.arrivals import Arrivals
from benchmarks.load import Infer, Load, LoadGenerator
from benchmarks.scenarios import Scenario, Wishes, plan
from benchmarks.target import Answer, Origin
from runtime.errors import OverloadedError
from runtime.tensors import Array

CALLS = [({"x": np.full((1, 2), i, dtype=np.float32)}, 1) for i in range(3)]
HERE = Answer(Origin("edge", "fake"))


def load(infer: Infer, scenario: Scenario) -> Load:
    generator = LoadGenerator(infer, CALLS, scenario)
    generator.start()
    assert generator.wait(30)
    return generator.result()


def test_a_closed_loop_sends_exactly_so_many_one_at_a_time() -> None:
    under_way = 0
    most = 0

    def infer(inputs: Mapping[str, Array]) -> Answer:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        under_way -= 1
        return HERE

    seen = load(infer, plan("single", Wishes(requests=500, duration_s=30)))
    assert len(seen.samples) == 500
    assert most == 1
    assert seen.offered_qps is None
    assert np.array_equal(seen.samples.planned_ns, seen.samples.sent_ns)
    assert np.all(seen.samples.sent_ns[1:] >= seen.samples.done_ns[:-1])


def test_errors_are_counted_by_code_and_origins_kept() -> None:
    count = iter(range(1000))

    def infer(inputs: Mapping[str, Array]) -> Answer:
        if next(count) % 4 == 0:
            raise OverloadedError("full")
        return HERE

    seen = load(infer, plan("single", Wishes(requests=100, duration_s=30)))
    assert seen.statuses == ("ok", "503 UNAVAILABLE")
    assert seen.error_texts == {"503 UNAVAILABLE": "full"}
    assert int((seen.samples.status == 1).sum()) == 25
    assert seen.origins == (HERE.origin,)
    assert np.array_equal(seen.samples.origin == -1, seen.samples.status == 1)


def test_an_open_loop_keeps_its_plan_while_answers_are_awaited() -> None:
    # Nobody is answered before all twenty have been sent: a closed loop would never get past the first.
    all_sent = threading.Barrier(20)
    wishes = Wishes(arrivals=Arrivals.parse("constant:200"), duration_s=0.1, in_flight=32)

    def infer(inputs: Mapping[str, Array]) -> Answer:
        all_sent.wait(30)
        return HERE

    seen = load(infer, plan("server", wishes))
    assert seen.samples.planned_ns.tolist() == [i * 5_000_000 for i in range(20)]
    assert np.all(seen.samples.sent_ns >= seen.samples.planned_ns)
    assert seen.samples.done_ns.min() >= seen.samples.sent_ns.max()
    assert seen.offered_qps == pytest.approx(200)


def test_requests_that_end_a_plan_early_end_the_time_over_which_they_were_offered() -> None:
    wishes = Wishes(requests=20, arrivals=Arrivals.parse("constant:200"), duration_s=5.0, in_flight=4)
    seen = load(lambda inputs: HERE, plan("server", wishes))
    assert len(seen.samples) == 20
    assert seen.offered_qps == pytest.approx(20 / 0.095), "and not over the five seconds that were never planned"


def test_overdue_requests_are_sent_and_their_wait_counts() -> None:
    # One connection, held by the first request until long after the last one was due.
    held = threading.Event()
    wishes = Wishes(arrivals=Arrivals.parse("constant:100"), duration_s=0.1, in_flight=1)
    release = threading.Timer(0.4, held.set)

    def infer(inputs: Mapping[str, Array]) -> Answer:
        if not held.is_set():
            release.start()
        held.wait(30)
        return HERE

    samples = load(infer, plan("server", wishes)).samples
    assert len(samples) == 10
    # The last was due after 90 ms and could not be sent before 400: what it waited is in its latency.
    assert samples.latency_ms[-1] > 200
    assert np.all(samples.queued_ms(1)[1:] > 0)


def test_stopping_keeps_what_was_measured() -> None:
    generator: LoadGenerator
    count = iter(range(10_000_000))

    def infer(inputs: Mapping[str, Array]) -> Answer:
        if next(count) == 49:
            generator.stop()
        return HERE

    generator = LoadGenerator(infer, CALLS, plan("single", Wishes(duration_s=60)))
    generator.start()
    assert generator.wait(30)
    assert len(generator.result().samples) == 50


def test_what_is_no_error_of_a_request_ends_the_load_and_is_raised() -> None:
    def infer(inputs: Mapping[str, Array]) -> Answer:
        raise ZeroDivisionError("a bug")

    with pytest.raises(ZeroDivisionError):
        load(infer, plan("single", Wishes(duration_s=60)))


def test_inputs_are_taken_in_turn() -> None:
    seen: list[float] = []

    def infer(inputs: Mapping[str, Array]) -> Answer:
        seen.append(float(inputs["x"][0, 0]))
        return HERE

    load(infer, plan("single", Wishes(requests=7, duration_s=30)))
    assert seen == [0, 1, 2, 0, 1, 2, 0]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "bound_ms", "sent"), [("single", 250.0, 5), ("server", 60_000.0, 8)])
def test_a_load_ends_when_more_are_over_the_bound_than_may(name: str, bound_ms: float, sent: int) -> None:
    count = iter(range(10_000))

    def infer(inputs: Mapping[str, Array]) -> Answer:
        number = next(count)
        if number % 3 == 1:
            raise OverloadedError("full")
        if number == 2:
            time.sleep(0.3)
        return HERE

    wishes = Wishes(requests=5000, duration_s=60, in_flight=1, arrivals=Arrivals.parse("constant:5000"))
    seen = load(infer, replace(plan(name, wishes), bound_ms=bound_ms, most_over=2)).samples
    # Over are 1, 4 and 7, which fail, and where the bound is tight 2, which is late.
    assert len(seen) == sent


def test_in_overload_progress_is_what_was_sent_and_not_the_time() -> None:
    generator: LoadGenerator
    told: list[float] = []

    def infer(inputs: Mapping[str, Array]) -> Answer:
        time.sleep(0.01)
        told.append(generator.progress)
        if len(told) == 10:
            generator.stop()
        return HERE

    # A thousand are due within a tenth of a second, and it takes ten times as long to send a hundred of them.
    wishes = Wishes(arrivals=Arrivals.parse("constant:10000"), duration_s=0.1, in_flight=1)
    generator = LoadGenerator(infer, CALLS, plan("server", wishes))
    generator.start()
    assert generator.wait(30)
    assert told == pytest.approx([number / 1000 for number in range(1, 11)])
