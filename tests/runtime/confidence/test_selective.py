"""Temperature, exact bound and threshold, against scipy and against many draws of a known truth."""

import numpy as np
import pytest
from scipy import optimize, special, stats

from runtime.bundle.bundle import Bundle
from runtime.confidence.bound import at_most, rows_needed, upper_bound
from runtime.confidence.selective import GRID, fit_cascade
from runtime.confidence.temperature import as_logits, confidences, fit_temperature, mean_loss


@pytest.mark.parametrize("errors", [0, 1, 5, 40, 99])
@pytest.mark.parametrize("rows", [100, 360])
@pytest.mark.parametrize("delta", [0.05, 0.001])
def test_the_bound_is_clopper_pearsons(errors: int, rows: int, delta: float) -> None:
    expected = stats.beta.ppf(1 - delta, errors + 1, rows - errors)
    assert upper_bound(errors, rows, delta) == pytest.approx(expected, abs=1e-9)
    assert at_most(errors, rows, 0.3) == pytest.approx(stats.binom.cdf(errors, rows, 0.3), rel=1e-9)


def test_the_bounds_ends() -> None:
    assert upper_bound(0, 0, 0.05) == 1.0
    assert upper_bound(7, 7, 0.05) == 1.0
    assert rows_needed(0.01, 0.05) == 299
    assert upper_bound(0, 299, 0.05) <= 0.01 < upper_bound(0, 298, 0.05)


def drawn(rows: int, temperature: float, seed: int, spread: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are `temperature` times too large, and labels drawn from what they should have said."""
    rng = np.random.default_rng(seed)
    honest = rng.normal(0, spread, (rows, 5))
    probabilities = special.softmax(honest, axis=1)
    labels = (probabilities.cumsum(axis=1) > rng.random((rows, 1))).argmax(axis=1)
    return honest * temperature, labels


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_the_temperature_is_the_one_that_scipy_finds_and_the_true_one(temperature: float) -> None:
    logits, labels = drawn(20_000, temperature, 1)
    found = fit_temperature(logits, labels)
    oracle = optimize.minimize_scalar(
        lambda t: mean_loss(logits, labels, float(t)), bounds=(0.05, 20), method="bounded", options={"xatol": 1e-9}
    )
    assert found == pytest.approx(oracle.x, rel=1e-4)
    assert found == pytest.approx(temperature, rel=0.05)
    np.testing.assert_allclose(
        confidences(logits, found), special.softmax(logits / found, axis=1).max(axis=1), rtol=1e-12
    )


def test_probabilities_and_logits_come_to_the_same() -> None:
    logits, _ = drawn(50, 1.0, 2)
    probabilities = special.softmax(logits, axis=1)
    np.testing.assert_allclose(confidences(as_logits(probabilities), 2.0), confidences(as_logits(logits), 2.0))
    assert np.isfinite(as_logits(np.array([[1.0, 0.0]]))).all()


def test_the_chosen_threshold_keeps_the_risk_in_all_but_few_draws() -> None:
    risk, delta, draws = 0.05, 0.1, 100
    truth_logits, truth_labels = drawn(20_000, 1.0, 99, 5.0)
    is_wrong = truth_logits.argmax(axis=1) != truth_labels
    broken = chosen = 0
    for seed in range(draws):
        logits, labels = drawn(600, 1.0, seed, 5.0)
        found = fit_cascade(logits, labels, risk, delta)
        if found.threshold is None:
            continue
        chosen += 1
        clears = confidences(truth_logits, found.temperature) >= found.threshold
        broken += bool(is_wrong[clears].mean() > risk)
    assert chosen > draws / 2, "it is of use"
    # Binomial: beyond that has a chance of one in a thousand.
    assert broken <= stats.binom.ppf(0.999, draws, delta)


def test_it_says_when_the_rows_are_too_few_or_the_model_too_weak() -> None:
    logits, labels = drawn(100, 1.0, 3)
    few = fit_cascade(logits, labels, 0.01)
    assert few.threshold is None
    assert "80 rows cannot show a risk of 1.00%: it takes 299" in few.why
    rng = np.random.default_rng(4)
    weak = fit_cascade(rng.normal(size=(2000, 5)), rng.integers(0, 5, 2000), 0.01)
    assert weak.threshold is None
    assert weak.coverage == 0.0
    assert "no threshold holds a risk of 1.00%" in weak.why


def test_the_table_of_the_bundle_that_ships(digits: Bundle) -> None:
    samples = digits.samples()
    assert samples is not None
    assert samples.labels is not None
    found = fit_cascade(samples.outputs["probabilities"], samples.labels, 0.02)
    assert [point.threshold for point in found.points] == list(GRID)
    coverages = [point.coverage for point in found.points]
    assert coverages == sorted(coverages)
    assert found.points[-1].coverage == 1.0
    assert found.threshold is not None
    assert found.coverage > 0.8
    assert found.to_dict()["threshold"] == found.threshold
