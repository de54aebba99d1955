"""The cost of a call by its rows."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.selection.cost import CostModel

MODEL = CostModel(((1, 1.0), (8, 4.5), (32, 10.5)))


@pytest.mark.parametrize(("rows", "ms"), [(0, 1.0), (1, 1.0), (2, 1.5), (8, 4.5), (20, 7.5), (32, 10.5), (36, 11.5)])
def test_linear_between_points_and_along_the_last_slope(rows: int, ms: float) -> None:
    assert MODEL.cost_ms(rows) == pytest.approx(ms, rel=1e-12)


def test_one_point_is_taken_in_proportion() -> None:
    assert CostModel(((8, 4.0),)).cost_ms(16) == 8.0
    assert CostModel(((8, 4.0),)).cost_ms(1) == 4.0


def test_a_last_slope_that_falls_is_noise() -> None:
    assert CostModel(((1, 2.0), (8, 1.9))).cost_ms(100) == 1.9


def test_best_batch_has_the_most_rows_a_second() -> None:
    assert MODEL.best_batch() == 32
    assert CostModel(((1, 1.0), (8, 4.0), (32, 64.0))).best_batch() == 8
    assert CostModel(((1, 1.0), (8, 8.0))).best_batch() == 1
    assert CostModel(((1, 1.0), (8, 8.1))).best_batch() == 1


@given(st.dictionaries(st.integers(1, 4096), st.floats(1e-6, 1e6), min_size=1, max_size=6))
def test_json_both_ways(points: dict[int, float]) -> None:
    model = CostModel(tuple(sorted(points.items())))
    assert CostModel.from_dict(json.loads(json.dumps(model.to_dict()))) == model
    assert model.cost_ms(5000) > 0


@pytest.mark.parametrize("points", [(), ((0, 1.0),), ((8, 1.0), (1, 1.0)), ((1, 0.0),), ((1, float("nan")),)])
def test_what_is_no_cost_model_is_refused(points: tuple[tuple[int, float], ...]) -> None:
    with pytest.raises(ValueError, match="no cost model"):
        CostModel(points)
