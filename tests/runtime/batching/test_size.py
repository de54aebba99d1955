"""How many rows a batch gathers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.batching.size import HOP_S, NEARLY, RUN_OVERHEAD_S, rows_to_gather
from runtime.selection.cost import CostModel

AT_ONCE_S = 0.001


def gathers(*points: tuple[int, float]) -> int:
    """Of a model that takes so many milliseconds."""
    cost = CostModel(points)
    return rows_to_gather(cost.rows, lambda rows: cost.cost_ms(rows) / 1000, AT_ONCE_S)


@pytest.mark.parametrize(
    ("points", "rows"),
    [
        # Eight rows at once answer 94 % as many a second as 32, which need a thread (the digits, ONNX Runtime on one thread).
        (((1, 0.16), (8, 0.80), (32, 3.1)), 8),
        # Eight need a thread as well, and seven do not (the digits, LiteRT on two).
        (((1, 0.096), (8, 1.07), (32, 4.39)), 7),
        # A model whose batches cost hardly more than a row gathers all that it was measured with, thread or not.
        (((1, 0.5), (8, 0.6), (32, 0.8)), 32),
        (((1, 5.0), (8, 6.0), (32, 9.0)), 32),
        # Rows cost the same in any batch: what a run costs beside them is paid more seldom; far above that nothing is gained.
        (((1, 0.1), (8, 0.8), (32, 3.2)), 8),
        (((1, 20.0), (8, 160.0), (32, 640.0)), 1),
        # Worse in batches.
        (((1, 2.0), (8, 40.0), (32, 200.0)), 1),
        # Calibrated beside other programs, which hit long calls alone (the digits, load 4).
        (((1, 0.15), (8, 2.3), (32, 12.5)), 32),
        (((1, 0.11), (8, 6.0), (32, 11.5)), 8),
        # Measured with one row alone: nothing is known of more.
        (((1, 0.1),), 1),
    ],
)
def test_the_fewest_rows_that_answer_nearly_as_many_a_second(points: tuple[tuple[int, float], ...], rows: int) -> None:
    assert gathers(*points) == rows


@given(st.lists(st.floats(0.001, 50.0), min_size=3, max_size=3))
def test_no_measured_size_answers_much_more(each_ms: list[float]) -> None:
    points = tuple(zip((1, 8, 32), each_ms, strict=True))
    cost = CostModel(points)

    def per_s(rows: int) -> float:
        row_s, took_s = cost.cost_ms(1) / 1000, cost.cost_ms(rows) / 1000
        took_s = min(took_s, rows * row_s) if row_s <= AT_ONCE_S else took_s
        return rows / (took_s + RUN_OVERHEAD_S + (HOP_S if took_s > AT_ONCE_S else 0.0))

    chosen = gathers(*points)
    assert 1 <= chosen <= 32
    assert per_s(chosen) >= NEARLY * max(per_s(rows) for rows in (1, 8, 32)) * (1 - 1e-9)
