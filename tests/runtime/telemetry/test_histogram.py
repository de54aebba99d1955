"""Fixed buckets: where values fall, what quantiles say, and what came between two looks."""

import numpy as np
import pytest

from runtime.telemetry.histogram import LATENCY_BOUNDS_NS, Buckets, Histogram


def test_a_value_at_a_bound_belongs_below_it_as_le_says() -> None:
    histogram = Histogram((10, 20))
    for value in (0, 10, 11, 20, 21, 10**12):
        histogram.add(value)
    told = histogram.read()
    assert told.counts == (2, 2, 2)
    assert (told.count, told.sum) == (6, 62 + 10**12)


def test_many_at_once_are_the_same_as_one_by_one() -> None:
    chance = np.random.default_rng(1)
    values = [*map(int, chance.integers(0, 12 * 10**9, 3000)), 0, *LATENCY_BOUNDS_NS]
    one_by_one, at_once = Histogram(LATENCY_BOUNDS_NS), Histogram(LATENCY_BOUNDS_NS)
    for value in values:
        one_by_one.add(value)
    at_once.add_all(values[:1000])
    at_once.add_all(values[1000:])
    assert at_once.read() == one_by_one.read()


def test_weights_and_units() -> None:
    histogram = Histogram((1_000_000, 2_000_000))
    histogram.add(1_500_000, times=4)
    told = histogram.read(1e9)
    assert told == Buckets((0.001, 0.002), (0, 4, 0), 0.006)


def test_quantiles_are_within_a_bucket_of_the_true_ones() -> None:
    chance = np.random.default_rng(5)
    values = chance.lognormal(mean=15.5, sigma=1.0, size=20_000).astype(int)
    histogram = Histogram(LATENCY_BOUNDS_NS)
    for value in values:
        histogram.add(int(value))
    told = histogram.read()
    bounds = (0, *LATENCY_BOUNDS_NS)
    for q in (0.5, 0.9, 0.95, 0.99):
        true = float(np.quantile(values, q))
        above = next(at for at, bound in enumerate(bounds) if true <= bound)
        found = told.quantile(q)
        assert found is not None
        assert bounds[above - 1] <= found <= bounds[above]


@pytest.mark.parametrize(
    ("counts", "q", "wanted"),
    [((0, 0, 0), 0.5, None), ((0, 0, 3), 0.5, 20.0), ((4, 0, 0), 0.5, 5.0), ((1, 1, 0), 1.0, 20.0)],
)
def test_quantiles_at_the_edges(counts: tuple[int, ...], q: float, wanted: float | None) -> None:
    assert Buckets((10.0, 20.0), counts, 0.0).quantile(q) == wanted


def test_since_is_the_difference_and_after_a_reload_all_of_it() -> None:
    before, now = Buckets((1.0,), (2, 1), 3.0), Buckets((1.0,), (5, 1), 6.0)
    assert now.since(before) == Buckets((1.0,), (3, 0), 3.0)
    assert before.since(now) == before
