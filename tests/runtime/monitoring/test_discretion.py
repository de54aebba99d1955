"""What leaves the device is coarse, stays in order and holds what it stands for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.monitoring.blob import from_blob, to_blob
from runtime.monitoring.discretion import coarse, coarse_range, told_names
from runtime.monitoring.items import TabledItems
from runtime.monitoring.quantiles import make_quantiles, quantiles_from_bytes
from runtime.monitoring.summary import CategorySummary, NumberSummary, Summary
from tests.runtime.monitoring.streams import baseline, rows

NUMBERS = st.floats(-1e140, 1e140)
BASE = baseline()


@given(st.lists(NUMBERS, min_size=1, max_size=30), NUMBERS)
def test_order_stays_and_the_range_holds_everything(values: list[float], middle: float) -> None:
    values.sort()
    told = coarse(values, middle)
    assert told == sorted(told)
    low, high = coarse_range(values[0], values[-1], middle)
    assert low <= values[0]
    assert low <= told[0]
    assert high >= values[-1]
    assert high >= told[-1]


def test_three_digits_of_the_distance_are_told() -> None:
    assert coarse([1013.0, 1013.4567, 123_456_789.0], 1013.0) == [1013.0, 1013.457, 123_001_013.0]


@pytest.mark.parametrize("count", [0, 1, 5, 20_000])
@pytest.mark.parametrize("use_sketches", [True, False])
def test_a_coarse_sketch_can_be_read_and_says_nearly_the_same(count: int, use_sketches: bool) -> None:
    if use_sketches:
        pytest.importorskip("datasketches")
    values = np.random.default_rng(4).normal(20, 5, count)
    exact = make_quantiles(0.0, 40.0, use_sketches=use_sketches)
    exact.update(values)
    read = quantiles_from_bytes(exact.kind, exact.to_bytes(20.0))
    assert read.count == count
    if count:
        ranks = np.linspace(0, 1, 11)
        np.testing.assert_allclose(read.at(ranks), exact.at(ranks), atol=0.2)
        assert not {*values.tolist()} & {*read.at(np.array([0.0, 1.0])).tolist()}, "the ends are values of rows"


def test_only_names_of_the_reference_are_told() -> None:
    reference = BASE.references[[feature.name for feature in BASE.features].index("site")]
    items = TabledItems()
    items.update({"secret": 50, "north": 7, "west": 3})
    told, blind = told_names(items, reference, 64)
    assert ([item.name for item in told], blind) == (["north", "west"], 50)
    told, blind = told_names(items, reference, 1)
    assert ([item.name for item in told], blind) == (["north"], 50)


def test_a_blob_tells_no_value_of_a_row() -> None:
    inputs, outputs = rows(9, 300)
    inputs["site"][0, 0] = b"secret"
    summary = Summary(BASE)
    summary.update(inputs, outputs)
    read = from_blob(to_blob(summary), BASE)
    for name, feature in read.features.items():
        if isinstance(feature, CategorySummary):
            assert "secret" not in [item.name for item in feature.items.top(64)], name
        else:
            whole = summary.features[name]
            assert isinstance(whole, NumberSummary)
            assert feature.moments.low < whole.moments.low, name
            assert feature.moments.high > whole.moments.high, name
