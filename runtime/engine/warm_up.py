"""First calls of a model, on zeros: they allocate and pick kernels, so that the first caller need not wait for that."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np

from runtime.backends.base import Overlap
from runtime.tensors import Array, TensorSpec, count_elements

CALLS: Final = 3
"""First calls allocate arenas and pick kernels; after the third, times are flat (measured, ONNX Runtime 1.32 and LiteRT 2.3)."""
ENOUGH_S: Final = 0.02
"""The first call is what the first caller would wait for anyway; a large model need not make everybody wait for three."""


def warm_up(
    run: Callable[[Mapping[str, Array]], object], specs: Sequence[TensorSpec], overlap: Overlap, instances: int
) -> float:
    """Runs each session behind `run` on zeros, a few times where that takes no time; the last call's seconds.

    Only where calls have sessions of their own (`Overlap.OWN`) are there as many as `instances`, which take turns. A free
    dimension is taken as 1.
    """
    inputs = {spec.name: _zeros(spec) for spec in specs}
    sessions = instances if overlap is Overlap.OWN else 1
    return [_warm_up_one(run, inputs) for _ in range(sessions)][-1]


def _warm_up_one(run: Callable[[Mapping[str, Array]], object], inputs: Mapping[str, Array]) -> float:
    began = time.perf_counter()
    took_s = 0.0
    for _ in range(CALLS):
        started = time.perf_counter()
        run(inputs)
        ended = time.perf_counter()
        took_s = ended - started
        if ended - began > ENOUGH_S:
            break
    return took_s


def _zeros(spec: TensorSpec) -> Array:
    shape = tuple(1 if size == -1 else size for size in spec.shape)
    if spec.dtype == np.object_:
        return np.full(count_elements(shape), b"0", dtype=np.object_).reshape(shape)
    return np.zeros(shape, spec.dtype)
