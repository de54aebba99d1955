"""Rates and quantiles of the time between two looks."""

import pytest

from runtime.telemetry.exposition import Family, Kind
from runtime.telemetry.histogram import Histogram
from runtime.telemetry.series import Sampler


def counter(value: float) -> Family:
    return Family("x_total", Kind.COUNTER, "X.", [({"model": "m"}, value)])


def test_counters_become_rates_and_gauges_stay() -> None:
    sampler = Sampler()
    gauge = Family("g", Kind.GAUGE, "G.", [({}, 7)])
    assert sampler.sample([counter(10), gauge], 100.0) == {"g": 7}
    assert sampler.sample([counter(16), gauge], 102.0) == {'x_total{model="m"} per_s': 3.0, "g": 7}


def test_a_counter_that_began_anew_counts_from_nought() -> None:
    sampler = Sampler()
    sampler.sample([counter(1000)], 1.0)
    assert sampler.sample([counter(4)], 2.0) == {'x_total{model="m"} per_s': 4.0}


def test_quantiles_are_of_what_came_since_and_a_quiet_second_is_a_gap() -> None:
    histogram = Histogram((1_000_000, 10_000_000))
    sampler = Sampler()

    def look(now: float) -> dict[str, float]:
        return sampler.sample([Family("t_seconds", Kind.HISTOGRAM, "T.", [({}, histogram.read(1e9))])], now)

    histogram.add(9_000_000, 1000)
    assert look(1.0) == {}
    histogram.add(500_000, 10)
    told = look(2.0)
    assert told["t_seconds per_s"] == 10
    assert told["t_seconds p95"] <= 0.001, "the thousand of before are over"
    assert told["t_seconds mean"] == pytest.approx(0.0005)
    assert look(3.0) == {"t_seconds per_s": 0.0}


def test_rows_have_a_mean_and_no_quantiles_between_whole_numbers() -> None:
    histogram = Histogram((1, 2, 4))
    sampler = Sampler()
    sampler.sample([Family("rows", Kind.HISTOGRAM, "R.", [({}, histogram.read())])], 1.0)
    histogram.add(1)
    histogram.add(4)
    told = sampler.sample([Family("rows", Kind.HISTOGRAM, "R.", [({}, histogram.read())])], 2.0)
    assert told == {"rows per_s": 2.0, "rows mean": 2.5}
