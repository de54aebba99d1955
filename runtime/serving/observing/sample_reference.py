"""What a model's live rows and answers are held against: its bundle's samples, answered once more by the variant that runs here."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Final

import numpy as np

from runtime.engine.model import Model
from runtime.errors import EdgewardError
from runtime.monitoring.bundled import as_answered, bundled_baseline
from runtime.monitoring.estimate import SampleAccuracy, sample_accuracy
from runtime.monitoring.layout import columns
from runtime.monitoring.reference import Baseline

log = logging.getLogger(__name__)

REFERENCE_ROWS: Final = 512
"""Of the bundle's samples, run once more on the variant that answers here."""


@dataclass(frozen=True, slots=True)
class SampleReference:
    """Of one model version on one variant."""

    baseline: Baseline | None
    """None: the bundle has neither profile nor samples, or cannot be read."""
    accuracy: SampleAccuracy | None
    """None: no classifier, or no labelled samples."""


def sample_reference(model: Model) -> SampleReference:
    """Runs the samples; a bundle that cannot be read is said, and has no reference. Blocks as long as some hundred rows take."""
    try:
        baseline = bundled_baseline(model.bundle)
        samples = None if baseline is None else model.bundle.samples()
        if baseline is None or samples is None or not all(spec.is_batched for spec in model.inputs):
            return SampleReference(baseline, None)
        step, parts = max(model.best_batch(), 1), []
        inputs = {name: value[:REFERENCE_ROWS] for name, value in samples.inputs.items()}
        for first in range(0, min(len(samples), REFERENCE_ROWS), step):
            parts.append(model.predict({name: value[first : first + step] for name, value in inputs.items()}))
        outputs = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        answered = as_answered(baseline, inputs, outputs)
        if samples.labels is None:
            return SampleReference(answered, None)
        values = columns(answered.features, inputs, outputs)
        return SampleReference(answered, sample_accuracy(answered, values, samples.labels[:REFERENCE_ROWS]))
    except EdgewardError as error:
        log.warning(
            "model %s: no reference for drift from its bundle (%s); the first rows seen become it", model.name, error
        )
        return SampleReference(None, None)
