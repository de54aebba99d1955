"""What candidates are fed while they are tried and measured: the bundle's samples, or random rows in the declared range."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from runtime.bundle.bundle import Bundle
from runtime.bundle.manifest import Manifest
from runtime.tensors import Array, TensorSpec

BATCH_SIZES = (1, 8, 32)
"""Where the cost of a call is measured: one row, and the batches a queue fills under some and under much load."""
RANDOM_ROWS = 64
RANDOM_CALLS = 16
"""Of a model that takes one shape only: one call would be one chance to see that its answers differ."""
MAX_RANDOM_BYTES = 64 << 20
"""For each input of such a model; the first call is made whatever it takes."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Canonical inputs, and the reference outputs and labels that go with them where they are known."""

    specs: tuple[TensorSpec, ...]
    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]
    """Reference outputs by name; empty when they are not known yet."""
    labels: Array | None
    is_random: bool

    @property
    def is_batched(self) -> bool:
        """Whether a call may carry any number of rows; otherwise every call is of the one shape the model takes."""
        return any(spec.is_batched for spec in self.specs)

    @property
    def batch_sizes(self) -> tuple[int, ...]:
        """The numbers of rows worth measuring."""
        return BATCH_SIZES if self.is_batched else (1,)

    def __len__(self) -> int:
        """Rows there are; of a model without a batch, calls."""
        return min((len(self.inputs[s.name]) // self._step(s) for s in self.specs if self._varies(s)), default=1)

    def take(self, rows: int) -> dict[str, Array]:
        """Inputs of one call with `rows` rows, the samples from the start and over again."""
        return self._call(np.arange(rows) % max(len(self), 1))

    def chunks(self, rows: int, *first: int) -> Iterator[tuple[slice, dict[str, Array]]]:
        """All rows once, in calls of at most `rows` rows: which rows, and their inputs. The first calls are of `first` rows."""
        start, sizes = 0, list(first)
        while start < len(self):
            size = sizes.pop(0) if sizes else rows
            stop = min(start + (size if self.is_batched else 1), len(self))
            yield slice(start, stop), self._call(np.arange(start, stop))
            start = stop

    def _call(self, picked: Array) -> dict[str, Array]:
        inputs: dict[str, Array] = {}
        for spec in self.specs:
            value = self.inputs[spec.name]
            if spec.is_batched:
                inputs[spec.name] = np.ascontiguousarray(value[picked])
            elif self._varies(spec):
                step = self._step(spec)
                inputs[spec.name] = np.ascontiguousarray(value[int(picked[0]) * step : (int(picked[0]) + 1) * step])
            else:
                inputs[spec.name] = value
        return inputs

    def _varies(self, spec: TensorSpec) -> bool:
        return spec.is_batched or (not self.is_batched and bool(spec.shape))

    @staticmethod
    def _step(spec: TensorSpec) -> int:
        return 1 if spec.is_batched else max(spec.shape[0], 1)


def rows_for(bundle: Bundle, specs: Sequence[TensorSpec], seed: int) -> Rows:
    """The bundle's samples, or random rows that fit `specs`; `BundleError` when the samples are damaged."""
    samples = bundle.samples()
    if samples is not None and len(samples):
        return Rows(tuple(specs), samples.inputs, samples.outputs, samples.labels, is_random=False)
    return random_rows(specs, declared_ranges(bundle.manifest), seed)


def declared_ranges(manifest: Manifest | None) -> dict[str, tuple[float, float]]:
    """The range of every input whose range the manifest tells."""
    return {t.name: t.range for t in manifest.inputs if t.range is not None} if manifest is not None else {}


def random_rows(specs: Sequence[TensorSpec], ranges: Mapping[str, tuple[float, float]], seed: int) -> Rows:
    """Seeded rows within the declared ranges (undeclared: 0 to 1); free dimensions other than the batch are 1."""
    generator = np.random.default_rng(seed)
    calls = 1 if any(spec.is_batched for spec in specs) else min(map(_calls_that_fit, specs), default=1)
    inputs = {spec.name: _random(spec, ranges.get(spec.name, (0.0, 1.0)), generator, calls) for spec in specs}
    return Rows(tuple(specs), inputs, {}, None, is_random=True)


def _calls_that_fit(spec: TensorSpec) -> int:
    size = math.prod(max(n, 1) for n in spec.shape) * max(spec.dtype.itemsize, 1)
    return max(1, min(RANDOM_CALLS, MAX_RANDOM_BYTES // size))


def _random(spec: TensorSpec, bounds: tuple[float, float], generator: np.random.Generator, calls: int) -> Array:
    shape = [max(n, 1) for n in spec.shape]
    if spec.is_batched:
        shape[0] = RANDOM_ROWS
    elif shape:
        shape[0] *= calls
    if spec.datatype == "BYTES":
        digits = np.empty(shape, dtype=np.object_)
        digits.reshape(-1)[:] = [b"%d" % n for n in generator.integers(0, 10, digits.size)]
        return digits
    dtype = spec.dtype
    if dtype.kind == "b":
        return generator.integers(0, 2, shape).astype(dtype)
    low, high = bounds
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        low, high = max(int(low), info.min), min(int(high), info.max)
        return generator.integers(
            low, high, shape, endpoint=True, dtype=np.int64 if high <= 2**63 - 1 else np.uint64
        ).astype(dtype)
    return generator.uniform(low, high, shape).astype(dtype)
