import numpy as np
import pytest

from benchmarks.loadgen.rules import early_stopping_estimate, is_server_run_kept, schedule
from benchmarks.statistics import needed_samples


def test_a_schedule_is_the_seeds_and_long_enough() -> None:
    due = schedule(200.0, 2.0, 100)
    assert due[0] == 0
    assert np.array_equal(due, schedule(200.0, 2.0, 100))
    assert not np.array_equal(due[:50], schedule(200.0, 2.0, 100, seed=1)[:50])
    # The last query is the first that is due at or after the end, as LoadGen's loop has it.
    assert due[-2] < 2e9 <= due[-1]
    assert len(schedule(200.0, 0.1, 500)) == 500


def test_gaps_are_exponential() -> None:
    gaps_s = np.diff(schedule(500.0, 40.0, 1)) / 1e9
    assert gaps_s.mean() == pytest.approx(1 / 500, rel=0.04)
    assert gaps_s.std() == pytest.approx(1 / 500, rel=0.04)


@pytest.mark.parametrize("n", [64, 200, 662, 5000])
def test_the_estimate_discards_as_many_as_n_allows(n: int) -> None:
    estimate = early_stopping_estimate(np.arange(n, dtype=float), 0.9)
    assert estimate.ms == n - 1 - estimate.discarded
    assert needed_samples(0.9, estimate.discarded + 1) <= n < needed_samples(0.9, estimate.discarded + 2)


def test_too_few_have_no_estimate() -> None:
    estimate = early_stopping_estimate(np.arange(63.0), 0.9)
    assert estimate.ms is None
    assert estimate.needed == 64


def test_a_server_run_needs_enough_queries_for_its_slow_ones() -> None:
    assert is_server_run_kept(np.full(459, 1.0), 5.0)
    assert not is_server_run_kept(np.full(458, 1.0), 5.0)
    assert is_server_run_kept(np.array([9.0] + [1.0] * 661), 5.0)
    assert not is_server_run_kept(np.array([9.0] * 10 + [1.0] * 990), 5.0)
    assert not is_server_run_kept(np.array([]), 5.0)
