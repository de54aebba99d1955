"""Answers side by side, and signatures."""

import numpy as np
import pytest
from scipy.spatial.distance import braycurtis

from cloud_gateway.release.comparison import compare
from cloud_gateway.release.signature import differences
from runtime.bundle.manifest import Task
from runtime.tensors import TensorSpec


def scores(*rows: list[float]) -> dict[str, np.ndarray]:
    return {"scores": np.array(rows, np.float32)}


def test_a_classifier_agrees_when_its_classes_are_the_same() -> None:
    stable = scores([0.9, 0.1], [0.2, 0.8])
    close = compare(Task.CLASSIFICATION, ["scores"], stable, scores([0.6, 0.4], [0.1, 0.9]))
    assert close is not None
    assert close.agrees
    assert close.classes == ()
    far = compare(Task.CLASSIFICATION, ["scores"], stable, scores([0.9, 0.1], [0.7, 0.3]))
    assert far is not None
    assert not far.agrees
    assert far.classes == ((1, 0),)


def test_the_distance_is_bray_and_curtis() -> None:
    generator = np.random.default_rng(3)
    for _ in range(20):
        a, b = generator.normal(size=(2, 5, 7))
        found = compare(Task.REGRESSION, ["y"], {"y": a}, {"y": b})
        assert found is not None
        # The oracle divides by |a + b|; of magnitudes it is the same thing.
        expected = np.abs(a - b).sum() / (np.abs(a) + np.abs(b)).sum()
        assert found.distance == pytest.approx(expected, abs=1e-12)
        positive = compare(Task.REGRESSION, ["y"], {"y": np.abs(a)}, {"y": np.abs(b)})
        assert positive is not None
        assert positive.distance == pytest.approx(braycurtis(np.abs(a).ravel(), np.abs(b).ravel()), abs=1e-12)
    p, q = np.array([[0.7, 0.3]]), np.array([[0.4, 0.6]])
    found = compare(Task.REGRESSION, ["y"], {"y": p}, {"y": q})
    assert found is not None
    assert found.distance == pytest.approx(0.3)


def test_tasks_without_classes_agree_within_tolerances() -> None:
    y = np.array([[100.0], [200.0]])
    for task in (Task.REGRESSION, Task.GENERIC):
        near, off = (compare(task, ["y"], {"y": y}, {"y": y * factor}) for factor in (1.005, 1.2))
        assert near is not None
        assert near.agrees
        assert off is not None
        assert not off.agrees
        assert 0 < off.distance < 1


def test_other_shapes_and_new_nans_are_as_far_as_can_be() -> None:
    y = np.ones((2, 2))
    nan = np.array([[1.0, np.nan], [1.0, 1.0]])
    for other in (np.ones((2, 3)), nan):
        found = compare(Task.GENERIC, ["y"], {"y": y}, {"y": other})
        assert found is not None
        assert (found.agrees, found.distance) == (False, 1.0)
    same = compare(Task.GENERIC, ["y"], {"y": nan}, {"y": nan})
    assert same is not None
    assert same.agrees
    assert same.distance == 0.0
    assert compare(Task.GENERIC, ["y"], {"x": y}, {"y": y}) is None


def test_words_and_numbers_differ_by_share() -> None:
    a = np.array([b"x", b"y", b"z", b"z"], np.object_)
    b = np.array([b"x", b"y", b"z", b"w"], np.object_)
    found = compare(Task.GENERIC, ["y"], {"y": a}, {"y": b})
    assert found is not None
    assert found.distance == 0.25


X = TensorSpec("x", "FP32", (-1, 4))
Y = TensorSpec("y", "FP32", (-1, 3))
Z = TensorSpec("z", "INT64", (-1,))


def test_the_same_signature_has_no_differences() -> None:
    assert differences(([X, Z], [Y]), ([X, Z], [Y])) == []


@pytest.mark.parametrize(
    ("candidate", "expected"),
    [
        (([X], [Y]), "input 'z' (INT64 [-1]) is missing"),
        (([X, Z], [Y, Z]), "output 'z' (INT64 [-1]) is new"),
        (([TensorSpec("x", "FP64", (-1, 4)), Z], [Y]), "input 'x' is FP64 [-1, 4], stable's is FP32 [-1, 4]"),
        (([X, Z], [TensorSpec("y", "FP32", (-1, 5))]), "output 'y' is FP32 [-1, 5], stable's is FP32 [-1, 3]"),
        (([Z, X], [Y]), "inputs stand in another order: ['z', 'x'], stable's: ['x', 'z']"),
    ],
)
def test_differences_in_words(candidate: tuple[list[TensorSpec], list[TensorSpec]], expected: str) -> None:
    assert differences(([X, Z], [Y]), candidate) == [expected]
