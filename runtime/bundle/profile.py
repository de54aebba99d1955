"""The reference profile: how a model's inputs and outputs are spread over its samples, the baseline for drift.

Pure: arrays in, a small value out that is JSON-able. Comparing a live window with it is not done here.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from runtime.bundle.manifest import ModelDescription, Part, Task, Tensor
from runtime.bundle.samples import Samples
from runtime.tensors import Array, as_bytes_tensor

# Two tests of drift in common use (population stability index, Jensen-Shannon distance) take ten to a few tens of bins.
BINS = 32
# Rows of probabilities sum to 1; an int8 soft max with a step of 1/256 misses it by up to half a step a class.
_SUM_TOLERANCE = 0.05

Numbers = npt.NDArray[np.float64]


class Histogram(Part):
    """Counts in bins: `counts[i]` values lie in `[edges[i], edges[i + 1])`, the last bin holds its end too."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    below: int
    above: int


class TensorProfile(Part):
    """All values of one tensor, whatever their place."""

    datatype: str
    of: Literal["values", "lengths_bytes"]
    """BYTES tensors are profiled by the length of each element."""
    count: int
    """Finite values; those that are NaN or infinite stand in `not_finite` alone."""
    not_finite: int
    min: float | None
    max: float | None
    mean: float | None
    std: float | None
    histogram: Histogram | None


class ClassProfile(Part):
    """The answers of a classifier: which classes, how sure of them."""

    scores: Literal["probabilities", "logits"]
    """Logits were put through a soft max before `confidence` and the entropy were taken."""
    counts: tuple[int, ...]
    """Rows whose largest score is the class, by class."""
    confidence: Histogram
    """Of the largest probability of a row."""
    mean_entropy_nats: float


class FeatureReference(Part):
    """How one feature of the rows lay: what later rows are compared with, made by `runtime.monitoring.reference`.

    Numbers: `counts[i]` of them in `[edges[i - 1], edges[i])`, the first and the last bin open to the outside. Categories:
    one count for each of `categories`, then one for all others that were known, then one for those never seen.
    """

    tensor: str
    role: Literal["input", "output"]
    take: str
    """What of the tensor it is: "column:3", "mean", "class", ... (`runtime.monitoring.layout`)."""
    kind: Literal["number", "category"]
    rows: int = Field(ge=0)
    missing: int = Field(ge=0)
    not_finite: int = Field(ge=0)
    out_of_schema: int = Field(ge=0)
    low: float | None = None
    """Declared bounds; what lies beyond them is out of schema."""
    high: float | None = None
    edges: tuple[float, ...] = Field(default=(), max_length=64)
    categories: tuple[str, ...] = Field(default=(), max_length=64)
    known: tuple[str, ...] = Field(default=(), max_length=256)
    """Categories seen that are too rare for a bin of their own."""
    is_open: bool = False
    """So many distinct values that an unseen one says nothing."""
    counts: tuple[int, ...] = Field(max_length=66)
    mean: float | None = None
    std: float | None = None
    deciles: tuple[float, ...] = Field(default=(), max_length=11)
    """Least, the nine tenths, greatest; empty where no finite number was seen."""


class Profile(Part):
    """What `profile.json` says."""

    schema_version: Literal[1] = 1
    rows: int
    inputs: dict[str, TensorProfile]
    outputs: dict[str, TensorProfile]
    classes: dict[str, ClassProfile]
    """By the name of the output [row, class]; empty when the task is not classification."""
    features: dict[str, FeatureReference] = Field(default_factory=dict)
    """By feature, such as "x[3]" or "image.mean"; absent in profiles of older versions: then the samples say it."""


def reference_profile(model: ModelDescription, samples: Samples) -> Profile:
    """The profile of `samples`; bins span a tensor's declared range, or what was seen where none is declared."""
    outputs = [t for t in model.outputs if t.name in samples.outputs]
    scored = [t for t in outputs if model.task is Task.CLASSIFICATION and _is_score(samples.outputs[t.name])]
    return Profile(
        rows=len(samples),
        inputs={t.name: profile_tensor(t, samples.inputs[t.name]) for t in model.inputs},
        outputs={t.name: profile_tensor(t, samples.outputs[t.name]) for t in outputs},
        classes={t.name: profile_classes(samples.outputs[t.name]) for t in scored},
    )


def profile_tensor(tensor: Tensor, value: Array) -> TensorProfile:
    """The profile of one tensor's values, in float64."""
    of: Literal["values", "lengths_bytes"] = "values"
    if tensor.datatype == "BYTES":
        of = "lengths_bytes"
        numbers = np.array([len(item) for item in as_bytes_tensor(value).reshape(-1)], np.float64)
    else:
        numbers = value.reshape(-1).astype(np.float64)
    finite = numbers[np.isfinite(numbers)]
    seen = len(finite) > 0
    low, high = (float(finite.min()), float(finite.max())) if seen else (None, None)
    bounds = tensor.range or ((low, high) if low is not None and high is not None else None)
    return TensorProfile(
        datatype=tensor.datatype,
        of=of,
        count=len(finite),
        not_finite=len(numbers) - len(finite),
        min=low,
        max=high,
        mean=float(finite.mean()) if seen else None,
        std=float(finite.std()) if seen else None,
        histogram=None if bounds is None else histogram(finite, bin_edges(*bounds)),
    )


def profile_classes(scores: Array) -> ClassProfile:
    """The profile of a classifier's `scores` [row, class], probabilities or logits."""
    values = scores.astype(np.float64)
    is_probability = bool(np.all(values >= 0) and np.all(np.abs(values.sum(axis=1) - 1) <= _SUM_TOLERANCE))
    chances = values if is_probability else _soft_max(values)
    logs = np.log(chances, out=np.zeros_like(chances), where=chances > 0)
    return ClassProfile(
        scores="probabilities" if is_probability else "logits",
        counts=tuple(np.bincount(values.argmax(axis=1), minlength=values.shape[1]).tolist()),
        confidence=histogram(chances.max(axis=1), bin_edges(0.0, 1.0)),
        mean_entropy_nats=float(-(chances * logs).sum(axis=1).mean()),
    )


def bin_edges(low: float, high: float) -> Numbers:
    """`BINS` bins of equal width over low..high; half a unit to each side where both are the same."""
    if low == high:
        low, high = low - 0.5, high + 0.5
    return np.linspace(low, high, BINS + 1)


def histogram(numbers: Numbers, edges: Numbers) -> Histogram:
    """Counts of `numbers` between `edges`, so that a later window can be counted in the same bins."""
    counts, _ = np.histogram(numbers, edges)
    return Histogram(
        edges=tuple(edges.tolist()),
        counts=tuple(counts.tolist()),
        below=int(np.count_nonzero(numbers < edges[0])),
        above=int(np.count_nonzero(numbers > edges[-1])),
    )


def _is_score(value: Array) -> bool:
    return value.ndim == 2 and value.shape[1] > 1 and value.dtype.kind == "f" and bool(np.isfinite(value).all())


def _soft_max(logits: Numbers) -> Numbers:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    result: Numbers = powers / powers.sum(axis=1, keepdims=True)
    return result
