"""The search for the highest rate, on servers whose limit is known because they are three lines of arithmetic."""

from collections.abc import Callable

import numpy as np
import pytest

from benchmarks.finding import (
    HIGHEST_QPS,
    LOWEST_QPS,
    MAX_PROBES,
    ONE_AT_A_TIME,
    RESOLUTION,
    Found,
    Probe,
    Try,
    duration_s,
    next_step,
)
from benchmarks.promise import Slo
from benchmarks.statistics import needed_samples

P99 = Slo(0.99, 50.0)


def search(
    holds: Callable[[Try], bool], start_qps: float = 50.0, generator_limit: float = np.inf, *, is_too_slow: bool = False
) -> tuple[Found, list[Probe]]:
    probes: list[Probe] = []
    while isinstance(step := next_step(probes, start_qps), Try):
        is_limit = step.qps > generator_limit
        kept = holds(step) and not is_limit
        slow = is_too_slow and step.qps == ONE_AT_A_TIME
        probes.append(Probe(step.qps, kept, f"at {step.qps:g}", step.is_confirmation, is_limit, slow))
        assert len(probes) <= MAX_PROBES
    return step, probes


@pytest.mark.parametrize("limit", [0.3, 7.0, 49.9, 50.0, 51.0, 640.0, 1234.5, 4321.0])
@pytest.mark.parametrize("start_qps", [1.0, 50.0, 3000.0])
def test_the_limit_of_a_steady_server_is_found_and_confirmed(limit: float, start_qps: float) -> None:
    found, probes = search(lambda step: step.qps <= limit, start_qps)
    assert found.qps is not None
    assert limit / (1 + RESOLUTION) * 0.99 <= found.qps <= limit
    assert not found.is_lower_bound
    assert [probe.is_confirmation for probe in probes] == [False] * (len(probes) - 1) + [True]
    assert probes[-1].qps == found.qps
    assert len(probes) <= 25


def test_a_queueing_curve_is_searched_with_its_own_latencies() -> None:
    # M/M/1 at 1,000 a second: the time in the system is exponential with mean 1 / (1000 - rate). p99 = 4.605 / (1000 - rate)
    # is 50 ms at 908 a second; the confidence asks for a little less.
    rng = np.random.default_rng(3)

    def holds(step: Try) -> bool:
        n = int(step.qps * duration_s(step.qps, P99, 3.0, is_confirmation=step.is_confirmation))
        latency_ms = rng.exponential(1000 / (1000 - step.qps), n) if step.qps < 1000 else np.full(n, 1e4)
        return P99.judge(latency_ms, n).is_held

    found, _ = search(holds)
    assert found.qps is not None
    assert 780 < found.qps < 915


def test_a_rate_that_does_not_hold_again_is_given_up() -> None:
    # 400 holds for a moment (the queue is not yet long), but never for longer.
    found, probes = search(lambda step: step.qps <= (300 if step.is_confirmation else 400))
    assert found.qps is not None
    assert 270 <= found.qps <= 300
    assert [probe.is_held for probe in probes if probe.is_confirmation][-1]
    assert sum(probe.is_confirmation for probe in probes) > 1


def test_a_saturated_generator_makes_the_answer_a_lower_bound() -> None:
    found, _ = search(lambda step: True, generator_limit=800)
    assert found.is_lower_bound
    assert found.qps is not None
    assert 760 <= found.qps <= 800
    assert str(found).startswith("at least ")


def test_a_server_that_never_holds_and_one_that_always_does() -> None:
    never, probes = search(lambda step: False, is_too_slow=True)
    assert never.qps is None
    assert [probe.qps for probe in probes] == [50.0, ONE_AT_A_TIME], "who is too slow alone, is so at every rate"
    assert never.reason == "one at a time, at 0"
    hardly, probes = search(lambda step: step.qps == ONE_AT_A_TIME)
    assert hardly.qps is None
    assert probes[-1].qps == LOWEST_QPS
    always, _ = search(lambda step: True)
    assert always == Found(HIGHEST_QPS, True, f"no higher rate was tried than {HIGHEST_QPS:g}/s")


@pytest.mark.parametrize("limit", [0.3, 10.0, 49.0])
def test_a_target_that_breaks_it_alone_for_being_asked_too_often_has_a_lower_rate(limit: float) -> None:
    # Under a quota of the processor, or a limit of requests a second: one after the other is more than it may answer.
    found, probes = search(lambda step: step.qps != ONE_AT_A_TIME and step.qps <= limit)
    assert found.qps is not None
    assert limit / (1 + RESOLUTION) * 0.99 <= found.qps <= limit
    assert [probe.qps for probe in probes[:2]] == [50.0, ONE_AT_A_TIME]


def test_a_generator_without_time_says_nothing_of_the_target_one_at_a_time() -> None:
    probes = [Probe(50.0, False, "slow"), Probe(ONE_AT_A_TIME, False, "saturated", is_generator_limit=True)]
    assert next_step(probes, 50.0) == Try(25.0, False, "50/s did not hold")


def test_pure_noise_ends() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        search(lambda step: bool(rng.random() < 0.5))


def test_probes_last_until_the_percentile_can_be_told() -> None:
    assert duration_s(10_000, P99, 3.0, is_confirmation=False) == 3.0
    assert duration_s(10, P99, 3.0, is_confirmation=False) * 10 >= needed_samples(0.99)
    assert duration_s(10_000, P99, 3.0, is_confirmation=True) > 3.0


def test_probes_last_until_a_small_overload_breaks_the_promise() -> None:
    for slo in (P99, Slo(0.5, 200.0)):
        seconds = duration_s(100_000, slo, 0.1, is_confirmation=False)
        due_s = np.linspace(0, seconds, 100_000)
        latency_ms = 1000 * due_s * RESOLUTION * 1.01
        assert not slo.judge(latency_ms, len(latency_ms)).is_held
