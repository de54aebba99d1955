"""Feature values counted a second on one core, and bytes that a feature takes at rest."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from runtime.monitoring.blob import to_blob
from runtime.monitoring.layout import columns, features_of
from runtime.monitoring.quantiles import has_sketches
from runtime.monitoring.reference import Baseline, make_baseline
from runtime.monitoring.summary import Summary
from runtime.tensors import Array, TensorSpec

BLOCK_ROWS = 256
SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Block:
    """Rows as the recorder counts them, and the baseline that they are held against."""

    baseline: Baseline
    fed: Mapping[str, Array]
    answered: Mapping[str, Array]


def blocks() -> dict[str, Block]:
    """Numbers alone, categories alone, and images with scores, by name."""
    rng = np.random.default_rng(1)
    cities = np.array([f"city {at}".encode() for at in range(100)], object)
    scores = rng.random((BLOCK_ROWS, 10)).astype(np.float32)
    numbers = {"x": rng.normal(size=(BLOCK_ROWS, 30)).astype(np.float32)}
    images = {"i": rng.random((BLOCK_ROWS, 1, 8, 8)).astype(np.float32)}
    shares = {"p": scores / scores.sum(axis=1, keepdims=True)}
    classes = [TensorSpec("p", "FP32", (-1, 10))]
    return {
        "30 numbers": _block([TensorSpec("x", "FP32", (-1, 30))], [], numbers, {}),
        "10 categories": _block(
            [TensorSpec("c", "BYTES", (-1, 10))], [], {"c": rng.choice(cities, (BLOCK_ROWS, 10))}, {}
        ),
        "images 8 x 8 and 10 scores": _block([TensorSpec("i", "FP32", (-1, 1, 8, 8))], classes, images, shares),
    }


def measure() -> list[dict[str, Any]]:
    """What each kind of block costs, with sketches and without."""
    found = []
    for name, block in blocks().items():
        for use_sketches in (True, False) if has_sketches() else (False,):
            summary, counted = Summary(block.baseline, use_sketches=use_sketches), 0
            started = time.process_time()
            while time.process_time() - started < SECONDS:
                summary.update(block.fed, block.answered)
                counted += 1
            took_s, features = time.process_time() - started, len(block.baseline.features)
            kind = "datasketches" if use_sketches else "fixed histograms"
            found.append(
                {
                    "stream": name,
                    "kind": kind,
                    "values_per_cpu_s": round(counted * BLOCK_ROWS * features / took_s),
                    "bytes_per_feature": round(len(to_blob(summary)) / features),
                }
            )
    return found


def _block(
    inputs: list[TensorSpec], outputs: list[TensorSpec], fed: Mapping[str, Array], answered: Mapping[str, Array]
) -> Block:
    features = features_of(inputs, outputs, is_classifier=bool(outputs), ranges={})
    return Block(make_baseline("bench", 1, features, columns(features, fed, answered)), fed, answered)
