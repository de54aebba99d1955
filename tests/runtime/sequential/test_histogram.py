"""Quantiles that are followed value by value, against sorting all bins anew."""

from __future__ import annotations

import json

import numpy as np

from runtime.sequential.histogram import BINS, GROWTH, LOWEST_S, LogHistogram


def from_scratch(histogram: LogHistogram, share: float) -> float:
    at = int(np.searchsorted(np.cumsum(histogram._bins), share * histogram.count))
    return float(LOWEST_S * GROWTH ** (min(at, BINS - 1) + 0.5))


def test_a_quantile_followed_is_that_of_all_bins_whatever_is_asked_in_between() -> None:
    rng = np.random.default_rng(3)
    histogram = LogHistogram()
    values = np.concatenate(
        [rng.lognormal(-4, 1, 600), rng.lognormal(2, 3, 600), [0.0, 1e-9, 1e9], rng.uniform(0, 1, 600)]
    )
    for number, value in enumerate(values):
        histogram.observe(float(value))
        share = 0.5 if number % 97 == 0 else 0.0 if number % 89 == 0 else 1.0 if number % 83 == 0 else 0.99
        assert histogram.quantile(share) == from_scratch(histogram, share)
        if number % 400 == 0:
            histogram = LogHistogram.from_state(json.loads(json.dumps(histogram.to_state())))
    assert histogram.count == len(values)
