"""The sizes that a verdict names are what scipy, the formula or a simulation says of the same counts."""

from __future__ import annotations

import numpy as np
import pytest

from runtime.monitoring.distances import by_chance, js, measure, psi

REFERENCE = np.array([400.0, 300, 200, 100, 0])
LIVE = np.array([50.0, 60, 40, 30, 20])
DRAWS = 4000


def test_the_measures_of_counts_are_scipys() -> None:
    distance = pytest.importorskip("scipy.spatial.distance")
    stats = pytest.importorskip("scipy.stats")
    found = measure(REFERENCE, LIVE, is_ordered=True)
    places = np.arange(5)
    rows = [np.repeat(places, counts.astype(int)) for counts in (REFERENCE, LIVE)]
    assert found.ks == pytest.approx(stats.ks_2samp(*rows).statistic)
    assert found.js == pytest.approx(distance.jensenshannon(REFERENCE / 1000, LIVE / 200, 2))
    both = np.stack([REFERENCE, LIVE])
    assert found.chi2 == pytest.approx(stats.chi2_contingency(both, correction=False).statistic)


def test_psi_is_its_formula_with_a_floor_where_a_bin_is_empty() -> None:
    assert psi(np.array([0.5, 0.5]), np.array([0.25, 0.75])) == pytest.approx(0.25 * np.log(2) + 0.25 * np.log(1.5))
    assert psi(np.array([1.0, 0.0]), np.array([0.9, 0.1])) == pytest.approx(
        -0.1 * np.log(0.9) + (0.1 - 1e-4) * np.log(0.1 / 1e-4)
    )


def test_without_an_order_half_of_what_moved_is_told() -> None:
    assert measure(REFERENCE, LIVE, is_ordered=False).ks == pytest.approx(0.15)


def test_wasserstein_of_tenths_is_the_distance_of_the_rows_in_their_spread() -> None:
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(0)
    before, after = rng.normal(3, 2, 20_000), rng.normal(4, 2, 20_000)
    tenths = [np.quantile(values, np.linspace(0, 1, 11)) for values in (before, after)]
    counts = [np.histogram(values, np.linspace(-10, 20, 12))[0].astype(float) for values in (before, after)]
    told = measure(*counts, is_ordered=True, deciles=(tenths[0], tenths[1]), std=float(before.std())).wasserstein
    assert told == pytest.approx(stats.wasserstein_distance(before, after) / before.std(), rel=0.02)
    for deciles, std in (((None, tenths[1]), 2.0), ((tenths[0], tenths[1]), 0.0), ((tenths[0][:5], tenths[1]), 2.0)):
        assert measure(*counts, is_ordered=True, deciles=deciles, std=std).wasserstein is None


@pytest.mark.parametrize("bins", [4, 16])
def test_ninety_nine_of_a_hundred_draws_stay_below_what_chance_reaches(bins: int) -> None:
    rng, shares = np.random.default_rng(bins), np.full(bins, 1 / bins)
    most = by_chance(bins, 800, 2000)
    beyond = dict.fromkeys(most, 0)
    for _ in range(DRAWS):
        found = measure(*(rng.multinomial(rows, shares).astype(float) for rows in (2000, 800)), is_ordered=True)
        for name in beyond:
            beyond[name] += getattr(found, name) > most[name]
    # Three standard errors about 1 %; KS of few bins reaches less than its law of smooth numbers.
    assert all(count <= 0.015 * DRAWS for count in beyond.values()), beyond
    assert all(beyond[name] >= 0.005 * DRAWS for name in ("psi", "js", "chi2")), beyond


def test_nothing_seen_is_no_distance_that_fails() -> None:
    nothing = np.zeros(5)
    for pair in ((REFERENCE, nothing), (nothing, LIVE), (nothing, nothing)):
        assert np.isfinite(list(measure(*pair, is_ordered=True).to_dict().values())[:4]).all()
    same = measure(REFERENCE, REFERENCE, is_ordered=True)
    assert (same.ks, same.psi, same.js, same.chi2) == (0, 0, 0, 0)
    assert js(np.array([1.0, 0.0]), np.array([0.0, 1.0])) == 1.0
