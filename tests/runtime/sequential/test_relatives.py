"""The other tests against scipy, closed forms and simulated coverage with fixed seeds."""

from __future__ import annotations

import json
from math import exp, inf, log, sqrt

import numpy as np
import pytest
from scipy import integrate, special, stats

from runtime.sequential import (
    AsymptoticMean,
    DiscordantPairs,
    EmpiricalBernstein,
    LogHistogram,
    Pairing,
    SampleRatio,
    observations_needed,
)
from runtime.sequential.asymptotic import _rho_squared


class TestDiscordantPairs:
    def test_is_the_beta_binomial_mixture_over_one_side(self) -> None:
        rng = np.random.default_rng(2)
        test = DiscordantPairs()
        for is_worse in rng.random(300) < 0.6:
            test.observe(bool(is_worse))
            a, b = test.worse + 1, test.better + 1
            log_mixture = special.betaln(a, b) + (test.worse + test.better) * log(2)
            expected = exp(log_mixture) * special.betaincc(a, b, 0.5) / 0.5
            assert test.e_value == pytest.approx(expected, rel=1e-9)

    def test_much_evidence_for_the_other_side_leaves_it_at_nothing(self) -> None:
        test = DiscordantPairs()
        for _ in range(400):
            test.observe(False)
        assert 0 <= test.e_value < 1e-6

    def test_the_mean_under_the_null_is_one(self) -> None:
        total = 0.0
        for worse in range(11):
            test = DiscordantPairs()
            for at in range(10):
                test.observe(at < worse)
            total += stats.binom.pmf(worse, 10, 0.5) * test.e_value
        assert total == pytest.approx(1.0, rel=1e-9)


class TestEmpiricalBernstein:
    def test_matches_the_theorem_written_out(self) -> None:
        values = np.random.default_rng(5).random(60)
        test = EmpiricalBernstein(0.0, 1.0, 0.05)
        for value in values:
            test.observe(float(value))
        bets, spread, squares, total = [], 0.0, 0.0, 0.0
        for t, value in enumerate(values, 1):
            mean, variance = (0.5 + total) / t, (0.25 + squares) / t
            bet = min(sqrt(2 * log(2 / 0.05) / (variance * t * log(1 + t))), 0.5)
            bets.append(bet)
            spread += 4 * (value - mean) ** 2 * (-log(1 - bet) - bet) / 4
            total += value
            squares += (value - (0.5 + total) / (t + 1)) ** 2
        centre = np.dot(bets, values) / sum(bets)
        width = (log(2 / 0.05) + spread) / sum(bets)
        assert test.interval() == pytest.approx((max(centre - width, 0), min(centre + width, 1)))

    @pytest.mark.slow
    def test_covers_the_mean_at_all_times(self) -> None:
        rng = np.random.default_rng(6)
        missed = 0
        for _ in range(300):
            test = EmpiricalBernstein(-1.0, 1.0, 0.05)
            is_missed = False
            for value in rng.choice([-1.0, 0.0, 1.0], size=500, p=[0.05, 0.87, 0.08]):
                test.observe(float(value))
                low, high = test.interval()
                is_missed |= not low <= 0.03 <= high
            missed += is_missed
        assert missed / 300 <= 0.05 + 3 * sqrt(0.05 * 0.95 / 300)

    def test_says_nothing_before_the_first_value(self) -> None:
        assert EmpiricalBernstein(-1.0, 1.0, 0.05).interval() == (-1.0, 1.0)


class TestAsymptoticMean:
    def test_matches_the_theorem_written_out(self) -> None:
        values = np.random.default_rng(7).normal(3, 2, 400)
        test = AsymptoticMean()
        for value in values:
            test.observe(float(value))
        t, rho = len(values), _rho_squared(0.05)
        width = values.std(ddof=1) * sqrt(2 * (t * rho + 1) / (t**2 * rho) * log(sqrt(t * rho + 1) / 0.05))
        assert test.interval(0.05) == pytest.approx((values.mean() - width, values.mean() + width))

    def test_evidence_is_the_mixture_over_a_half_normal(self) -> None:
        values = np.random.default_rng(8).normal(0.1, 1, 300)
        test = AsymptoticMean()
        for value in values:
            test.observe(float(value))
        t, rho = len(values), sqrt(_rho_squared(0.05))
        total = values.sum() / values.std(ddof=1)

        def weighted(bet: float) -> float:
            return exp(bet * total - bet**2 * t / 2) * 2 * stats.norm.pdf(bet, scale=rho)

        expected, _ = integrate.quad(weighted, 0, 12 * rho)
        assert test.e_value(0.0, 0.05) == pytest.approx(expected, rel=1e-6)

    @pytest.mark.slow
    def test_the_level_holds_at_every_look(self) -> None:
        rng = np.random.default_rng(9)
        reached = 0
        for _ in range(300):
            test = AsymptoticMean()
            values = rng.exponential(1.0, 1000)
            has_reached = False
            for value in values:
                test.observe(float(value))
                has_reached = has_reached or test.e_value(1.0, 0.05) >= 20
            reached += has_reached
        assert reached / 300 <= 0.05 + 3 * sqrt(0.05 * 0.95 / 300)

    def test_few_values_are_no_evidence(self) -> None:
        test = AsymptoticMean()
        for _ in range(50):
            test.observe(1e6)
        assert test.e_value(0.0, 0.05) == 1.0
        assert test.interval(0.05) == (-inf, inf)

    def test_values_that_never_vary_decide(self) -> None:
        worse, same = AsymptoticMean(), AsymptoticMean()
        for _ in range(200):
            worse.observe(2.0)
            same.observe(0.0)
        assert worse.e_value(0.0, 0.05) > 20
        assert same.e_value(0.0, 0.05) == 0.0


