"""A bundle's labelled samples and what the model says to them: what a cascade is fitted from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np

from runtime.bundle.bundle import Bundle
from runtime.bundle.manifest import Task
from runtime.tensors import Array

# As many rows at a time as any model here takes comfortably.
CHUNK_ROWS: Final = 32


def labelled_scores(
    bundle: Bundle, predict: Callable[[Mapping[str, Array]], Mapping[str, Array]]
) -> tuple[str, Array, Array] | str:
    """The scores' output name, scores [row, class] and labels [row]; or why there are none."""
    samples, manifest = bundle.samples(), bundle.manifest
    if manifest is None or manifest.task is not Task.CLASSIFICATION:
        return "it is not declared a classification; its manifest must say so"
    if samples is None or samples.labels is None:
        return "its bundle has no labelled samples; build it with labels"
    output = next((tensor.name for tensor in manifest.outputs if tensor.datatype.startswith(("FP", "BF"))), None)
    if output is None:
        return "none of its outputs is a floating-point score"
    parts = []
    for start in range(0, len(samples), CHUNK_ROWS):
        rows = {name: value[start : start + CHUNK_ROWS] for name, value in samples.inputs.items()}
        parts.append(np.asarray(predict(rows)[output]))
    scores = np.concatenate(parts)
    if scores.ndim != 2 or scores.shape[1] < 2:
        return f"output {output!r} has shape {list(scores.shape)}; expected a score for every class, [row, class]"
    return output, scores, samples.labels
