"""Bets: the closed form, the level under the null, the twin for simulations, and harm that begins late."""

from __future__ import annotations

import json

import numpy as np
import pytest

from runtime.sequential import BettingMixture, BettingMixtures
from runtime.sequential.betting import BETS, CASH


def test_one_value_is_the_mixture_of_its_bets() -> None:
    test = BettingMixture(null=0.0, low=-1.0)
    test.observe(1.0)
    by_hand = CASH + sum((1 - CASH) / len(BETS) * (1 + bet) for bet in BETS)
    assert test.e_value == pytest.approx(by_hand, rel=1e-12)


def test_values_are_measured_from_the_null_in_units_of_the_worst() -> None:
    test = BettingMixture(null=0.2, low=0.0)
    test.observe(0.0)
    assert test.e_value == pytest.approx(CASH + sum((1 - CASH) / len(BETS) * (1 - bet) for bet in BETS), rel=1e-12)
    test.observe(-5.0)
    assert test.e_value > 0, "clipped: the capital never goes below zero"


def test_a_null_at_the_lowest_value_is_refused() -> None:
    with pytest.raises(ValueError, match="expected a null above it"):
        BettingMixture(null=0.0, low=0.0)


@pytest.mark.slow
@pytest.mark.parametrize(("worse", "better", "null"), [(0.05, 0.05, 0.0), (0.005, 0.005, 0.0), (0.06, 0.04, 0.02)])
def test_the_level_holds_at_every_look(worse: float, better: float, null: float) -> None:
    rng = np.random.default_rng(11)
    runs = 2000
    test = BettingMixtures(null, -1.0, runs)
    has_reached = np.zeros(runs, bool)
    for _ in range(1500):
        drawn = rng.random(runs)
        test.observe((drawn < worse).astype(float) - ((drawn >= worse) & (drawn < worse + better)))
        has_reached |= test.e_values >= 20
    # 5 % and three standard errors of 2,000 runs.
    assert has_reached.mean() <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / runs)


def test_the_mean_under_the_null_is_one() -> None:
    # All paths of four values -1, 0, 1 with mean 0, by their probabilities: the definition of an e-process, exactly.
    outcomes = ((-1.0, 0.3), (0.0, 0.4), (1.0, 0.3))
    total = 0.0
    for path in np.ndindex(3, 3, 3, 3):
        test, probability = BettingMixture(0.0, -1.0), 1.0
        for at in path:
            value, chance = outcomes[at]
            test.observe(value)
            probability *= chance
        total += probability * test.e_value
    assert total == pytest.approx(1.0, rel=1e-12)


def test_the_twin_for_simulations_has_the_same_numbers() -> None:
    rng = np.random.default_rng(3)
    values = rng.choice([-1.0, 0.0, 0.25, 1.0], size=(400, 3))
    twin = BettingMixtures(0.01, -1.0, 3)
    ones = [BettingMixture(0.01, -1.0) for _ in range(3)]
    for row in values:
        twin.observe(row)
        for one, value in zip(ones, row, strict=True):
            one.observe(float(value))
    np.testing.assert_allclose(twin.e_values, [one.e_value for one in ones], rtol=1e-9)


def test_the_twin_leaves_out_runs_without_a_value() -> None:
    twin = BettingMixtures(0.0, -1.0, 2)
    twin.observe([1.0, np.nan])
    assert twin.e_values[0] > 1
    assert twin.e_values[1] == pytest.approx(1.0)


def test_harm_that_begins_after_a_long_good_time_is_found_soon() -> None:
    test = BettingMixture(0.0, -1.0)
    for at in range(20_000):
        test.observe(-1.0 if at % 20 == 0 else 0.0)
    assert test.e_value < 1
    needed = 0
    while test.e_value < 20:
        test.observe(1.0)
        needed += 1
    assert needed < 60


def test_a_restart_keeps_the_evidence() -> None:
    test = BettingMixture(0.0, -1.0)
    for _ in range(5):
        test.observe(1.0)
    before = test.e_value
    test.restart()
    assert test.e_value == pytest.approx(before)


def test_the_capital_never_overflows() -> None:
    test = BettingMixture(0.001, 0.0)
    for _ in range(200):
        test.observe(1.0)
    assert np.isfinite(test.e_value)
    assert test.e_value > 1e90


def test_state_survives_as_json() -> None:
    test = BettingMixture(0.0, -1.0)
    for value in (1.0, -1.0, 0.5):
        test.observe(value)
    other = BettingMixture.from_state(json.loads(json.dumps(test.to_state())))
    test.observe(1.0)
    other.observe(1.0)
    assert other.e_value == test.e_value
