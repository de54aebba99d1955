"""Limits of failures: the probability that they are ever reached, by another computation and by drawing."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from runtime.sequential import FailureLimits, failure_limits


def reached(limits: FailureLimits, share: float, counts: list[int]) -> float:
    """That failures reach the limit at any of `counts`, step by step with scipy's binomial."""
    alive, total, before = {0: 1.0}, 0.0, 0
    for count in counts:
        step = binom(count - before, share)
        odds = step.pmf(range(count - before + 1))
        walk: dict[int, float] = {}
        for failed, probability in alive.items():
            for more, part in enumerate(odds):
                if part > 1e-18:
                    walk[failed + more] = walk.get(failed + more, 0.0) + probability * part
        limit = limits.at(count)
        total += sum(probability for failed, probability in walk.items() if failed >= limit)
        alive = {failed: probability for failed, probability in walk.items() if failed < limit}
        before = count
    return float(total)


@pytest.mark.parametrize(("tolerated", "alpha"), [(0.01, 0.05), (0.1, 0.05), (0.002, 0.2), (0.5, 0.01)])
def test_the_limits_spend_alpha_and_no_more(tolerated: float, alpha: float) -> None:
    limits = FailureLimits(tolerated, alpha)
    every = list(range(1, 401))
    spent = reached(limits, tolerated, every)
    assert 0.35 * alpha < spent <= alpha
    assert reached(limits, tolerated / 2, every) < spent, "who fails less is stopped less"


def test_beyond_any_fleet_alpha_is_never_overspent() -> None:
    limits = failure_limits(0.01, 0.05)
    rng = np.random.default_rng(7)
    counts = np.arange(1, 20_001)
    most = np.array([limits.at(int(count)) for count in counts])
    runs = 1500
    hits = sum(bool(((rng.random(20_000) < 0.01).cumsum() >= most).any()) for _ in range(runs))
    assert binom.cdf(hits, runs, 0.05) < 1 - 1e-6
    assert limits.at(200_000) < 2400, "a hundredth and a little more"


def test_limits_rise_and_the_first_failure_of_all_is_one_too_many() -> None:
    limits = FailureLimits(0.01, 0.05)
    found = [limits.at(count) for count in range(1, 1001)]
    assert found[0] == 1
    assert all(limit >= 2 for limit in found[1:])
    again = FailureLimits(0.01, 0.05)
    assert again.at(1000) == found[-1]
    assert found == [again.at(count) for count in range(1, 1001)], "in whatever order they are asked for"
    assert max(found) == found[-1]


@pytest.mark.parametrize(("tolerated", "alpha"), [(0.0, 0.05), (0.01, 1.0)])
def test_what_is_no_probability_is_refused(tolerated: float, alpha: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        FailureLimits(tolerated, alpha)
