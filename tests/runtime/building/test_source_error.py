"""When another error is so much smaller that it was meant."""

import numpy as np
import pytest

from runtime.building.source_error import is_collapse, mean_error

LARGE = np.full(100, 10.0)


@pytest.mark.parametrize(
    ("errors", "others", "of_median", "expected"),
    [
        (LARGE, LARGE / 100, 3.0, True),
        (LARGE, LARGE * 0.6, 30.0, False),  # it takes away less than half
        (LARGE, LARGE * 0.4, 3.0, False),  # a constant would still be nearer
        (LARGE[:0], LARGE[:0], 3.0, False),
        (LARGE, np.where(np.arange(100) == 0, np.nan, 0.1), 3.0, False),
        (np.where(np.arange(100) == 0, np.nan, 10.0), LARGE / 100, 3.0, True),  # a label that is none
        (np.where(np.arange(100) == 0, 1000.0, 0.1), np.full(100, 0.1), 3.0, False),  # one row is no rule
    ],
)
def test_what_collapses(errors: np.ndarray, others: np.ndarray, of_median: float, expected: bool) -> None:
    assert is_collapse(errors, others, of_median) is expected


def test_a_row_without_a_number_is_no_small_error() -> None:
    assert mean_error(np.array([1.0, 3.0])) == 2
    assert mean_error(np.array([1.0, np.nan])) == float("inf")
