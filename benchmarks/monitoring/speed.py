"""Feature values counted a second on one core, and bytes that a feature takes at rest."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from runtime.monitoring.blob import to_blob
from runtime.monitoring.layout import columns, features_of
from runtime.monitoring.quantiles import has_sketches
from runtime.monitoring.reference import make_baseline
from runtime.monitoring.summary import Summary
from runtime.tensors import TensorSpec

BLOCK_ROWS = 256
SECONDS = 1.0


def measure() -> list[dict[str, Any]]:
    """Numbers alone, categories alone, and images with scores, in blocks as the recorder counts them."""
    rng = np.random.default_rng(1)
    cities = np.array([f"city {at}".encode() for at in range(100)], object)
    scores = rng.random((BLOCK_ROWS, 10)).astype(np.float32)
    streams: dict[str, tuple[list[TensorSpec], list[TensorSpec], dict[str, Any], dict[str, Any]]] = {
        "30 numbers": (
            [TensorSpec("x", "FP32", (-1, 30))],
            [],
            {"x": rng.normal(size=(BLOCK_ROWS, 30)).astype(np.float32)},
            {},
        ),
        "10 categories": ([TensorSpec("c", "BYTES", (-1, 10))], [], {"c": rng.choice(cities, (BLOCK_ROWS, 10))}, {}),
        "images 8 x 8 and 10 scores": (
            [TensorSpec("i", "FP32", (-1, 1, 8, 8))],
            [TensorSpec("p", "FP32", (-1, 10))],
            {"i": rng.random((BLOCK_ROWS, 1, 8, 8)).astype(np.float32)},
            {"p": scores / scores.sum(axis=1, keepdims=True)},
        ),
    }
    found = []
    for name, (inputs, outputs, fed, answered) in streams.items():
        features = features_of(inputs, outputs, is_classifier=bool(outputs), ranges={})
        baseline = make_baseline("bench", 1, features, columns(features, fed, answered))
        for use_sketches in (True, False) if has_sketches() else (False,):
            summary, blocks = Summary(baseline, use_sketches=use_sketches), 0
            started = time.process_time()
            while time.process_time() - started < SECONDS:
                summary.update(fed, answered)
                blocks += 1
            took_s = time.process_time() - started
            size = len(to_blob(summary)) / len(features)
            rate = blocks * BLOCK_ROWS * len(features) / took_s
            kind = "datasketches" if use_sketches else "fixed histograms"
            found.append(
                {"stream": name, "kind": kind, "values_per_cpu_s": round(rate), "bytes_per_feature": round(size)}
            )
    return found
