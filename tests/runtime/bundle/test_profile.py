"""The reference profile against numbers worked out by hand or by scipy-free formulas."""

import json
import math

import numpy as np
import pytest

from runtime.bundle.manifest import ModelDescription, Task, Tensor
from runtime.bundle.profile import (
    BINS,
    Profile,
    bin_edges,
    histogram,
    profile_classes,
    profile_tensor,
    reference_profile,
)
from runtime.bundle.samples import Samples
from runtime.tensors import Array


def _tensor(datatype: str = "FP32", bounds: tuple[float, float] | None = None) -> Tensor:
    return Tensor(name="t", datatype=datatype, shape=(-1, 2), range=bounds)


def test_moments_and_bins() -> None:
    profile = profile_tensor(_tensor(bounds=(0.0, 32.0)), np.array([[0, 1.5], [32, 2.5]], np.float32))
    assert (profile.count, profile.not_finite, profile.min, profile.max, profile.mean) == (4, 0, 0.0, 32.0, 9.0)
    assert profile.std == pytest.approx(math.sqrt((81 + 56.25 + 529 + 42.25) / 4), rel=1e-12)
    assert profile.histogram is not None
    assert profile.histogram.edges == tuple(float(i) for i in range(33))
    assert profile.histogram.counts == (1, 1, 1, *[0] * 28, 1)


def test_values_outside_the_declared_range_are_counted_apart() -> None:
    profile = profile_tensor(_tensor(bounds=(0.0, 1.0)), np.array([[-1, 0.5], [2, 3]], np.float32))
    assert profile.histogram is not None
    assert (profile.histogram.below, sum(profile.histogram.counts), profile.histogram.above) == (1, 1, 2)


def test_without_a_range_the_bins_span_what_was_seen() -> None:
    profile = profile_tensor(_tensor("INT64"), np.array([[5, -3], [0, 1]]))
    assert profile.histogram is not None
    assert (len(profile.histogram.edges), profile.histogram.edges[0], profile.histogram.edges[-1]) == (BINS + 1, -3, 5)
    assert sum(profile.histogram.counts) == 4


def test_a_constant_has_bins_too() -> None:
    profile = profile_tensor(_tensor(), np.full((3, 2), 7, np.float32))
    assert profile.std == 0
    assert profile.histogram is not None
    assert (profile.histogram.edges[0], profile.histogram.edges[-1]) == (6.5, 7.5)
    assert sum(profile.histogram.counts) == 6


def test_nan_and_infinity_stand_apart() -> None:
    profile = profile_tensor(_tensor(), np.array([[1, np.nan], [np.inf, 3]], np.float32))
    assert (profile.count, profile.not_finite, profile.mean) == (2, 2, 2.0)
    nothing = profile_tensor(_tensor(), np.full((1, 2), np.nan, np.float32))
    assert (nothing.count, nothing.min, nothing.std, nothing.histogram) == (0, None, None, None)


def test_bytes_are_profiled_by_length_and_flags_as_nought_and_one() -> None:
    words = profile_tensor(_tensor("BYTES"), np.array([[b"", b"four"], [b"ab", "ü".encode()]], object))
    assert (words.of, words.min, words.max, words.mean) == ("lengths_bytes", 0.0, 4.0, 2.0)
    assert profile_tensor(_tensor("BOOL"), np.array([[True, False]])).mean == 0.5


def test_answers_of_a_classifier() -> None:
    profile = profile_classes(np.array([[1, 0, 0], [0.5, 0.25, 0.25], [0, 0, 1]], np.float32))
    assert profile.scores == "probabilities"
    assert profile.counts == (2, 0, 1)
    assert profile.mean_entropy_nats == pytest.approx(1.5 * math.log(2) / 3, rel=1e-12)
    assert profile.confidence.counts[16] == 1
    assert profile.confidence.counts[-1] == 2


def test_logits_go_through_a_soft_max() -> None:
    logits = np.array([[1000.0, 1000.0], [0.0, math.log(3)]], np.float64)
    profile = profile_classes(logits)
    assert profile.scores == "logits"
    entropy = (math.log(2) - 0.25 * math.log(0.25) - 0.75 * math.log(0.75)) / 2
    assert profile.mean_entropy_nats == pytest.approx(entropy, rel=1e-12)


def test_rounded_int8_probabilities_are_probabilities() -> None:
    assert profile_classes(np.round(np.full((1, 10), 0.1) * 256) / 256).scores == "probabilities"


def _model(task: Task) -> ModelDescription:
    return ModelDescription(
        name="m", version=1, task=task, inputs=(_tensor(),), outputs=(Tensor(name="y", datatype="FP32", shape=(-1, 2)),)
    )


@pytest.mark.parametrize(
    ("task", "output", "classes"),
    [
        (Task.CLASSIFICATION, np.eye(2, dtype=np.float32), {"y"}),
        (Task.REGRESSION, np.eye(2, dtype=np.float32), set()),
        (Task.CLASSIFICATION, np.full((2, 2), np.nan, np.float32), set()),
        (Task.CLASSIFICATION, np.array([3, 4]), set()),
    ],
)
def test_only_scores_of_a_classifier_have_classes(task: Task, output: Array, classes: set[str]) -> None:
    profile = reference_profile(_model(task), Samples({"t": np.ones((2, 2), np.float32)}, {"y": output}, None))
    assert set(profile.classes) == classes
    assert profile.rows == 2


def test_it_is_json_and_back_and_small() -> None:
    rng = np.random.default_rng(3)
    samples = Samples({"t": rng.random((1000, 2), np.float32)}, {"y": rng.random((1000, 2), np.float32)}, None)
    profile = reference_profile(_model(Task.CLASSIFICATION), samples)
    text = json.dumps(profile.model_dump(mode="json"), allow_nan=False)
    assert Profile.model_validate_json(text) == profile
    assert len(text) < 10_000


def test_a_later_window_is_counted_in_the_same_bins() -> None:
    edges = bin_edges(0.0, 1.0)
    window = histogram(np.array([-0.1, 0.0, 0.99, 1.0, 1.1]), edges)
    assert (window.below, window.counts[0], window.counts[-1], window.above) == (1, 1, 2, 1)
