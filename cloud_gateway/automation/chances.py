"""Whether a model's scores are chances of classes, and which: dequantised where they are quantised to eight bits. Pure."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from runtime.tensors import Array

Numbers = npt.NDArray[np.float64]

EXACT: Final = 1e-3
"""How far chances of floats may be from adding up to one."""
SOFTMAX_STEP: Final = 1 / 256
"""The TFLite 8-bit quantisation specification fixes it for softmax; zero point -128 of int8, 0 of uint8."""
STEPS: Final = (SOFTMAX_STEP, 1 / 255)
"""Of chances that were dequantised: by TFLite's converter, and by ONNX Runtime's, which takes the range 0 to 1."""
ON_STEP: Final = 0.02
"""Of a step: a float that is so near to a whole number of them is one."""
MOST_OFF: Final = 0.125
"""Rounding of very many classes could explain any sum; what is further off than this is no distribution."""


def chances_of(scores: Array) -> Numbers | None:
    """[row, class] of `scores` [row, class]; None where those are no distributions over classes."""
    values, step = _dequantised(scores)
    off = np.abs(values.sum(axis=1) - 1.0)
    most = min(EXACT + (values.shape[1] / 2 + 1) * step, MOST_OFF)
    is_distribution = bool((values >= -1e-6).all() and (off <= most).all())
    return values if is_distribution else None


def _dequantised(scores: Array) -> tuple[Numbers, float]:
    """As numbers of 0 to 1 where they are chances, and the step that they were rounded to (0: they were not)."""
    values = scores.astype(np.float64)
    if scores.dtype == np.int8:
        return (values + 128) * SOFTMAX_STEP, SOFTMAX_STEP
    if scores.dtype == np.uint8:
        return values * SOFTMAX_STEP, SOFTMAX_STEP
    for step in STEPS:
        if bool((np.abs(values / step - np.rint(values / step)) <= ON_STEP).all()):
            return values, step
    return values, 0.0
