"""Who a server is to take: about as fast as the fastest, and least of the processor."""

from dataclasses import replace

import pytest

from runtime.selection.efficiency import BATCH, most_frugal, quick_alone
from runtime.selection.measured import Measured
from tests.runtime.selection.fakes import latency, measured


def timed(name: str, ms: float, busy_ms: float, batch_ms: float | None = None, batch_busy_ms: float = 0.0) -> Measured:
    """One that took turns: milliseconds of a row alone, and those of the processor; the same of a batch where it was timed."""
    one = replace(measured(name, ms), busy=((1, busy_ms),))
    if batch_ms is None:
        return one
    return replace(
        one, latencies=(*one.latencies, (BATCH, latency(batch_ms))), busy=(*one.busy, (BATCH, batch_busy_ms))
    )


def names(found: tuple[Measured, ...] | list[Measured]) -> list[str]:
    return [m.candidate.variant.name for m in found]


def test_a_second_thread_that_makes_a_small_row_a_little_faster_is_left_to_others() -> None:
    """The digits on two cores with AVX-512 VNNI, November 2026; fp32 on one thread takes too long in batches."""
    frugal = most_frugal(
        [
            timed("int8-2", 0.0461, 0.092, 0.21, 0.35),
            timed("int8-1", 0.0471, 0.047, 0.245, 0.237),
            timed("fp32-2", 0.0644, 0.129, 0.34, 0.65),
            timed("fp32-1", 0.0796, 0.08, 0.64, 0.58),
            timed("tflite-1", 0.0552, 0.055, 0.85, 0.82),
            timed("openvino-2", 0.29, 0.3, 0.6, 0.1),
        ]
    )
    assert frugal is not None
    assert names(frugal.ties) == ["int8-1"]
    assert frugal.rows == BATCH
    assert frugal.row_ms(frugal.ties[0]) == pytest.approx(0.0296, rel=0.01)
    assert names(frugal.quick)[-1] == "tflite-1"
    assert "tflite-1" not in names(frugal.among), "0.106 ms a row in batches, the fastest 0.026"


@pytest.mark.parametrize(
    ("one_ms", "two_ms", "is_one"),
    [(0.149, 0.1, True), (0.151, 0.1, False), (1.09, 1.0, True), (1.11, 1.0, False), (100.0, 60.0, False)],
)
def test_fewer_threads_may_take_a_tenth_or_what_no_client_sees_longer(
    one_ms: float, two_ms: float, is_one: bool
) -> None:
    frugal = most_frugal([timed("two", two_ms, 2 * two_ms), timed("one", one_ms, one_ms)])
    assert frugal is not None
    assert names(frugal.ties) == (["one"] if is_one else ["two"])
    assert frugal.rows == 1, "of a large model no batch was timed"


def test_who_is_as_quick_alone_and_much_slower_in_batches_is_not_taken() -> None:
    frugal = most_frugal([timed("two", 2.0, 4.0, 8.0, 16.0), timed("one", 2.1, 2.1, 14.0, 14.0)])
    assert frugal is not None
    assert (names(frugal.quick), names(frugal.among), names(frugal.ties)) == (["two", "one"], ["two"], ["two"])


def test_batches_that_not_all_were_timed_in_decide_nothing() -> None:
    frugal = most_frugal([timed("a", 1.0, 1.0), timed("b", 1.0, 1.8, 2.0, 2.0)])
    assert frugal is not None
    assert (frugal.rows, names(frugal.ties)) == (1, ["a"])


def test_differences_within_the_noise_are_none() -> None:
    frugal = most_frugal([timed("a", 1.0, 1.0), timed("b", 1.0, 1.04), timed("c", 1.0, 1.06)])
    assert frugal is not None
    assert names(frugal.ties) == ["a", "b"]


def test_nobody_is_taken_by_the_first_calls_of_a_trial() -> None:
    assert most_frugal([measured("a", 1.0), measured("b", 2.0)]) is None
    assert names(quick_alone([measured("lucky", 0.5), timed("a", 1.0, 1.0)])) == ["a"]
