"""The digits that ship with scikit-learn, changed as cameras and pipelines change them: after how many rows that is found.

Only the rows that are not in the training split are used, drawn with replacement; the answers are the model's own.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np

from runtime.engine.load import load
from runtime.engine.model import Model
from runtime.engine.settings import EngineSettings
from runtime.engine.watch_settings import WatchSettings
from runtime.monitoring.bundled import as_answered, bundled_baseline
from runtime.monitoring.decision import DriftTest
from runtime.monitoring.layout import columns
from runtime.monitoring.reference import Baseline
from runtime.monitoring.summary import Summary
from runtime.tensors import Array

BLOCK_ROWS = 50
CALM_ROWS = 500
ROWS = 5_000

Change = Callable[[Array, np.random.Generator], Array]


def _shifted(images: Array, _: np.random.Generator) -> Array:
    moved = np.zeros_like(images)
    moved[..., 2:] = images[..., :-2]
    return moved


CHANGES: dict[str, Change] = {
    "none": lambda images, _: images,
    "inverted": lambda images, _: 1 - images,
    "shifted by 2 pixels": _shifted,
    "brighter by 0.1": lambda images, _: np.clip(images + np.float32(0.1), 0, 1),
    "noise of 0.2": lambda images, rng: np.clip(images + rng.normal(0, 0.2, images.shape), 0, 1).astype(np.float32),
}
SHARES = (0.1, 0.5, 1.0)


def measure(runs: int) -> list[dict[str, Any]]:
    """Every change at every share of rows."""
    found = []
    # Another variant on the way answers otherwise than the reference that was made at the start: that is found, rightly, at once.
    with load("digits", EngineSettings(watch=WatchSettings(0, 0))) as model:
        samples = model.bundle.samples()
        baseline = bundled_baseline(model.bundle)
        assert samples is not None
        assert baseline is not None
        half = samples.inputs["image"]
        baseline = as_answered(baseline, samples.inputs, model.predict(samples.inputs))
        for name, change in CHANGES.items():
            for share in SHARES if name != "none" else (1.0,):
                outcomes = [_run(model, baseline, half, change, share, seed) for seed in range(runs)]
                delays = [delay for _, delay, _ in outcomes if delay is not None]
                found.append({
                    "change": name,
                    "share": share,
                    "runs": runs,
                    "early_alarms": sum(is_early for is_early, _, _ in outcomes),
                    "found": len(delays),
                    "median_rows": median(delays) if delays else None,
                    "first_features": sorted({feature for _, _, feature in outcomes if feature}),
                })  # fmt: skip
    return found


def _run(
    model: Model, baseline: Baseline, images: Array, change: Change, share: float, seed: int
) -> tuple[bool, int | None, str | None]:
    rng = np.random.default_rng([seed, 17])
    stream = images[rng.integers(0, len(images), ROWS)].copy()
    late = np.flatnonzero(rng.random(ROWS) < share)
    late = late[late >= CALM_ROWS]
    stream[late] = change(stream[late], rng)
    answers = np.concatenate(
        [model.predict({"image": part})["probabilities"] for part in np.array_split(stream, ROWS // 500)]
    )
    values = columns(baseline.features, {"image": stream}, {"probabilities": answers})
    test = DriftTest(baseline)
    for first in range(0, ROWS, BLOCK_ROWS):
        summary, last = Summary(baseline, use_sketches=False), first + BLOCK_ROWS
        summary.update_columns({name: value[first:last] for name, value in values.items()})
        fresh = test.look(summary, float(first), float(last))
        if fresh:
            return (
                last <= CALM_ROWS,
                None if last <= CALM_ROWS else last - CALM_ROWS,
                min(fresh, key=lambda f: f.log_p).feature,
            )
    return False, None, None
