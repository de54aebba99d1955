"""Small models and rows that the tests of this folder share."""

from __future__ import annotations

from typing import Any

import numpy as np

from runtime.monitoring.layout import columns, features_of
from runtime.monitoring.reference import Baseline, make_baseline
from runtime.tensors import TensorSpec

INPUTS = (TensorSpec("x", "FP32", (-1, 3)), TensorSpec("site", "BYTES", (-1, 1)))
OUTPUTS = (TensorSpec("p", "FP32", (-1, 4)),)
FEATURES = features_of(INPUTS, OUTPUTS, is_classifier=True, ranges={"p": (0.0, 1.0)})


def rows(seed: int, count: int) -> tuple[dict[str, Any], dict[str, Any]]:
    rng = np.random.default_rng(seed)
    scores = rng.random((count, 4)) ** 3
    sites = rng.choice(np.array([b"north", b"south", b"west"], object), (count, 1), p=(0.6, 0.3, 0.1))
    inputs = {"x": rng.normal([0, 10, -5], [1, 2, 0.1], (count, 3)).astype(np.float32), "site": sites}
    return inputs, {"p": (scores / scores.sum(axis=1, keepdims=True)).astype(np.float32)}


def baseline(count: int = 2000) -> Baseline:
    return make_baseline("m", 3, FEATURES, columns(FEATURES, *rows(0, count)))
