from dataclasses import replace

import numpy as np
import pytest

from benchmarks.arrivals import Arrivals
from benchmarks.samples import Samples
from benchmarks.scenarios import Scenario, Wishes, check_used, plan
from benchmarks.validity import Effort, doubts, invalid_reason
from runtime.errors import WrongUseError

CALM = Effort(generator_cores=0.2, heartbeat_ms=0.1, machine_share=0.4, is_inproc=False)
BUSY = Effort(generator_cores=0.98, heartbeat_ms=4.0, machine_share=0.99, is_inproc=False)
OPEN = plan("server", Wishes(arrivals=Arrivals.parse("constant:100"), in_flight=4))


def sent_late(late_ms: float, service_ms: float = 5.0, n: int = 1000) -> Samples:
    """Requests every 10 ms, each sent `late_ms` after it was due."""
    planned = np.arange(n, dtype=np.int64) * 10_000_000
    sent = planned + int(late_ms * 1e6)
    zeros = np.zeros(n, dtype=np.int64)
    return Samples(planned, sent, sent + int(service_ms * 1e6), zeros + 1, zeros, zeros)


def reason(samples: Samples, scenario: Scenario = OPEN, effort: Effort = CALM) -> str | None:
    return invalid_reason(samples, samples.status == 0, scenario, effort)


def doubted(samples: Samples, scenario: Scenario = OPEN, effort: Effort = CALM) -> list[str]:
    return doubts(samples, samples.status == 0, scenario, effort)


def test_a_punctual_generator_is_valid() -> None:
    assert reason(sent_late(0.2)) is None
    assert doubted(sent_late(0.2)) == []


def test_a_late_generator_is_saturated() -> None:
    assert "saturated: its own lag is 3.0 ms at p50" in str(reason(sent_late(3.0)))


def test_lag_that_is_small_beside_the_latency_is_tolerated() -> None:
    assert reason(sent_late(3.0, service_ms=35.0)) is None
    assert "own lag was 3.0 ms" in doubted(sent_late(3.0, service_ms=20.0))[0]


@pytest.mark.parametrize(("n", "is_told"), [(50, "p50"), (100, "p90"), (400, "p95"), (662, "p99")])
def test_one_late_wake_is_no_saturation_and_many_are(n: int, is_told: str) -> None:
    late = sent_late(0.2, n=n)
    late.sent_ns[-1] += 60_000_000
    assert reason(late) is None, f"{is_told} is the furthest that so many tell, and one late wake is beyond it"
    share = float(is_told[1:]) / 100
    late.sent_ns[int(n * share) - 1 :] += 60_000_000
    late.done_ns[:] = late.sent_ns + 5_000_000
    assert f"ms at {is_told} " in str(reason(late))


def test_the_doubt_is_of_the_furthest_percentile_too() -> None:
    assert "own lag was 3.0 ms at p90" in doubted(sent_late(3.0, service_ms=20.0, n=100))[0]


def overloaded() -> Samples:
    """One connection, 10 ms between requests, 30 ms each: every request waits for the one before."""
    n = 1000
    planned = np.arange(n, dtype=np.int64) * 10_000_000
    sent = np.arange(n, dtype=np.int64) * 30_000_000
    zeros = np.zeros(n, dtype=np.int64)
    return Samples(planned, sent, sent + 30_000_000, zeros + 1, zeros, zeros)


def test_a_slow_server_is_no_fault_of_the_generator() -> None:
    one = plan("server", Wishes(in_flight=1))
    assert reason(overloaded(), one) is None
    assert "slower than the load" in doubted(overloaded(), one)[0]


def test_a_generator_without_time_is_not_believed_about_a_slow_server() -> None:
    one = plan("server", Wishes(in_flight=1))
    assert "the generator is saturated" in str(reason(overloaded(), one, BUSY))


def test_a_closed_loop_is_never_late_but_must_be_answered() -> None:
    single = plan("single")
    assert reason(sent_late(0.0), single) is None
    failed = sent_late(0.0)
    assert "no request was answered" in str(invalid_reason(failed, failed.status == 1, single, CALM))
    assert "no request was sent" in str(reason(sent_late(0.0, n=0), single))


@pytest.mark.parametrize("share", [0.5, 0.99])
def test_a_busy_machine_is_said(share: float) -> None:
    said = doubted(sent_late(0.0), effort=Effort(0.2, 0.1, share, is_inproc=False))
    assert bool(said) == (share > 0.95)


@pytest.mark.parametrize("name", ["single", "multi", "offline"])
def test_a_closed_loop_whose_generator_has_no_time_left_is_about_the_generator(name: str) -> None:
    closed, quick = plan(name), sent_late(0.0)
    full = replace(CALM, generator_cores=1.0)
    assert "it used 1.00 cores (tolerated: less than 0.9)" in str(reason(quick, closed, full))
    late = replace(CALM, heartbeat_ms=5.0)
    assert "it woke 5.0 ms late (tolerated: 1.0 ms)" in str(reason(quick, closed, late))
    assert reason(sent_late(0.0, service_ms=60.0), closed, late) is None, "small beside the latency"
    assert reason(quick, closed, replace(BUSY, is_inproc=True)) is None, "the engine is what is busy"


@pytest.mark.parametrize(("name", "flag"), [("single", "--scenario"), ("multi", "--rows"), ("offline", "--rows")])
def test_what_a_closed_loop_is_advised_is_an_option_that_it_takes(name: str, flag: str) -> None:
    said = str(reason(sent_late(0.0), plan(name), replace(CALM, generator_cores=1.0)))
    assert [word.strip("(),") for word in said.split() if word.startswith("(--")] == [flag]
    if flag == "--rows":
        check_used([name], Wishes(rows=16))
    else:
        assert "(--scenario multi)" in said, "which takes several rows a request, as this one does not"
        with pytest.raises(WrongUseError):
            check_used([name], Wishes(rows=16))


@pytest.mark.parametrize("scenario", [OPEN, plan("single")])
def test_failures_are_doubted_when_they_are_more_than_a_few(scenario: Scenario) -> None:
    samples = sent_late(0.0)
    for failed, is_said in ((10, False), (11, True), (990, True), (1000, False)):
        said = doubts(samples, np.arange(1000) >= failed, scenario, CALM)
        assert bool(said) == is_said, failed
    assert said == [], "where nothing was answered it is INVALID"
    assert "99% of the requests failed" in doubts(samples, np.arange(1000) >= 990, scenario, CALM)[0]
    assert doubts(sent_late(0.0, n=0), np.zeros(0, dtype=bool), scenario, CALM) == []
