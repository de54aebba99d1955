"""Temperature scaling: one number that makes a classifier's probabilities as large as its accuracy (Guo et al., ICML 2017)."""

from __future__ import annotations

import math
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]

# Outside of these a model is not over- or underconfident but broken, or the rows are all right and any temperature fits.
LOWEST, HIGHEST = 0.05, 20.0
# Golden section search halves the bracket in log T every 1.44 steps: 40 steps leave a relative error of 1e-7.
_STEPS: Final = 40
_GOLDEN: Final = (math.sqrt(5.0) - 1.0) / 2.0
# A probability of 0 has no logarithm; float32 soft max gives exact zeros from about 1e-45 on.
_TINY: Final = 1e-30


def as_logits(scores: NDArray[Any]) -> Floats:
    """Logits [row, class] of scores that are logits, or probabilities (not negative, rows that sum to 1)."""
    values = np.asarray(scores, dtype=np.float64).reshape(len(scores), -1)
    return np.asarray(np.log(np.maximum(values, _TINY))) if are_probabilities(values) else values


def are_probabilities(values: Floats) -> bool:
    """Whether scores [row, class] are probabilities: not negative, rows that sum to 1."""
    return bool(np.all(values >= 0)) and bool(np.all(np.abs(values.sum(axis=1) - 1.0) < 0.02))


def confidences(logits: Floats, temperature: float) -> Floats:
    """The calibrated probability [row] of the class that each row of `logits` answers with."""
    scaled = logits / temperature
    shifted = scaled - scaled.max(axis=1, keepdims=True)
    return np.asarray(1.0 / np.exp(shifted).sum(axis=1))


def mean_loss(logits: Floats, labels: NDArray[Any], temperature: float) -> float:
    """Mean negative log likelihood of `labels` [row] at `temperature`."""
    scaled = logits / temperature
    highest = scaled.max(axis=1)
    log_sum = highest + np.log(np.exp(scaled - highest[:, None]).sum(axis=1))
    return float(np.mean(log_sum - scaled[np.arange(len(labels)), labels]))


def fit_temperature(logits: Floats, labels: NDArray[Any]) -> float:
    """The temperature within 0.05 to 20 with the least loss: convex in 1/T, so a golden section search finds it."""
    low, high = math.log(LOWEST), math.log(HIGHEST)

    def loss(log_t: float) -> float:
        return mean_loss(logits, labels, math.exp(log_t))

    left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    at_left, at_right = loss(left), loss(right)
    for _ in range(_STEPS):
        if at_left <= at_right:
            high, right, at_right = right, left, at_left
            left = high - _GOLDEN * (high - low)
            at_left = loss(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + _GOLDEN * (high - low)
            at_right = loss(right)
    return math.exp((low + high) / 2)