class TestLogHistogram:
    def test_quantiles_are_within_a_bin_of_numpys(self) -> None:
        values = np.exp(np.random.default_rng(10).normal(-4, 0.7, 5000))
        test = LogHistogram()
        for value in values:
            test.observe(float(value))
        for share in (0.1, 0.5, 0.95, 0.99):
            assert test.quantile(share) == pytest.approx(np.quantile(values, share), rel=0.03)

    def test_values_beyond_all_bins_count_in_the_nearest(self) -> None:
        test = LogHistogram()
        for value in (0.0, 1e9):
            test.observe(value)
        assert test.count == 2
        assert np.isnan(LogHistogram().quantile(0.5))


class TestPairing:
    def test_pairs_are_in_order_of_arrival(self) -> None:
        pairing = Pairing(0.5)
        assert pairing.add(False, 1.0) is None
        assert pairing.add(False, 2.0) is None
        assert pairing.add(True, 3.0) == ((1.0,), (3.0,))
        assert pairing.add(True, 4.0) == ((2.0,), (4.0,))

    def test_a_rare_side_is_compared_with_as_many_as_there_are(self) -> None:
        pairing = Pairing(0.1)
        for value in range(9):
            assert pairing.add(False, float(value)) is None
        pair = pairing.add(True, 5.0)
        assert pair is not None
        assert len(pair.first) == 9

    def test_the_oldest_that_wait_too_long_are_dropped_and_counted(self) -> None:
        pairing = Pairing(0.5)
        for value in range(100):
            pairing.add(False, float(value))
        assert pairing.dropped == 36
        assert pairing.add(True, 0.0) == ((36.0,), (0.0,))


class TestSampleRatio:
    def test_is_the_dirichlet_multinomial_of_the_counts(self) -> None:
        test = SampleRatio((0.9, 0.1))
        for arm in [0] * 70 + [1] * 30:
            test.observe(arm)
        order = special.gammaln(101) - special.gammaln(71) - special.gammaln(31)
        mixture = stats.dirichlet_multinomial.logpmf([70, 30], [90.0, 10.0], 100) - order
        assert test.e_value == pytest.approx(exp(mixture - 70 * log(0.9) - 30 * log(0.1)), rel=1e-9)

    @pytest.mark.slow
    def test_the_level_holds_at_every_look(self) -> None:
        rng = np.random.default_rng(12)
        reached = 0
        for _ in range(300):
            test = SampleRatio((0.9, 0.1))
            has_reached = False
            for is_second in rng.random(500) < 0.1:
                test.observe(int(is_second))
                has_reached = has_reached or test.e_value >= 20
            reached += has_reached
        assert reached / 300 <= 0.05 + 3 * sqrt(0.05 * 0.95 / 300)

    def test_shares_that_do_not_add_up_are_refused(self) -> None:
        with pytest.raises(ValueError, match="add up to 1"):
            SampleRatio((0.9, 0.2))


def test_what_is_needed_grows_with_what_is_missing() -> None:
    # S4: a gap of 2 %, a variance of 10 %, alpha 5 %: the floor is 1,546.
    fresh = observations_needed(1.0, 0.05, 0.02, 0.1)
    assert 1546 < fresh < 2 * 1546
    assert observations_needed(10.0, 0.05, 0.02, 0.1) < fresh
    assert observations_needed(20.0, 0.05, 0.02, 0.1) == 0
    with pytest.raises(ValueError, match="expected a gap over 0"):
        observations_needed(1.0, 0.05, 0.0, 0.1)


def test_states_survive_as_json() -> None:
    discordant, bernstein, mean = DiscordantPairs(), EmpiricalBernstein(0.0, 1.0, 0.05), AsymptoticMean()
    histogram, pairing, ratio = LogHistogram(), Pairing(0.25), SampleRatio((0.5, 0.5))
    for value in (0.1, 0.9, 0.4):
        discordant.observe(value > 0.3)
        bernstein.observe(value)
        mean.observe(value)
        histogram.observe(value)
        pairing.add(False, value)
        ratio.observe(int(value > 0.3))
    for test in (discordant, bernstein, mean, histogram, pairing, ratio):
        state = json.loads(json.dumps(test.to_state()))
        assert type(test).from_state(state).to_state() == state
